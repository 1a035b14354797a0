//! The simulation, run as people run it.

#[path = "dyno/faults.rs"]
mod faults;
#[path = "dyno/harness.rs"]
mod harness;
#[path = "dyno/heroku_local.rs"]
mod heroku_local;
#[path = "dyno/platform.rs"]
mod platform;
#[path = "dyno/script.rs"]
mod script;
#[path = "dyno/simulate.rs"]
mod simulate;
