//! The release: what `buildpack/package --check` says, the tag that carries the archives, and the steps of the workflow.

use crate::release::{self, TRIPLE, VERSION, repository};
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use yaml_rust2::{Yaml, YamlLoader};

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap()
}

/// Runs git; returns its standard output.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
    let output = run(directory, "git", &[&identity, arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A clone as it is before a release, with a bare repository that it came from, and the output of `buildpack/package`.
fn clone() -> Workspace {
    let workspace = Workspace::without_archive().procfile("web: x\n");
    let root = workspace.buildpack();
    for name in ["Cargo.toml", "CHANGELOG.md", "README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(repository().join(name), root.join(name)).unwrap();
    }
    fs::write(workspace.checksums(), "# none\n").unwrap();
    git(&root, &["init", "--quiet"]);
    git(&root, &["add", "--all"]);
    git(&root, &["commit", "--quiet", "--message", "x"]);
    git(&root, &["clone", "--quiet", "--bare", ".", "../origin.git"]);
    git(&root, &["remote", "add", "origin", "../origin.git"]);
    let buildpack = format!("tailrace-buildpack-{VERSION}.tgz");
    for (name, file) in [
        ("package", "SHA256SUMS"),
        ("package", &release::archive_name(TRIPLE)),
        ("package", &buildpack),
        ("package-checksums", "checksums"),
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::copy(release::directory().join(file), root.join(name).join(file)).unwrap();
    }
    workspace
}

#[test]
fn the_check_lists_what_a_release_contains_and_what_is_missing() {
    let output = run(repository(), "buildpack/package", &["--check", "release-9.9.9"]);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    let expected = format!(" !     the tag is release-9.9.9, expected release-{VERSION}, as in Cargo.toml\n");
    assert!(stderr.contains(&expected) && stderr.ends_with(" !     not ready: see above\n"), "{stderr}");
    let archive = release::directory().join(format!("tailrace-buildpack-{VERSION}.tgz"));
    let listed = run(repository(), "tar", &["--list", "--file", archive.to_str().unwrap()]).stdout;
    for file in String::from_utf8(listed).unwrap().lines().filter(|file| !file.ends_with('/')) {
        let is_listed = stdout.contains(&format!("    {file}\n")) || file.starts_with("buildpack/vendor/");
        assert!(is_listed, "{file}: {stdout}");
    }
    for text in ["SHA256SUMS", ".cdx.json", "aarch64-unknown-linux-musl.tar.gz: ", "buildpack/vendor: both"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
}

#[test]
fn the_tag_of_a_release_installs_without_a_download() {
    let workspace = clone();
    let root = workspace.buildpack();
    let head = git(&root, &["rev-parse", "HEAD"]);
    let arguments = ["package", "package-checksums/checksums"];
    let output = run(&root, "buildpack/tag", &arguments);
    assert!(output.status.success(), "{output:?}");
    let unchanged = (git(&root, &["rev-parse", "HEAD"]), git(&root, &["status", "--porcelain", "buildpack"]));
    assert_eq!(unchanged, (head.clone(), String::new()));
    let tag = format!("v{VERSION}");
    let commit = git(&root, &["rev-parse", &tag]);
    assert_eq!(git(&root, &["rev-parse", &format!("{tag}^")]), head);

    let output = run(&root, "buildpack/tag", &arguments);
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists already"), "{output:?}");
    git(&root, &["tag", "--delete", &tag]);
    run(&root, "buildpack/tag", &arguments);
    assert_eq!(git(&root, &["rev-parse", &tag]), commit, "the same release is the same commit");

    git(&root, &["checkout", "--quiet", &tag]);
    workspace.compile().succeeds().without_warnings().prints(&["binary: vendored, "]);
}

#[test]
fn an_archive_that_the_checksums_do_not_have_is_not_tagged() {
    let workspace = clone();
    let root = workspace.buildpack();
    fs::write(root.join("package").join(release::archive_name(TRIPLE)), "x").unwrap();
    let output = run(&root, "buildpack/tag", &["package", "package-checksums/checksums"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected the SHA-256 of "), "{output:?}");
    let output = run(&root, "buildpack/tag", &["nothing"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("run buildpack/package first"), "{output:?}");
    assert_eq!(git(&root, &["tag"]), "");
}

/// Names and scripts of the steps of a workflow, in their order.
fn steps(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join(".github/workflows").join(name)).unwrap();
    let workflow = YamlLoader::load_from_str(&text).unwrap().remove(0);
    let jobs = workflow["jobs"].as_hash().unwrap().values();
    let steps = jobs.filter_map(|job| job["steps"].as_vec()).flatten();
    let scripts = steps.filter(|step| step["run"] != Yaml::BadValue);
    let text = |value: &Yaml| value.as_str().unwrap().to_owned();
    scripts.map(|step| (text(&step["name"]), text(&step["run"]))).collect()
}

#[test]
fn a_release_is_built_with_the_toolchain_of_a_build_from_git() {
    let toolchain = fs::read_to_string(repository().join("buildpack/toolchain")).unwrap();
    let rust = toolchain.lines().find_map(|line| line.strip_prefix("rust ")).unwrap();
    let workflow = fs::read_to_string(repository().join(".github/workflows/release.yml")).unwrap();
    assert!(workflow.contains(&format!("RUSTUP_TOOLCHAIN: {rust} ")), "{rust}");
    let image = rust.rsplit_once('.').unwrap().0;
    assert!(workflow.contains(&format!("container: rust:{image}-")), "{image}");
}

#[test]
fn scripts_of_the_workflows_are_valid() {
    for name in ["release.yml", "test.yml"] {
        for (step, script) in steps(name) {
            let script = script.replace("${{ ", "\"").replace(" }}", "\"");
            let output = run(repository(), "sh", &["-n", "-c", &script]);
            assert!(output.status.success(), "{name}: {step}: {output:?}");
        }
    }
}

#[test]
fn the_steps_of_the_release_workflow_make_tag_and_release() {
    let workspace = clone();
    let root = workspace.buildpack();
    // The release before this one.
    fs::write(workspace.checksums(), "0.0.9 x 11\n").unwrap();
    git(&root, &["commit", "--quiet", "--all", "--message", "old"]);
    git(&root, &["tag", "v0.0.9"]);
    git(&root, &["reset", "--quiet", "--hard", "HEAD^"]);
    let log = workspace.path("gh.log");
    let programs = workspace.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("gh"), "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$GH_LOG\"\n").unwrap();
    fs::set_permissions(programs.join("gh"), fs::Permissions::from_mode(0o755)).unwrap();
    let changelog =
        format!("# Changelog\n\n## {VERSION} (2026-01-01)\n\n- new\n\n## 0.0.9 (2025-01-01)\n\n- old\n");
    fs::write(root.join("CHANGELOG.md"), changelog).unwrap();

    let mut names = Vec::new();
    for (name, script) in steps("release.yml") {
        // These need the compilers for both machines.
        if ["Install compilers", "Check what is released", "Package"].contains(&name.as_str()) {
            continue;
        }
        let output = Command::new("sh")
            .args(["-e", "-c", &script])
            .current_dir(&root)
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()))
            .envs([("GITHUB_REF_NAME", format!("release-{VERSION}")), ("GH_LOG", log.display().to_string())])
            .envs([("GITHUB_SERVER_URL", "https://github.com"), ("GITHUB_REPOSITORY", "OWNER/tailrace")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        names.push(name);
    }
    assert_eq!(
        names,
        ["Keep the checksums of earlier releases", "Verify the checksums", "Make the tag", "Publish"]
    );
    let mirror = "0.0.9 x 11\nmirror https://github.com/OWNER/tailrace/releases/download/v{version}\n";
    assert_eq!(fs::read_to_string(workspace.checksums()).unwrap(), mirror);
    let origin = workspace.path("origin.git");
    let files = git(&origin, &["ls-tree", "-r", "--name-only", &format!("v{VERSION}"), "buildpack/vendor"]);
    assert_eq!(files, format!("buildpack/vendor/{}", release::archive_name(TRIPLE)));
    let published = fs::read_to_string(log).unwrap();
    assert!(published.starts_with(&format!("release\ncreate\nv{VERSION}\n--verify-tag\n")), "{published}");
    assert!(published.contains("package/SHA256SUMS\n"), "{published}");
    assert_eq!(fs::read_to_string(root.join("notes.md")).unwrap(), "\n- new\n\n");
}
