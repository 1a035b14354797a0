//! Settings from environment variables (config vars, the platform's convention). Pure: no file is read. All problems
//! are reported at once, and no text contains a secret.

mod config;
mod drain;
pub mod drain_url;
mod env;
mod nearest;
mod settings;
pub mod value;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use config::{Config, Tty};
pub use drain::DrainSettings;
pub(crate) use env::RESERVED_HEADERS;
pub use env::{Problem, ProblemKind};
pub use settings::{SETTINGS, Setting, help_text, markdown};
pub(crate) use value::show_bytes;
