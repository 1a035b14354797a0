//! What the tests and the benchmark of the test drain's page share: a browser, and a scripted history with the values that
//! the page has to show for it.

#![allow(clippy::missing_panics_doc, reason = "a helper of tests panics where what it needs is missing")]

pub mod browser;
pub mod client;
pub mod expected;
pub mod script;
