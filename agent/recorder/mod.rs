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

pub use buffer_pool::{Buffer, Pool};
pub use input::{Gap, Input};
pub use recorder::{Look, Recorder, Trouble};
pub use thread::Scribe;
pub(crate) use thread::complain;
pub use wakeups::Pacer;
