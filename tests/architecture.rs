//! The import rules of `agent/lib.rs`, checked over the sources: which module may import which, and no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import. `module::file` means that file of the module only.
const RULES: [(&str, &[&str]); 22] = [
    ("line", &[]),
    ("frame", &[]),
    ("procfs", &[]),
    ("poll", &[]),
    ("diag", &[]),
    ("exit_code", &[]),
    ("version", &[]),
    ("dyno", &["frame"]),
    ("config", &["dyno::name", "frame"]),
    ("confinement", &["config"]),
    ("sample", &["config", "frame", "procfs"]),
    ("signals", &["procfs"]),
    ("ledger", &["frame", "line"]),
    ("protocol", &["frame", "ledger"]),
    ("spool", &["config", "diag", "frame", "ledger", "line"]),
    ("recorder", &["config", "diag", "frame", "ledger", "line", "spool"]),
    ("capture", &["diag", "frame", "line", "poll", "recorder"]),
    ("shipper", &["config", "confinement", "ledger", "protocol", "signals::pending", "spool", "version"]),
    ("delivery", &["config", "diag", "frame", "ledger", "protocol", "spool"]),
    ("status", &["config", "delivery", "frame", "ledger", "spool", "version"]),
    (
        "supervisor",
        &[
            "capture",
            "config",
            "delivery",
            "diag",
            "dyno",
            "exit_code",
            "frame",
            "ledger",
            "line",
            "poll",
            "procfs",
            "protocol",
            "recorder",
            "sample",
            "signals",
            "spool",
            "status",
            "version",
        ],
    ),
    ("cli", &["config", "dyno"]),
];

/// Modules that wire all others: anything may be imported there.
const WIRING: [&str; 3] = ["commands", "lib", "main"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The source without comments, and without its unit tests, which may import what they need.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// What a source imports: `module`, or `module::next`, where the next segment of the path is known.
fn imports(code: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let module: String = path.chars().take_while(|c| is_name(*c)).collect();
        let rest = path[module.len()..].strip_prefix("::").unwrap_or_default();
        if let Some(list) = rest.strip_prefix('{') {
            for item in list.split('}').next().unwrap_or_default().split(',') {
                let item: String = item.trim().chars().take_while(|c| is_name(*c)).collect();
                found.insert(format!("{module}::{item}"));
            }
        } else {
            let next: String = rest.chars().take_while(|c| is_name(*c)).collect();
            found.insert(format!("{module}::{next}"));
        }
    }
    found
}

/// The modules, and what their files import from other modules.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent");
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(&agent) {
        if path.with_extension("").iter().any(|name| name == "tests" || name == "fuzz") {
            continue;
        }
        let relative = path.strip_prefix(&agent).expect("below agent").with_extension("");
        let module = relative.iter().next().expect("a name").to_string_lossy().into_owned();
        let itself = format!("{module}::");
        let mut others = imports(&code(&path));
        others.retain(|import| !import.starts_with(&itself));
        modules.entry(module).or_default().extend(others);
    }
    modules
}

fn is_allowed(import: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|rule| match rule.split_once("::") {
        Some(_) => import == *rule || import.starts_with(&format!("{rule}::")),
        None => import.split("::").next() == Some(rule),
    })
}

#[test]
fn modules_import_only_what_the_rules_allow() {
    let modules = modules();
    let rules: BTreeMap<&str, &[&str]> = RULES.into_iter().collect();
    let known: BTreeSet<&str> = rules.keys().copied().chain(WIRING).collect();
    let actual: BTreeSet<&str> = modules.keys().map(String::as_str).collect();
    assert_eq!(actual, known, "a new module needs a rule, here and in agent/lib.rs");
    for (module, imports) in &modules {
        let Some(allowed) = rules.get(module.as_str()) else { continue };
        for import in imports {
            assert!(is_allowed(import, allowed), "{module} must not import {import}");
        }
    }
}

#[test]
fn the_rules_have_no_cycle() {
    // A module imports only modules that stand before it in the table.
    let mut before = BTreeSet::new();
    for (module, allowed) in RULES {
        for rule in allowed {
            let other = rule.split("::").next().unwrap_or_default();
            assert!(before.contains(other), "{module} imports {other}, which stands behind it");
        }
        before.insert(module);
    }
}

#[test]
fn pairs_that_must_never_be_are_not_allowed() {
    let rules: BTreeMap<&str, &[&str]> = RULES.into_iter().collect();
    for (module, other) in [
        ("supervisor", "shipper::http"),
        ("shipper", "recorder::Recorder"),
        ("shipper", "delivery::Coordinator"),
        ("capture", "spool::Spool"),
        ("config", "procfs::ProcFs"),
        ("config", "dyno::procfile"),
        ("frame", "line::Splitter"),
        ("line", "frame::Encoder"),
    ] {
        assert!(!is_allowed(other, rules[module]), "{module} may not import {other}");
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::a::b::C;\nuse crate::d::{self, e::F, G};\nfn x() { crate::h::i() }\nuse crate::j;";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["a::b", "d::G", "d::e", "d::self", "h::i", "j::"]);
}
