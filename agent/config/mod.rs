//! Settings: environment variables, because config vars are this platform's convention. Pure: no file is read. All
//! problems are reported at once, and no text contains a secret.

mod config;
pub mod drain_url;
mod env;
mod settings;
pub mod value;

#[cfg(test)]
mod tests;

pub(crate) use config::BATCH;
pub use config::{Config, DrainSettings, Tty};
pub use env::Problem;
pub use settings::{SETTINGS, Setting, markdown, text};
pub(crate) use value::show_bytes;
