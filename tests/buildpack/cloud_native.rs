//! The Cloud Native API: detect, build, layers, the descriptor.

use crate::release::{VERSION, root, sum};
use crate::workspace::{Site, files};
use std::fs;
use std::path::Path;
use toml::Table;

const WEB: &str = "web: bundle exec puma\n";

fn table(path: &Path) -> Table {
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_descriptor_is_what_the_lifecycle_and_the_registry_read() {
    let text = table(&root().join("buildpack.toml"));
    assert_eq!(text["api"].as_str(), Some("0.10"));
    let buildpack = text["buildpack"].as_table().unwrap();
    assert_eq!(
        (buildpack["version"].as_str(), buildpack["name"].as_str()),
        (Some(VERSION), Some("tailrace"))
    );
    assert!(buildpack["id"].as_str().unwrap().starts_with("tailrace/"));
    let formats = buildpack["sbom-formats"].as_array().unwrap();
    assert_eq!(formats[0].as_str(), Some("application/vnd.cyclonedx+json"));
    let targets = text["targets"].as_array().unwrap();
    let targets: Vec<_> =
        targets.iter().map(|target| (target["os"].as_str(), target["arch"].as_str())).collect();
    assert_eq!(targets, [(Some("linux"), Some("amd64")), (Some("linux"), Some("arm64"))]);
    for name in text["publish"]["Ignore"]["files"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        assert!(root().join(name).exists(), "{name} is not there");
        let needed = ["bin", "buildpack", "buildpack.toml", "LICENSE"];
        assert!(!needed.contains(&name) && !name.starts_with("buildpack/lib"), "{name} is needed");
    }
}

#[test]
fn detect_passes_and_plans_nothing() {
    let site = Site::new();
    let plan = site.path("plan.toml");
    let built = site.script("detect", |command| {
        command
            .current_dir(site.app())
            .env("CNB_BUILD_PLAN_PATH", &plan)
            .env("CNB_BUILDPACK_DIR", site.buildpack());
    });
    assert_eq!((built.status, plan.exists()), (0, false));
}

#[test]
fn build_makes_a_layer_and_wraps_the_procfile_before_others_read_it() {
    let site = Site::new().procfile("web: puma\nrelease: rake\n");
    site.build().good().quiet().says(&["-----> tailrace ", "wrapped: web (", "not wrapped: release\n"]);
    assert_eq!(site.text(), "web: .tailrace/bin/tailrace run --type web\nrelease: rake\n");
    assert_eq!(site.stored("web").as_deref(), Some("puma\n"));
    let app: Vec<_> = files(&site.app()).into_keys().collect();
    assert_eq!(
        app,
        [".tailrace/bin/tailrace", ".tailrace/types/web", "Procfile"],
        "no shell profile, no binary"
    );
    let layers: Vec<_> =
        files(&site.path("layers")).into_iter().map(|(name, (mode, _))| (name, mode)).collect();
    let expected = [
        ("agent.sbom.cdx.json", 0o644),
        ("agent.toml", 0o644),
        ("agent/bin/tailrace", 0o755),
        ("agent/bin/tailrace-agent", 0o755),
        ("download.toml", 0o644),
    ];
    assert_eq!(layers.iter().map(|(name, mode)| (name.as_str(), *mode)).collect::<Vec<_>>(), expected);
}

#[test]
fn layers_are_described() {
    let site = Site::new().procfile(WEB);
    site.build().good();
    let agent = table(&site.path("layers/agent.toml"));
    let flags = |table: &Table, name: &str| table["types"][name].as_bool().unwrap();
    assert_eq!(["launch", "build", "cache"].map(|name| flags(&agent, name)), [true, false, false]);
    let digest = sum(&site.path("layers/agent/bin/tailrace-agent"));
    assert_eq!(
        (agent["metadata"]["version"].as_str(), agent["metadata"]["sha256"].as_str()),
        (Some(VERSION), Some(digest.as_str()))
    );
    let download = table(&site.path("layers/download.toml"));
    assert_eq!(["launch", "build", "cache"].map(|name| flags(&download, name)), [false, false, true]);
    let bill: serde_json::Value =
        serde_json::from_slice(&fs::read(site.path("layers/agent.sbom.cdx.json")).unwrap()).unwrap();
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let component = &bill["components"][0];
    assert_eq!(
        (component["name"].as_str(), component["version"].as_str()),
        (Some("tailrace"), Some(VERSION))
    );
    assert_eq!(component["hashes"][0]["content"].as_str(), Some(digest.as_str()));
    assert_eq!(component["licenses"][0]["expression"].as_str(), Some("MIT OR Apache-2.0"));
}

#[test]
fn a_rebuild_takes_the_archive_from_its_layer() {
    let site = Site::without_archive().procfile(WEB);
    let mirror = site.path("mirror");
    fs::create_dir(&mirror).unwrap();
    let name = crate::release::name(crate::release::TRIPLE);
    fs::copy(crate::release::archive(), mirror.join(&name)).unwrap();
    let site = site.set("TAILRACE_MIRROR", &format!("file://{}", mirror.display()));
    site.build().good().quiet().says(&["binary: downloaded, "]);
    assert!(site.path("layers/download").join(name).exists());
    fs::remove_dir_all(&mirror).unwrap();
    // As the lifecycle restores them: a launch layer without its contents, and no flags.
    fs::remove_dir_all(site.path("layers/agent")).unwrap();
    fs::write(site.path("layers/agent.toml"), "").unwrap();
    fs::write(site.path("layers/download.toml"), "").unwrap();
    let site = site.procfile(WEB);
    site.build().good().quiet().says(&["binary: cached, "]);
    assert!(table(&site.path("layers/agent.toml"))["types"]["launch"].as_bool().unwrap());
}

#[test]
fn the_target_decides_which_archive() {
    for (target, triple) in [("amd64", "x86_64-unknown-linux-musl"), ("arm64", "aarch64-unknown-linux-musl")]
    {
        let site = Site::without_archive().procfile(WEB).var("CNB_TARGET_ARCH", target);
        fs::write(site.pins(), format!("{VERSION} {triple} 00\n")).unwrap();
        site.build().failed("no-binary", &[&crate::release::name(triple)]);
    }
    let site = Site::new().procfile(WEB).var("CNB_TARGET_ARCH", "s390x");
    site.build().failed("unknown-architecture", &["found:    s390x"]);
}

#[test]
fn behind_the_one_that_reads_the_procfile_it_warns() {
    let site = Site::new().procfile(WEB);
    fs::create_dir_all(site.path("layers/heroku_procfile")).unwrap();
    fs::write(site.path("layers/heroku_procfile/launch.toml"), "").unwrap();
    site.build_in("layers/tailrace_agent").good().says(&[
        " !     heroku/procfile ran before tailrace",
        "in project.toml put tailrace before heroku/procfile",
    ]);
}

#[test]
fn the_project_descriptor_of_the_docs_is_one() {
    let docs = fs::read_to_string(root().join("buildpack/docs/platforms.md")).unwrap();
    let block = docs.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let project: Table = toml::from_str(block).unwrap();
    // Without this an old schema is meant, and all of `io.buildpacks` is left out (buildpacks/spec, project-descriptor.md).
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
fn without_layers_it_says_what_it_expects() {
    let site = Site::new().procfile(WEB);
    site.script("build", |command| {
        command.current_dir(site.app());
    })
    .failed("usage", &["CNB_LAYERS_DIR"]);
    assert!(!Path::new("/download").exists());
}
