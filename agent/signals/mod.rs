//! Signals: received as events, forwarded to the app when they were sent to the supervisor alone.

pub mod ancestry;
pub mod forward;
pub mod pending;
pub mod source;
