//! The supervisor's side of delivery: which ranges the shipper may send, what became of them, and alerts for people.

mod answers;
mod coordinator;
mod disk_worker;
mod health;

pub use coordinator::{Coordinator, Handled};
pub use health::{DrainHealth, HealthTracker, LastAnswer, Remaining, SILENCE_TIMEOUT};
