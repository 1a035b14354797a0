//! The subcommands.

pub mod check;
pub mod ship;
pub mod status;
