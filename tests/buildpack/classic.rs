//! The classic API: detect, compile, release, report.

use crate::release::VERSION;
use crate::workspace::{Site, files};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use yaml_rust2::{Yaml, YamlLoader};

const WEB: &str = "web: bundle exec puma -C config/puma.rb\n";

#[test]
fn detect_takes_every_app() {
    let site = Site::new();
    let built = site.script("detect", |command| {
        command.arg(site.app());
    });
    assert_eq!((built.status, built.out.as_str(), built.err.as_str()), (0, "tailrace\n", ""));
}

#[test]
fn release_adds_no_process_types() {
    let site = Site::new();
    let built = site.script("release", |command| {
        command.arg(site.app());
    });
    let documents = YamlLoader::load_from_str(&built.good().out).unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0], Yaml::Hash(yaml_rust2::yaml::Hash::new()));
}

#[test]
fn compile_installs_and_says_what_it_did() {
    let site = Site::new().procfile("web: puma\nworker: sidekiq\nrelease: rake db:migrate\n");
    let head = format!("-----> tailrace {VERSION} ({})\n", std::env::consts::ARCH);
    let told = [
        head.as_str(),
        "binary: vendored, ",
        "to the slug",
        "wrapped: web, worker (",
        "not wrapped: release\n",
        "drain: TAILRACE_DRAIN_URL is set\n",
        "heroku run tailrace check\n",
        "heroku config:set TAILRACE=off\n",
    ];
    site.compile().good().quiet().says(&told);
    let files = files(&site.app());
    let modes: Vec<_> = files.iter().map(|(name, (mode, _))| (name.as_str(), *mode)).collect();
    let expected = [
        (".profile.d/tailrace.sh", 0o644),
        (".tailrace/bin/tailrace", 0o755),
        (".tailrace/bin/tailrace-agent", 0o755),
        (".tailrace/types/web", 0o644),
        (".tailrace/types/worker", 0o644),
        ("Procfile", 0o644),
    ];
    assert_eq!(modes, expected);
    let lines = "web: .tailrace/bin/tailrace run --type web\nworker: .tailrace/bin/tailrace run --type worker\n\
                 release: rake db:migrate\n";
    assert_eq!(site.text(), lines);
    assert_eq!(site.stored("web").as_deref(), Some("puma\n"));
}

#[test]
fn a_second_build_on_the_first_changes_nothing() {
    let site = Site::new().procfile(WEB);
    site.compile().good();
    let first = files(&site.app());
    site.compile().good().quiet().says(&["under tailrace already: web\n"]);
    assert!(first == files(&site.app()), "the second build changed something");
}

#[test]
fn a_warm_cache_and_another_directory_give_the_same() {
    let site = Site::without_archive().procfile(WEB);
    let mirror = site.path("mirror");
    fs::create_dir(&mirror).unwrap();
    let archive = mirror.join(crate::release::name(crate::release::TRIPLE));
    fs::copy(crate::release::archive(), &archive).unwrap();
    let site = site.set("TAILRACE_MIRROR", &format!("file://{}", mirror.display()));
    site.compile().good().quiet().says(&["binary: downloaded, "]);
    fs::remove_dir_all(&mirror).unwrap();

    let second = site.path("build_2");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("Procfile"), WEB).unwrap();
    let built = site.compile_with(&[&second, &site.path("cache"), &site.path("env")]);
    built.good().quiet().says(&["binary: cached, "]);
    let (first, second) = (files(&site.app()), files(&second));
    assert!(first == second, "they differ");
    for (name, (_, bytes)) in first {
        for path in ["build_1", "build_2", "tailrace build "] {
            let found = memchr::memmem::find(&bytes, path.as_bytes());
            assert!(found.is_none(), "{name} knows {path}");
        }
    }
}

#[test]
fn only_our_own_config_vars_are_read() {
    let site = Site::new().procfile(WEB);
    // Whoever reads this waits for ever.
    mkfifo(&site.path("env/DATABASE_URL"), Mode::S_IRWXU).unwrap();
    site.compile().good().quiet();
}

#[test]
fn directories_may_be_missing() {
    let site = Site::new().procfile(WEB);
    let (app, cache, none) = (site.app(), site.path("cache"), site.path("none"));
    for arguments in [&[app.as_path()][..], &[&app, &cache], &[&app, &cache, &none], &[&app, &none, &none]] {
        site.compile_with(arguments)
            .good()
            .says(&["drain: none; set it: heroku config:set TAILRACE_DRAIN_URL='"]);
    }
    site.compile_with(&[]).failed("usage", &["found:    \"\", which is no directory"]);
    site.compile_with(&[&site.path("no app")]).failed("usage", &["bin/compile BUILD_DIR CACHE_DIR ENV_DIR"]);
}

#[test]
fn scripts_find_themselves() {
    let site = Site::new().procfile(WEB);
    for dir in [Path::new("/"), &site.app()] {
        let built = site.script("compile", |command| {
            command.current_dir(dir).args([site.app(), site.path("cache"), site.path("env")]);
        });
        built.good().quiet();
    }
    // By a relative path, where CDPATH has another such directory.
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "bin/compile \"$1\"", "bash"]).arg(site.app());
    site.run(&mut command, |_| {}).good();
}

