//! Status: what an agent answers to `tailrace status`.

mod snapshot;
mod socket;

pub(crate) use snapshot::{Elapsed, ShipperStatus, StatusSnapshot, StatusSources};
pub(crate) use socket::{NAME, SEPARATOR, StatusSocket};
