//! Capture: the app's bytes in, byte-exact out, and a copy to the recorder.

pub(crate) mod passthrough;
pub(crate) mod pump;
pub(crate) mod stdin;
