//! tailrace: an embedded log agent for Heroku dynos.

pub mod capture;
pub mod cli;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod diag;
pub mod dyno;
pub mod exit_code;
pub mod frame;
pub mod ledger;
pub mod line;
pub(crate) mod poll;
pub(crate) mod procfs;
pub mod protocol;
pub mod recorder;
pub mod sample;
pub mod shipper;
pub mod signals;
pub mod spool;
pub mod status;
pub mod supervisor;
