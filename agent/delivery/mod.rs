//! The supervisor's side of delivery: which ranges the shipper may send, what became of them, and alerts for people.

mod answers;
mod coordinator;
mod disk_worker;
mod health;

pub(crate) use coordinator::Coordinator;
pub(crate) use health::{DrainHealth, LastAnswer, Remaining, SILENCE_TIMEOUT};
