//! The Cloud Native API: detect, build, layers, descriptor.

use crate::release::{VERSION, repository, sha256};
use crate::workspace::{Workspace, files};
use std::fs;
use std::path::Path;
use toml::Table;

const WEB: &str = "web: bundle exec puma\n";

fn table(path: &Path) -> Table {
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_descriptor_is_valid_for_lifecycle_and_registry() {
    let descriptor = table(&repository().join("buildpack.toml"));
    assert_eq!(descriptor["api"].as_str(), Some("0.10"));
    let buildpack = descriptor["buildpack"].as_table().unwrap();
    assert_eq!(
        (buildpack["version"].as_str(), buildpack["name"].as_str()),
        (Some(VERSION), Some("tailrace"))
    );
    assert!(buildpack["id"].as_str().unwrap().starts_with("tailrace/"));
    let formats = buildpack["sbom-formats"].as_array().unwrap();
    assert_eq!(formats[0].as_str(), Some("application/vnd.cyclonedx+json"));
    let targets = descriptor["targets"].as_array().unwrap();
    let targets: Vec<_> =
        targets.iter().map(|target| (target["os"].as_str(), target["arch"].as_str())).collect();
    assert_eq!(targets, [(Some("linux"), Some("amd64")), (Some("linux"), Some("arm64"))]);
    for name in descriptor["publish"]["Ignore"]["files"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        assert!(repository().join(name).exists(), "{name} does not exist");
        let needed = ["bin", "buildpack", "buildpack.toml", "LICENSE-APACHE", "LICENSE-MIT"];
        assert!(!needed.contains(&name) && !name.starts_with("buildpack/lib"), "{name} is needed");
    }
}

#[test]
fn detect_passes_without_a_build_plan() {
    let workspace = Workspace::new();
    let plan = workspace.path("plan.toml");
    let output = workspace.script("detect", |command| {
        command
            .current_dir(workspace.app())
            .env("CNB_BUILD_PLAN_PATH", &plan)
            .env("CNB_BUILDPACK_DIR", workspace.buildpack());
    });
    assert_eq!((output.status, plan.exists()), (0, false));
}

#[test]
fn build_makes_a_layer_and_wraps_the_procfile() {
    let workspace = Workspace::new().procfile("web: puma\nrelease: rake\n");
    workspace.build().succeeds().without_warnings().prints(&[
        "-----> tailrace ",
        "wrapped: web (",
        "not wrapped: release\n",
    ]);
    assert_eq!(workspace.procfile_text(), "web: .tailrace/bin/tailrace run --type web\nrelease: rake\n");
    assert_eq!(workspace.stored_command("web").as_deref(), Some("puma\n"));
    let app: Vec<_> = files(&workspace.app()).into_keys().collect();
    assert_eq!(
        app,
        [".tailrace/bin/tailrace", ".tailrace/types/web", "Procfile"],
        "no shell profile, no binary"
    );
    let layers: Vec<_> =
        files(&workspace.path("layers")).into_iter().map(|(name, (mode, _))| (name, mode)).collect();
    let expected = [
        ("agent.sbom.cdx.json", 0o644),
        ("agent.toml", 0o644),
        ("agent/bin/tailrace", 0o755),
        ("agent/bin/tailrace-agent", 0o755),
        ("download.toml", 0o644),
        ("download/installed", 0o644),
    ];
    assert_eq!(layers.iter().map(|(name, mode)| (name.as_str(), *mode)).collect::<Vec<_>>(), expected);
}

#[test]
fn layers_have_metadata_and_an_sbom() {
    let workspace = Workspace::new().procfile(WEB);
    workspace.build().succeeds();
    let agent = table(&workspace.path("layers/agent.toml"));
    let flags = |table: &Table, name: &str| table["types"][name].as_bool().unwrap();
    assert_eq!(["launch", "build", "cache"].map(|name| flags(&agent, name)), [true, false, false]);
    let digest = sha256(&workspace.path("layers/agent/bin/tailrace-agent"));
    assert_eq!(
        (agent["metadata"]["version"].as_str(), agent["metadata"]["sha256"].as_str()),
        (Some(VERSION), Some(digest.as_str()))
    );
    let download = table(&workspace.path("layers/download.toml"));
    assert_eq!(["launch", "build", "cache"].map(|name| flags(&download, name)), [false, false, true]);
    let sbom: serde_json::Value =
        serde_json::from_slice(&fs::read(workspace.path("layers/agent.sbom.cdx.json")).unwrap()).unwrap();
    assert_eq!((sbom["bomFormat"].as_str(), sbom["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let component = &sbom["components"][0];
    assert_eq!(
        (component["name"].as_str(), component["version"].as_str()),
        (Some("tailrace"), Some(VERSION))
    );
    assert_eq!(component["hashes"][0]["content"].as_str(), Some(digest.as_str()));
    assert_eq!(component["licenses"][0]["expression"].as_str(), Some("MIT OR Apache-2.0"));
}

#[test]
fn a_rebuild_uses_the_cached_archive() {
    let workspace = Workspace::without_archive().procfile(WEB);
    let mirror = workspace.path("mirror");
    fs::create_dir(&mirror).unwrap();
    let name = crate::release::archive_name(crate::release::TRIPLE);
    fs::copy(crate::release::archive(), mirror.join(&name)).unwrap();
    let workspace = workspace.config_var("TAILRACE_MIRROR", &format!("file://{}", mirror.display()));
    workspace.build().succeeds().without_warnings().prints(&["binary: downloaded, "]);
    assert!(workspace.path("layers/download").join(name).exists());
    fs::remove_dir_all(&mirror).unwrap();
    // As the lifecycle restores layers: a launch layer without its contents, and no flags.
    fs::remove_dir_all(workspace.path("layers/agent")).unwrap();
    fs::write(workspace.path("layers/agent.toml"), "").unwrap();
    fs::write(workspace.path("layers/download.toml"), "").unwrap();
    let workspace = workspace.procfile(WEB);
    workspace.build().succeeds().without_warnings().prints(&["binary: cached, "]);
    assert!(table(&workspace.path("layers/agent.toml"))["types"]["launch"].as_bool().unwrap());
}

#[test]
fn the_target_selects_the_archive() {
    for (target, triple) in [("amd64", "x86_64-unknown-linux-musl"), ("arm64", "aarch64-unknown-linux-musl")]
    {
        let workspace = Workspace::without_archive().procfile(WEB).build_var("CNB_TARGET_ARCH", target);
        fs::write(workspace.checksums(), format!("{VERSION} {triple} 00\n")).unwrap();
        workspace.build().fails_with("no-binary", &[&crate::release::archive_name(triple)]);
    }
    let workspace = Workspace::new().procfile(WEB).build_var("CNB_TARGET_ARCH", "s390x");
    workspace.build().fails_with("unknown-architecture", &["found:    s390x"]);
}

#[test]
fn build_warns_when_heroku_procfile_ran_before() {
    let workspace = Workspace::new().procfile(WEB);
    fs::create_dir_all(workspace.path("layers/heroku_procfile")).unwrap();
    fs::write(workspace.path("layers/heroku_procfile/launch.toml"), "").unwrap();
    let output = workspace.build_in("layers/tailrace_agent").succeeds().prints(&[
        " !     heroku/procfile ran before tailrace",
        "in project.toml put tailrace before heroku/procfile",
    ]);
    assert!(!output.stdout.contains("wrapped"), "{output:?}");
    assert_eq!(output.stderr.matches("nothing runs under tailrace").count(), 1, "{output:?}");
    assert_eq!(workspace.procfile_text(), WEB);
}

#[test]
fn the_text_of_a_build_speaks_of_an_image() {
    let workspace = Workspace::new().procfile(WEB);
    let output = workspace.build().succeeds().prints(&[" to the image\n"]);
    assert!(!output.stdout.contains("slug"), "{output:?}");
    let output = Workspace::without_archive().build().fails_with("no-binary", &[]);
    assert!(!output.stderr.contains("slug"), "{output:?}");
}

#[test]
fn the_project_descriptor_in_the_docs_is_valid() {
    let docs = fs::read_to_string(repository().join("buildpack/docs/platforms.md")).unwrap();
    let block = docs.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let project: Table = toml::from_str(block).unwrap();
    // Without it the old schema applies, which ignores `io.buildpacks` (buildpacks/spec, project-descriptor.md).
    assert_eq!(project["_"]["schema-version"].as_str(), Some("0.2"));
    let group = project["io"]["buildpacks"]["group"].as_array().unwrap();
    let at = |wanted: &str| {
        let names = |entry: &toml::Value| {
            ["id", "uri"].map(|key| entry.get(key).and_then(|v| v.as_str().map(str::to_owned)))
        };
        group
            .iter()
            .position(|entry| names(entry).iter().flatten().any(|name| name.contains(wanted)))
            .unwrap()
    };
    assert!(at("tailrace-buildpack-") < at("heroku/procfile"));
}

#[test]
fn build_without_a_layers_directory_is_a_usage_error() {
    let workspace = Workspace::new().procfile(WEB);
    workspace
        .script("build", |command| {
            command.current_dir(workspace.app());
        })
        .fails_with("usage", &["CNB_LAYERS_DIR"]);
    assert!(!Path::new("/download").exists());
}
