//! The buildpack: its real scripts in a scrubbed environment, as the platforms call them, and then the dyno.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "buildpack/dyno.rs"]
mod dyno;
#[path = "buildpack/release.rs"]
mod release;
#[path = "buildpack/site.rs"]
mod site;

#[path = "buildpack/classic.rs"]
mod classic;
#[path = "buildpack/grammar.rs"]
mod grammar;
#[path = "buildpack/launcher.rs"]
mod launcher;
#[path = "buildpack/native.rs"]
mod native;
#[path = "buildpack/package.rs"]
mod package;
#[path = "buildpack/profile.rs"]
mod profile;
#[path = "buildpack/source.rs"]
mod source;
#[path = "buildpack/start.rs"]
mod start;
