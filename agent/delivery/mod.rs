//! Delivery, as the supervisor sees it: what the shipper may send, what came of it, and what a person must know.

mod coordinator;
mod disk_worker;
mod health;

pub use coordinator::{Clerk, Heard};
pub use health::{Mood, Moods, SILENCE};
