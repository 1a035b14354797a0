//! Signals: received as events, forwarded to the app when they were sent to the supervisor alone.

pub(crate) mod ancestry;
pub(crate) mod forward;
pub(crate) mod pending;
pub(crate) mod source;
