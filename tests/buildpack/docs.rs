//! The documentation: its commands exist and do what it says.

use crate::release::{VERSION, repository};
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Commands of the Heroku CLI that the documentation and the messages of a build may name.
const HEROKU_COMMANDS: [&str; 15] = [
    "api",
    "buildpacks",
    "buildpacks:add",
    "buildpacks:remove",
    "buildpacks:set",
    "config",
    "config:set",
    "config:unset",
    "drains",
    "drains:add",
    "drains:remove",
    "labs:disable",
    "labs:enable",
    "releases",
    "releases:rollback",
];
/// Those whose last word is not a command of its own.
const HEROKU_TOPICS: [&str; 7] = ["ci", "local", "logs", "ps", "ps:exec", "run", "run:detached"];

/// README, the pages of the buildpack, and its library, with their names.
fn texts() -> Vec<(String, String)> {
    let root = repository();
    let listed = |name: &str| {
        let entries = fs::read_dir(root.join(name)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect::<Vec<PathBuf>>()
    };
    let files = [vec![root.join("README.md")], listed("buildpack/docs"), listed("buildpack/lib")].concat();
    files.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn commands_of_the_heroku_cli_exist() {
    let manifest = repository().join("target/heroku/node_modules/heroku/oclif.manifest.json");
    // `tests/run` installs the CLI.
    let existing: Option<BTreeSet<String>> = fs::read_to_string(manifest).ok().map(|text| {
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        manifest["commands"].as_object().unwrap().keys().cloned().collect()
    });
    let mut count = 0;
    for (name, text) in texts() {
        let words = text.split_whitespace().collect::<Vec<_>>();
        for pair in words.windows(2) {
            let is_command = |c: char| c.is_ascii_lowercase() || c == ':' || c == '-';
            let command = pair[1].split(|c| !is_command(c)).next().unwrap_or_default();
            // `heroku web.1` is a header of a frame.
            if pair[1].starts_with("web.")
                || !pair[0].trim_start_matches(['`', '(', '"']).eq("heroku")
                || command.is_empty()
            {
                continue;
            }
            count += 1;
            let command = command.trim_end_matches(':');
            assert!(
                HEROKU_COMMANDS.contains(&command) || HEROKU_TOPICS.contains(&command),
                "{name}: heroku {command}"
            );
            if let Some(existing) = &existing {
                assert!(command == "ci" || existing.contains(command), "{name}: heroku {command}");
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for (name, text) in texts().into_iter().filter(|(name, _)| name.contains(".md")) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = PathBuf::from(&name).parent().unwrap().join(file);
            let path = if file.is_empty() { PathBuf::from(&name) } else { path };
            assert!(path.exists(), "{name}: {link}");
            let is_heading = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                line.starts_with('#') && title.replace([',', ':', '`'], "").replace(' ', "-") == anchor
            };
            assert!(anchor.is_empty() || fs::read_to_string(path).unwrap().lines().any(is_heading), "{link}");
        }
    }
}

/// The lines of the README that add the buildpack.
fn commands_that_add_the_buildpack() -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    readme.lines().filter(|line| line.starts_with("heroku buildpacks:add ")).map(str::to_owned).collect()
}

#[test]
fn the_readme_adds_a_release_or_the_commit_of_a_clone() {
    let lines = commands_that_add_the_buildpack();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with(&format!("/tailrace#v{VERSION}")), "{lines:?}");

    let workspace = Workspace::without_archive();
    let git = |directory: &str, arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@example.com", "-C"])
            .arg(workspace.path(directory))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    git("the buildpack", &["init", "--quiet"]);
    git("the buildpack", &["add", "--all"]);
    git("the buildpack", &["commit", "--quiet", "--message", "x"]);
    git("", &["clone", "--quiet", "the buildpack", "tailrace"]);
    let script = format!("heroku() {{ printf '%s\\n' \"$@\"; }}\n{}", lines[1]);
    let mut command = Command::new("/bin/bash");
    let output = workspace.run(command.args(["-c", &script]), |command| {
        command.current_dir(workspace.app()).env_remove("GIT_DIR");
    });
    let head = git("the buildpack", &["rev-parse", "HEAD"]);
    let url = format!("{}#{head}", workspace.buildpack().display());
    assert_eq!(output.succeeds().stdout, format!("buildpacks:add\n--index\n1\n{url}\n"));
}
