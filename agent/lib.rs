//! tailrace: an embedded log agent for Heroku dynos.

pub mod canary;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod drain;
pub mod frame;
pub mod keeper;
pub mod ledger;
pub mod lifecycle;
pub mod line;
pub mod notice;
pub mod own;
pub mod procfile;
pub mod recorder;
pub mod sample;
pub mod say;
pub mod ship;
pub mod shipper;
pub mod spool;
pub mod status;
