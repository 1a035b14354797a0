//! The classic API: detect, compile, release, report.

use crate::release::VERSION;
use crate::workspace::{Workspace, files};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use yaml_rust2::{Yaml, YamlLoader};

const WEB: &str = "web: bundle exec puma -C config/puma.rb\n";

#[test]
fn detect_accepts_every_app() {
    let workspace = Workspace::new();
    let output = workspace.script("detect", |command| {
        command.arg(workspace.app());
    });
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (0, "tailrace\n", ""));
}

#[test]
fn release_adds_no_process_types() {
    let workspace = Workspace::new();
    let output = workspace.script("release", |command| {
        command.arg(workspace.app());
    });
    let documents = YamlLoader::load_from_str(&output.succeeds().stdout).unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0], Yaml::Hash(yaml_rust2::yaml::Hash::new()));
}

#[test]
fn compile_installs_and_reports_it() {
    let workspace = Workspace::new().procfile("web: puma\nworker: sidekiq\nrelease: rake db:migrate\n");
    let head = format!("-----> tailrace {VERSION} ({})\n", std::env::consts::ARCH);
    let texts = [
        head.as_str(),
        "binary: vendored, ",
        "to the slug",
        "wrapped: web, worker (",
        "not wrapped: release\n",
        "drain: TAILRACE_DRAIN_URL is set\n",
        "heroku run tailrace check\n",
        "heroku config:set TAILRACE=off\n",
    ];
    workspace.compile().succeeds().without_warnings().prints(&texts);
    let files = files(&workspace.app());
    let modes: Vec<_> = files.iter().map(|(name, (mode, _))| (name.as_str(), *mode)).collect();
    let expected = [
        (".profile.d/tailrace.sh", 0o644),
        (".tailrace/bin/tailrace", 0o755),
        (".tailrace/bin/tailrace-agent", 0o755),
        (".tailrace/procfile", 0o644),
        (".tailrace/types/web", 0o644),
        (".tailrace/types/worker", 0o644),
        ("Procfile", 0o644),
    ];
    assert_eq!(modes, expected);
    let lines = "web: /app/.tailrace/bin/tailrace run --type web\n\
                 worker: /app/.tailrace/bin/tailrace run --type worker\n\
                 release: rake db:migrate\n";
    assert_eq!(workspace.procfile_text(), lines);
    assert_eq!(workspace.stored_command("web").as_deref(), Some("puma\n"));
}

#[test]
fn a_second_build_in_the_same_directory_changes_nothing() {
    let workspace = Workspace::new().procfile(WEB);
    workspace.compile().succeeds();
    let first = files(&workspace.app());
    workspace.compile().succeeds().without_warnings().prints(&["already under tailrace: web\n"]);
    assert!(first == files(&workspace.app()), "the second build changed something");
}

#[test]
fn cache_and_build_directory_do_not_change_the_result() {
    let workspace = Workspace::without_archive().procfile(WEB);
    let mirror = workspace.path("mirror");
    fs::create_dir(&mirror).unwrap();
    let archive = mirror.join(crate::release::archive_name(crate::release::TRIPLE));
    fs::copy(crate::release::archive(), &archive).unwrap();
    let workspace = workspace.config_var("TAILRACE_MIRROR", &format!("file://{}", mirror.display()));
    workspace.compile().succeeds().without_warnings().prints(&["binary: downloaded, "]);
    fs::remove_dir_all(&mirror).unwrap();

    let second = workspace.path("build_2");
    fs::create_dir(&second).unwrap();
    fs::write(second.join("Procfile"), WEB).unwrap();
    let output = workspace.compile_with(&[&second, &workspace.path("cache"), &workspace.path("env")]);
    output.succeeds().without_warnings().prints(&["binary: cached, "]);
    let (first, second) = (files(&workspace.app()), files(&second));
    assert!(first == second, "the results differ");
    for (name, (_, bytes)) in first {
        for path in ["build_1", "build_2", "tailrace build "] {
            let found = memchr::memmem::find(&bytes, path.as_bytes());
            assert!(found.is_none(), "{name} contains {path}");
        }
    }
}

#[test]
fn config_vars_of_the_app_are_not_read() {
    let workspace = Workspace::new().procfile(WEB);
    // Reading a FIFO without a writer blocks.
    mkfifo(&workspace.path("env/DATABASE_URL"), Mode::S_IRWXU).unwrap();
    workspace.compile().succeeds().without_warnings();
}

