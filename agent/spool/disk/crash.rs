//! The agent ends at a step of the disk: what was done is done, nothing else follows.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

/// A kill interrupts a write between pages (Linux, `generic_perform_write`).
const PAGE_BYTES: u64 = 4096;

thread_local! {
    /// The steps that this thread's agent still does, and of how many pages of a write then; none without a crash.
    static LEFT: Cell<Option<CrashAt>> = const { Cell::new(None) };
    /// The steps that it has done.
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// Where an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashAt {
    /// After so many steps.
    pub(crate) steps: u32,
    /// When the next one is a write: after so many pages of it, in percent.
    pub(crate) pages_percent: u8,
}

/// The step that was not done, or not completely. It is also the payload of the unwinding that stands for the kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A write to this file.
    Write(PathBuf),
    /// A file was to be renamed or removed.
    Remove,
    /// Any other.
    Other,
}

/// How the work of an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, after so many steps.
    Finished(u32),
    /// It was killed in this step.
    Crashed(Step),
}

/// Does the work of an agent on this thread, and ends it `at` a step. Nothing may catch panics within, and nothing may
/// change the disk when it is dropped.
pub(crate) fn run(at: Option<CrashAt>, work: impl FnOnce()) -> Ended {
    LEFT.set(at);
    DONE.set(0);
    let result = catch_unwind(AssertUnwindSafe(work));
    LEFT.set(None);
    match result {
        Ok(()) => Ended::Finished(DONE.get()),
        Err(payload) => match payload.downcast() {
            Ok(step) => Ended::Crashed(*step),
            Err(payload) => resume_unwind(payload),
        },
    }
}

/// Whether the agent ends instead of the next step; else that is done.
fn ends_here() -> Option<CrashAt> {
    let left = LEFT.get();
    if let Some(at) = left {
        if at.steps == 0 {
            return left;
        }
        LEFT.set(Some(CrashAt { steps: at.steps - 1, ..at }));
    }
    DONE.set(DONE.get() + 1);
    None
}

fn end(step: Step) -> ! {
    resume_unwind(Box::new(step))
}

pub(super) fn step() {
    if ends_here().is_some() {
        end(Step::Other);
    }
}

pub(super) fn step_of_removal() {
    if ends_here().is_some() {
        end(Step::Remove);
    }
}

pub(super) fn step_of_write(file: &File, bytes: &[u8], at: u64) {
    if let Some(CrashAt { pages_percent, .. }) = ends_here() {
        let end_at = at + bytes.len() as u64;
        let pages = (end_at.div_ceil(PAGE_BYTES) - at / PAGE_BYTES) * u64::from(pages_percent) / 100;
        let cut = ((at / PAGE_BYTES + pages) * PAGE_BYTES).clamp(at, end_at);
        file.write_all_at(&bytes[..(cut - at) as usize], at).expect("the disk of a test works");
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        end(Step::Write(path.expect("an open file")));
    }
}
