//! tailrace: an embedded log agent for Heroku dynos.

pub mod frame;
pub mod ledger;
pub mod line;
pub mod spool;
