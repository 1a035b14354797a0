//! The recorder: chunks become lines, lines become frames, frames are appended to the spool.
//!
//! It is the single writer of the spool. A chunk that could not be recorded is a *gap*: the lines in it are
//! dropped whole, counted, and announced at the place where they are missing.

pub(crate) mod buffer_pool;
mod frame_writer;
pub(crate) mod input;
mod recorder;
mod thread;
mod wakeups;

pub(crate) use buffer_pool::{Buffer, BufferPool};
pub(crate) use input::{Gap, Input};
pub(crate) use recorder::{FrameFormat, Recorder, RecorderWarning};
pub(crate) use thread::RecorderThread;
pub(crate) use thread::report_warnings;
pub(crate) use wakeups::{Wake, Wakeups};
