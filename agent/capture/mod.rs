//! Capture: the app's bytes in, byte-exact out, and a copy to the recorder.

pub mod passthrough;
pub mod pump;
pub mod stdin;
