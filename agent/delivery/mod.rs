//! Delivery, as the supervisor sees it: what the shipper may send, what came of it, and what a person must know.

mod answers;
mod coordinator;
mod disk_worker;
mod health;

pub use coordinator::{Coordinator, Handled};
pub use health::{DrainHealth, HealthTracker, SILENCE};