#[test]
fn something_in_the_way_is_named() {
    for (name, file) in [
        (".tailrace", ".tailrace"),
        (".profile.d", ".profile.d"),
        (".tailrace/bin/tailrace", ".tailrace/bin/tailrace/x"),
        (".tailrace/bin/tailrace-agent", ".tailrace/bin/tailrace-agent/x"),
        (".profile.d/tailrace.sh", ".profile.d/tailrace.sh/x"),
        (".tailrace/types/web", ".tailrace/types/web/x"),
    ] {
        let site = Site::new().procfile(WEB).file(file, "a file");
        site.compile().failed("in-the-way", &[name, "remove it from the repository"]);
        assert_eq!(site.text(), WEB);
    }
}

#[test]
fn what_nobody_thought_of_is_one_message_too() {
    // Programs that fail: in a command of their own, in one whose output is taken, and in a list of a pipe.
    for (program, file) in [
        ("chmod", "binary"),
        ("mktemp", "binary"),
        ("uname", "binary"),
        ("stat", "binary"),
        ("tr", "settings"),
    ] {
        let site = Site::new().procfile(WEB);
        let dir = site.path("programs");
        fs::create_dir(&dir).unwrap();
        symlink("/bin/false", dir.join(program)).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
        let site = site.set("TAILRACE_TYPES", "all").var("PATH", &path);
        let said = format!("expected: no trouble in buildpack/lib/{file}.sh, line ");
        site.compile().failed("internal", &[&said]);
        assert_eq!(site.text(), WEB);
    }
}

#[test]
fn an_order_that_hides_process_types_is_warned_of() {
    let warning = "a language's buildpack ran before tailrace";
    for name in [".heroku/node/bin/node", ".jdk/bin/java", "vendor/ruby-3.4.1/bin/ruby"] {
        let site = Site::new().procfile(WEB).file(name, "");
        site.compile().good().says(&[warning, "heroku buildpacks:add --index 1 "]);
    }
    Site::new().procfile(WEB).file("vendor/bundle/x", "committed").compile().good().quiet();
    let site = Site::new().procfile(WEB).var("PATH", "/app/.heroku/python/bin:/usr/bin:/bin");
    site.compile().good().says(&[warning]);
}

#[test]
fn without_a_procfile_the_line_to_add_is_shown() {
    for (files, line) in [
        (&[][..], "web: COMMAND"),
        (&[("package.json", "{}")], "web: npm start"),
        (&[("package.json", "{}"), ("yarn.lock", "")], "web: yarn start"),
        (&[("Gemfile", ""), ("config.ru", "")], "web: bundle exec rackup config.ru -p ${PORT:-5000}"),
        (&[("Gemfile", ""), ("config/puma.rb", "")], "web: bundle exec puma -C config/puma.rb"),
        (&[("Gemfile", ""), ("package.json", ""), ("config/application.rb", "")], "web: bin/rails server "),
        (&[("requirements.txt", "flask")], "web: gunicorn app:app"),
        (&[("requirements.txt", "django"), ("shop/wsgi.py", "")], "web: gunicorn shop.wsgi"),
        (&[("requirements.txt", "django"), ("my site/wsgi.py", "")], "web: gunicorn app:app"),
        (&[("go.mod", "module example.com/a/shop/v2\n\ngo 1.24\n")], "web: bin/shop\n"),
        (&[("go.mod", "// ours\nmodule\t\"x/shop\" // the shop\n")], "web: bin/shop\n"),
        (&[("go.mod", "module example.com/v8engine\n")], "web: bin/v8engine\n"),
        (&[("go.mod", "// nothing\n")], "web: COMMAND"),
    ] {
        let site = files.iter().fold(Site::new(), |site, (name, text)| site.file(name, text));
        site.compile().good().says(&["there is no Procfile, so nothing runs under tailrace", line]);
        assert!(!site.app().join("Procfile").exists());
    }
}

#[test]
fn a_drain_url_of_blanks_is_none() {
    let site = Site::new().procfile(WEB).set("TAILRACE_DRAIN_URL", " \n");
    site.compile().good().quiet().says(&["drain: none; set it: "]);
}

#[test]
fn a_procfile_with_nothing_to_wrap_is_not_the_settings_fault() {
    for text in ["", "# nothing yet\n", "release: rake db:migrate\n"] {
        let built = Site::new().procfile(text).compile().good();
        let built =
            built.says(&["nothing in the Procfile runs under tailrace: it has no entry with a command but"]);
        assert!(!built.err.contains("TAILRACE_TYPES"), "{built:?}");
    }
}

#[test]
fn report_tells_what_compile_did_and_never_fails() {
    let site = Site::new().procfile(WEB);
    let report = || {
        let built = site.script("report", |command| {
            command.args([site.app(), site.path("cache"), site.path("env")]);
        });
        YamlLoader::load_from_str(&built.good().quiet().out).unwrap()
    };
    assert_eq!(report(), []);
    site.compile().good();
    let told = &report()[0];
    assert_eq!(told["tailrace_version"].as_str(), Some(VERSION));
    assert_eq!(told["tailrace_source"].as_str(), Some("vendored"));
    assert_eq!((told["tailrace_wrapped"].as_i64(), told["tailrace_failure"].as_str()), (Some(1), Some("")));
    fs::write(site.pins(), "").unwrap();
    site.compile().failed("no-release", &["buildpack/package"]);
    assert_eq!(report()[0]["tailrace_failure"].as_str(), Some("no-release"));
    assert_eq!(site.script("report", |_| {}).good().out, "");
}