#[test]
fn cache_and_env_directories_are_optional() {
    let workspace = Workspace::new().procfile(WEB);
    let (app, cache, none) = (workspace.app(), workspace.path("cache"), workspace.path("none"));
    for arguments in [&[app.as_path()][..], &[&app, &cache], &[&app, &cache, &none], &[&app, &none, &none]] {
        workspace
            .compile_with(arguments)
            .succeeds()
            .prints(&["drain: none; set it: heroku config:set TAILRACE_DRAIN_URL='"]);
    }
    workspace.compile_with(&[]).fails_with("usage", &["found:    \"\", which is not a directory"]);
    workspace
        .compile_with(&[&workspace.path("no app")])
        .fails_with("usage", &["bin/compile BUILD_DIR CACHE_DIR ENV_DIR"]);
}

#[test]
fn scripts_work_from_any_directory() {
    let workspace = Workspace::new().procfile(WEB);
    for dir in [Path::new("/"), &workspace.app()] {
        let output = workspace.script("compile", |command| {
            command.current_dir(dir).args([workspace.app(), workspace.path("cache"), workspace.path("env")]);
        });
        output.succeeds().without_warnings();
    }
    // By a relative path, while CDPATH contains a directory of the same name.
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "bin/compile \"$1\"", "bash"]).arg(workspace.app());
    workspace.run(&mut command, |_| {}).succeeds();
}

#[test]
fn a_conflicting_file_of_the_app_is_named() {
    for (name, file) in [
        (".tailrace", ".tailrace"),
        (".profile.d", ".profile.d"),
        (".tailrace/bin/tailrace", ".tailrace/bin/tailrace/x"),
        (".tailrace/bin/tailrace-agent", ".tailrace/bin/tailrace-agent/x"),
        (".profile.d/tailrace.sh", ".profile.d/tailrace.sh/x"),
        (".tailrace/types/web", ".tailrace/types/web/x"),
    ] {
        let workspace = Workspace::new().procfile(WEB).file(file, "a file");
        workspace.compile().fails_with("in-the-way", &[name, "remove it from the repository"]);
        assert_eq!(workspace.procfile_text(), WEB);
    }
}

#[test]
fn unexpected_failures_are_one_message() {
    // Programs that fail: as a simple command, in a command substitution, and in a pipeline.
    for (program, file) in [
        ("chmod", "binary"),
        ("mktemp", "binary"),
        ("uname", "binary"),
        ("stat", "binary"),
        ("tr", "settings"),
    ] {
        let workspace = Workspace::new().procfile(WEB);
        let dir = workspace.path("programs");
        fs::create_dir(&dir).unwrap();
        symlink("/bin/false", dir.join(program)).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
        let workspace = workspace.config_var("TAILRACE_TYPES", "all").build_var("PATH", &path);
        let text = format!("expected: no error in buildpack/lib/{file}.sh, line ");
        workspace.compile().fails_with("internal", &[&text]);
        assert_eq!(workspace.procfile_text(), WEB);
    }
}

#[test]
fn compile_warns_when_a_language_buildpack_ran_before() {
    let warning = "a language buildpack ran before tailrace";
    for name in [".heroku/node/bin/node", ".jdk/bin/java", "vendor/ruby-3.4.1/bin/ruby"] {
        let workspace = Workspace::new().procfile(WEB).file(name, "");
        workspace.compile().succeeds().prints(&[warning, "heroku buildpacks:add --index 1 "]);
    }
    Workspace::new()
        .procfile(WEB)
        .file("vendor/bundle/x", "committed")
        .compile()
        .succeeds()
        .without_warnings();
    let workspace = Workspace::new().procfile(WEB).build_var("PATH", "/app/.heroku/python/bin:/usr/bin:/bin");
    workspace.compile().succeeds().prints(&[warning]);
}

#[test]
fn without_a_procfile_a_line_to_add_is_suggested() {
    for (files, line) in [
        (&[][..], "web: COMMAND"),
        (&[("package.json", "{}")], "web: npm start"),
        (&[("package.json", "{}"), ("yarn.lock", "")], "web: yarn start"),
        (&[("Gemfile", ""), ("config.ru", "")], "web: bundle exec rackup config.ru -p ${PORT:-5000}"),
        (&[("Gemfile", ""), ("config/puma.rb", "")], "web: bundle exec puma -C config/puma.rb"),
        (&[("Gemfile", ""), ("package.json", ""), ("config/application.rb", "")], "web: bin/rails server "),
        (&[("requirements.txt", "flask")], "web: gunicorn app:app"),
        (&[("requirements.txt", "django"), ("shop/wsgi.py", "")], "web: gunicorn shop.wsgi"),
        (&[("requirements.txt", "django"), ("my workspace/wsgi.py", "")], "web: gunicorn app:app"),
        (&[("go.mod", "module example.com/a/shop/v2\n\ngo 1.24\n")], "web: bin/shop\n"),
        (&[("go.mod", "// ours\nmodule\t\"x/shop\" // the shop\n")], "web: bin/shop\n"),
        (&[("go.mod", "module example.com/v8engine\n")], "web: bin/v8engine\n"),
        (&[("go.mod", "// nothing\n")], "web: COMMAND"),
    ] {
        let workspace =
            files.iter().fold(Workspace::new(), |workspace, (name, text)| workspace.file(name, text));
        workspace
            .compile()
            .succeeds()
            .prints(&["there is no Procfile, so nothing runs under tailrace", line]);
        assert!(!workspace.app().join("Procfile").exists());
    }
}

