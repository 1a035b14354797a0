//! tailrace: an embedded log agent for Heroku dynos.

pub mod control;
pub mod drain;
pub mod frame;
pub mod ledger;
pub mod line;
pub mod notice;
pub mod recorder;
pub mod say;
pub mod spool;
