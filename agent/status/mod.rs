//! The status socket: an agent tells whoever asks what it captured, delivered, holds and dropped.

mod socket;

pub use socket::{NAME, SEPARATOR, ShipperStatus, StatusSocket};
