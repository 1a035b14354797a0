//! The recorder: chunks become lines, lines become frames, frames are appended to the spool.
//!
//! It is the single writer of the spool. A chunk that could not be recorded is a *gap*: the lines in it are
//! dropped whole, counted, and announced at the place where they are missing.

pub mod buffer_pool;
mod frame_writer;
pub mod input;
mod recorder;
mod thread;
mod wakeups;

pub use buffer_pool::{Buffer, BufferPool};
pub use input::{Gap, Input};
pub use recorder::{FrameFormat, Recorder, RecorderWarning};
pub use thread::RecorderThread;
pub(crate) use thread::report_warnings;
pub use wakeups::{Wake, Wakeups};
