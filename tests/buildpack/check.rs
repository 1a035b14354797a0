//! The build checks the settings with the program that it installs, and never fails for them.

use crate::release;
use crate::workspace::{ScriptOutput, Workspace};
use std::fs;
use tailrace_drain::{Drain, Options};

/// Builds on both platforms.
const BUILDS: [fn(&Workspace) -> ScriptOutput; 2] = [Workspace::compile, Workspace::build];

fn workspace() -> Workspace {
    Workspace::new().procfile("web: x\n")
}

#[test]
fn wrong_settings_are_printed_and_the_build_succeeds() {
    for build in BUILDS {
        let workspace = workspace()
            .config_var("TAILRACE_STOP_GRACE", "soon")
            .config_var("TAILRACE_DRAIN_ULR", "https://127.0.0.1:1/LOCAL-SECRET");
        build(&workspace).succeeds().prints(&[
            " !     config vars of tailrace need a correction (heroku run tailrace check shows all settings):\n",
            "TAILRACE_STOP_GRACE: found \"soon\"",
            " !       warning: TAILRACE_DRAIN_ULR",
            "wrapped: web",
        ]);
        let workspace =
            self::workspace().config_var("TAILRACE_DRAIN_URL", "ftp://user:LOCAL-SECRET@127.0.0.1:1/");
        build(&workspace).succeeds().prints(&[" !       error: TAILRACE_DRAIN_URL"]);
    }
}

#[test]
fn good_settings_print_nothing() {
    let drain = Drain::start(Options::default()).unwrap();
    for build in BUILDS {
        let workspace = workspace()
            .file("ca.pem", fs::read(drain.ca_file()).unwrap())
            .config_var("TAILRACE_DRAIN_URL", &drain.url())
            .config_var("TAILRACE_CA_FILE", "/app/ca.pem");
        let output = build(&workspace).succeeds().without_warnings();
        assert!(!output.stdout.contains("cannot be reached"), "{output:?}");
        assert_eq!(drain.report().requests, 0, "no frame is sent");
    }
}

#[test]
fn a_drain_that_the_build_cannot_reach_is_a_note() {
    for build in BUILDS {
        // Another name of this machine, which is not taken for one inside of the dyno.
        let workspace = workspace().config_var("TAILRACE_DRAIN_URL", "https://0.0.0.0:1/LOCAL-SECRET");
        build(&workspace).succeeds().without_warnings().prints(&[
            "       drain 1: https://0.0.0.0:1/",
            " cannot be reached from this build: ",
            "connection refused\n",
            "heroku run tailrace check)\n",
        ]);
    }
}

#[test]
fn variables_of_the_build_itself_are_not_settings_of_the_dyno() {
    let workspace = workspace().build_var("TAILRACE_STOP_GRACE", "soon").build_var("TAILRACE_SOMETHING", "x");
    workspace.compile().succeeds().without_warnings();
}

#[test]
fn a_check_that_fails_does_not_fail_the_build() {
    let workspace = workspace();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || exec echo tailrace {}\nkill -9 $$\n",
        release::VERSION
    );
    let archive = workspace.pack_program(script.as_bytes());
    fs::remove_file(workspace.vendored_archive()).unwrap();
    fs::copy(&archive, workspace.vendored_archive()).unwrap();
    workspace.with_checksum_of(&archive).compile().succeeds().without_warnings().prints(&["wrapped: web"]);
}