#[test]
fn a_blank_drain_url_is_not_set() {
    let workspace = Workspace::new().procfile(WEB).config_var("TAILRACE_DRAIN_URL", " \n");
    workspace.compile().succeeds().without_warnings().prints(&["drain: none; set it: "]);
}

#[test]
fn a_procfile_with_nothing_to_wrap_is_not_blamed_on_the_setting() {
    for text in ["", "# nothing yet\n", "release: rake db:migrate\n"] {
        let output = Workspace::new().procfile(text).compile().succeeds();
        let output = output
            .prints(&["nothing in the Procfile runs under tailrace: it has no entry with a command except"]);
        assert!(!output.stderr.contains("TAILRACE_TYPES"), "{output:?}");
    }
}

#[test]
fn report_prints_build_metadata_and_never_fails() {
    let workspace = Workspace::new().procfile(WEB);
    let report = || {
        let output = workspace.script("report", |command| {
            command.args([workspace.app(), workspace.path("cache"), workspace.path("env")]);
        });
        YamlLoader::load_from_str(&output.succeeds().without_warnings().stdout).unwrap()
    };
    assert_eq!(report(), []);
    workspace.compile().succeeds();
    let entry = &report()[0];
    assert_eq!(entry["tailrace_version"].as_str(), Some(VERSION));
    assert_eq!(entry["tailrace_source"].as_str(), Some("vendored"));
    assert_eq!((entry["tailrace_wrapped"].as_i64(), entry["tailrace_failure"].as_str()), (Some(1), Some("")));
    fs::write(workspace.checksums(), "").unwrap();
    workspace.compile().fails_with("no-release", &["buildpack/package"]);
    assert_eq!(report()[0]["tailrace_failure"].as_str(), Some("no-release"));
    assert_eq!(workspace.script("report", |_| {}).succeeds().stdout, "");
}

#[test]
fn the_wrapped_command_is_found_from_any_directory_where_the_app_has_a_known_path() {
    for (home, line) in [
        ("/app", "web: /app/.tailrace/bin/tailrace run --type web\n"),
        ("/root", "web: .tailrace/bin/tailrace run --type web\n"),
    ] {
        let workspace = Workspace::new().procfile("web: x\n").build_var("HOME", home);
        workspace.compile().succeeds().without_warnings();
        assert_eq!(workspace.procfile_text(), line);
    }
}

#[test]
fn compile_warns_of_a_buildpack_that_will_replace_the_procfile() {
    for (name, value, file) in [
        ("PROCFILE", "api/Procfile", "api/Procfile"),
        ("APP_BASE", "api", "api/Procfile"),
        ("APP_BASE", "/services/api/", "services/api/Procfile"),
        ("PROJECT_PATH", "api", "api/Procfile"),
    ] {
        let workspace = Workspace::new().procfile(WEB).file(file, "web: other\n").config_var(name, value);
        let text = format!(" !     {name} is set: if ");
        workspace.compile().succeeds().prints(&[&text, "heroku buildpacks:add --index 2 URL"]);
    }
    // They ran before: the file has been copied, the directory has become the app's.
    for (name, value, file, text) in [
        ("PROCFILE", "api/Procfile", "api/Procfile", WEB),
        ("APP_BASE", "api", "api/Procfile", WEB),
        ("APP_BASE", "api", "x", ""),
        ("PROJECT_PATH", "api", "x", ""),
        ("PROCFILE", "Procfile", "x", ""),
        ("APP_BASE", ".", "x", ""),
        ("APP_BASE", " ", "x", ""),
    ] {
        let workspace = Workspace::new().procfile(WEB).file(file, text).config_var(name, value);
        workspace.compile().succeeds().without_warnings();
    }
}
