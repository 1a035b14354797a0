//! The buildpack: its scripts, run with the environment of the platforms; then the dyno of the built app.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "buildpack/dyno.rs"]
mod dyno;
#[path = "buildpack/file_server.rs"]
mod file_server;
#[path = "buildpack/release.rs"]
mod release;
#[path = "threads.rs"]
mod threads;
#[path = "buildpack/workspace.rs"]
mod workspace;

#[path = "buildpack/binary.rs"]
mod binary;
#[path = "buildpack/check.rs"]
mod check;
#[path = "buildpack/classic.rs"]
mod classic;
#[path = "buildpack/cloud_native.rs"]
mod cloud_native;
#[path = "buildpack/docs.rs"]
mod docs;
#[path = "buildpack/launcher.rs"]
mod launcher;
#[path = "buildpack/package.rs"]
mod package;
#[path = "buildpack/procfile.rs"]
mod procfile;
#[path = "buildpack/profile.rs"]
mod profile;
#[path = "buildpack/release_workflow.rs"]
mod release_workflow;
#[path = "buildpack/sources.rs"]
mod sources;
#[path = "buildpack/start.rs"]
mod start;
