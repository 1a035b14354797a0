//! The settings table: the only list of their names, defaults and meanings. Help, README and the check for unknown names
//! are made from it.

use std::fmt::Write;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name of the environment variable; `<NAME>` at its end stands for any name.
    pub name: &'static str,
    /// The default as a user would write it; `–` for none.
    pub default: &'static str,
    /// Which values it may have, where that is a range or a list.
    pub values: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

impl Setting {
    const fn values(mut self, values: &'static str) -> Self {
        self.values = values;
        self
    }
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, values: "", meaning }
}

/// All settings that this version reads.
pub const SETTINGS: [Setting; 28] = [
    setting("TAILRACE", "on", "`off`: exec the app and do nothing else, at the next boot")
        .values("`on`, `off`"),
    setting(
        "TAILRACE_DRAIN_URL",
        "–",
        "one or more drain URLs, separated by blanks or line ends: `https://`; `http://` to loopback only, elsewhere with `TAILRACE_ALLOW_PLAINTEXT=on`. Options of a drain stand behind `#`: `#gzip=on&batch=1MiB`",
    ),
    setting(
        "TAILRACE_APP",
        "`$HEROKU_APP_NAME`, else `unknown`",
        "which app this is; drain tokens are derived from it",
    ),
    setting(
        "TAILRACE_DRAIN_TOKEN",
        "`d.<uuid>`",
        "`Logplex-Drain-Token`, one per drain; derived from the app and the drain's host and port, never from a secret; several drains on the same host are numbered",
    ),
    setting(
        "TAILRACE_HEADER_<NAME>",
        "–",
        "an extra request header: `TAILRACE_HEADER_X_SUMO_CATEGORY=heroku` sends `X-Sumo-Category`",
    ),
    setting(
        "TAILRACE_CA_FILE",
        "–",
        "PEM bundle trusted beside the built-in roots: certificates of authorities, or the self-signed one of a receiver; `SSL_CERT_FILE` is honoured too. What cannot be read of them is reported, the rest is trusted",
    ),
    setting("TAILRACE_ALLOW_PLAINTEXT", "off", "`on`: drains without TLS beyond loopback")
        .values("`on`, `off`"),
    setting("TAILRACE_PROXY", "–", "`http://host:port` for CONNECT; the app's `HTTPS_PROXY` is not taken"),
    setting("TAILRACE_BATCH_BYTES", "512KiB", "a batch closes at this size")
        .values("`16KiB` to `4MiB`"),
    setting("TAILRACE_BATCH_LINGER", "1s", "or after this time; after a pause the first line leaves at once")
        .values("`0s` to `1m`"),
    setting("TAILRACE_REQUEST_TIMEOUT", "20s", "for one request; connecting may take 5 s of it")
        .values("`1s` to `5m`"),
    setting("TAILRACE_SPOOL_DIR", "`$TMPDIR/tailrace`", "where lines wait for the drain"),
    setting(
        "TAILRACE_SPOOL_BYTES",
        "`256MiB`, at most a quarter of the quota",
        "how much may wait; then the oldest is dropped, counted and announced",
    )
    .values("`4MiB` to `64GiB`"),
    setting(
        "TAILRACE_MAX_LINE",
        "10000",
        "bytes of message per frame, or what a frame of 10240 has room for behind its header; longer lines become several frames",
    )
    .values("`256` to `10000`"),
    setting("TAILRACE_STOP_GRACE", "28s", "from the first SIGTERM, or the app's end, delivery ends here")
        .values("`0s` to `10m`"),
    setting(
        "TAILRACE_SAMPLE_INTERVAL",
        "20s",
        "how often the dyno's load and memory are sampled; `0` or `off`: never",
    )
    .values("`1s` to `24h`, `0`, `off`"),
    setting(
        "TAILRACE_SAMPLE_MORE",
        "off",
        "`on`: a third line per sample: CPU, processes, threads, open files, traffic",
    )
    .values("`on`, `off`"),
    setting(
        "TAILRACE_HEARTBEAT",
        "off",
        "how often the agent sends a line about itself, such as `60s`: captured, delivered, held, its memory and CPU",
    )
    .values("`1s` to `24h`, `0`, `off`"),
    setting("TAILRACE_MEMORY_QUOTA", "probed", "the dyno's memory quota, such as `512MiB`")
        .values("a size above 0"),
    setting(
        "TAILRACE_LIFECYCLE",
        "auto",
        "lines about the dyno's life (starting, up, stopping, exited, R14, R15): `auto` sends them where no platform does (Fir, a desk), not on Cedar; `on`, `off`",
    )
    .values("`auto`, `on`, `off`"),
    setting(
        "TAILRACE_PASSTHROUGH",
        "on",
        "`off`: the dyno's own output gets only what could not be recorded",
    )
    .values("`on`, `off`"),
    setting(
        "TAILRACE_TTY",
        "exec",
        "when output is a terminal: `exec` runs the command plainly, `wrap` ships anyway",
    )
    .values("`exec`, `wrap`"),
    setting(
        "TAILRACE_FRAME_HOST / TAILRACE_FRAME_APP / TAILRACE_FRAME_PROC",
        "`host` / `app` / `$DYNO`",
        "header fields of the frames; published dashboards need the defaults",
    )
    .values("1 to 128 printable ASCII characters, no blank"),
    setting("TAILRACE_LEDGER_FILE", "–", "the final ledger, as JSON"),
    setting(
        "TAILRACE_TYPES",
        "all",
        "which Procfile entries run under tailrace: `all` but `release`, names, or `none`; at the build for the wrapping, and at every boot",
    )
    .values("`all`, `none`, names, separated by commas or blanks"),
    setting(
        "TAILRACE_VERSION",
        "the buildpack's",
        "at the build: the version to install, if the buildpack has its sum",
    ),
    setting(
        "TAILRACE_MIRROR",
        "–",
        "at the build: where archives come from, `https://` or `file://`; the buildpack checks their sums",
    ),
    setting(
        "TAILRACE_BUILD",
        "auto",
        "at the build: whether a buildpack from git builds the binary from its sources: `auto`, when it can be had nowhere else; `always`; `never`",
    )
    .values("`auto`, `always`, `never`"),
];

/// Settings that only the buildpack reads.
pub(super) const BUILD_ONLY: [&str; 3] = ["TAILRACE_VERSION", "TAILRACE_MIRROR", "TAILRACE_BUILD"];

/// What `TAILRACE_DRAIN_URL` is called elsewhere.
pub(super) const OTHER_NAMES_OF_DRAIN_URL: [&str; 9] = [
    "DRAIN_URL",
    "LOGPLEX_DRAIN_URL",
    "LOGPLEX_URL",
    "LOG_DRAIN",
    "LOG_DRAIN_URL",
    "SUMOLOGIC_URL",
    "SUMO_DRAIN_URL",
    "SUMO_LOGIC_URL",
    "SUMO_URL",
];

/// The names of the settings that may have been meant by `name`: those that have its words among others, else the one
/// with a typo, else those whose words it has among others, else the least different one. A drain or a URL is the drain
/// URL.
pub(super) fn similar(name: &str) -> Vec<String> {
    const TYPO_EDITS: usize = 2;
    const MAX_EDITS: usize = 4;
    let edits = |max: usize| {
        let edits = names().map(|known| (strsim::levenshtein(&known, name), known));
        let least = edits.filter(|(edits, _)| *edits <= max).min_by_key(|(edits, _)| *edits);
        least.map(|(_, known)| known).into_iter().collect::<Vec<_>>()
    };
    let ours = words(name);
    let is_same = |one: &str, other: &str| {
        let is_short_for = |short: &str, long: &str| short.len() >= 3 && long.starts_with(short);
        one == other || is_short_for(one, other) || is_short_for(other, one)
    };
    let has_all =
        |all: &[&str], of: &[&str]| of.iter().all(|word| all.iter().any(|other| is_same(word, other)));
    let drain_url_for = |last: [&str; 2]| {
        let is_meant = ours.last().is_some_and(|word| last.contains(word));
        is_meant.then(|| "TAILRACE_DRAIN_URL".to_owned()).into_iter().collect()
    };
    let steps: [&dyn Fn() -> Vec<String>; 6] = [
        &|| drain_url_for(["DRAIN", "DRAINS"]),
        &|| fewest_others(&ours, |known| has_all(known, &ours)),
        &|| edits(TYPO_EDITS),
        &|| fewest_others(&ours, |known| has_all(&ours, known)),
        &|| drain_url_for(["URL", "URLS"]),
        &|| edits(MAX_EDITS),
    ];
    steps.into_iter().map(|step| step()).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The words of a name, without the first one, which all names have.
fn words(name: &str) -> Vec<&str> {
    name.split('_').skip(1).filter(|word| !word.is_empty()).collect()
}

/// The settings whose words are similar to `ours`: those with the least difference in number.
fn fewest_others(ours: &[&str], is_similar: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let others = |known: &String| words(known).len().abs_diff(ours.len());
    let found: Vec<String> = names()
        .filter(|known| !ours.is_empty() && known.contains('_') && is_similar(&words(known)))
        .collect();
    let least = found.iter().map(others).min();
    found.into_iter().filter(|known| Some(others(known)) == least).collect()
}

/// The names of all settings.
pub(super) fn names() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(|setting| setting.name.split(" / ")).map(str::to_owned)
}

/// Whether a setting has this name.
pub(super) fn is_known(name: &str) -> bool {
    names().any(|known| match known.strip_suffix("<NAME>") {
        Some(prefix) => name.starts_with(prefix),
        None => name == known,
    })
}

/// The text of `tailrace help settings`, its lines filled up to 96 columns.
pub fn help_text() -> String {
    const WIDTH: usize = 96;
    let mut out =
        String::from("Settings are environment variables. Values carry units: 250ms, 20s, 64MiB.\n");
    for setting in SETTINGS {
        let default = setting.default.replace('`', "");
        out.push('\n');
        out.push_str(setting.name);
        if default != "–" {
            write!(out, "  (default: {default})").ok(); // writing to a String cannot fail
        }
        out.push('\n');
        let mut line = String::from("   ");
        for word in setting.meaning.replace('`', "").split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                out.push_str(&line);
                out.push('\n');
                line = String::from("   ");
            }
            line.push(' ');
            line.push_str(word);
        }
        out.push_str(&line);
        out.push('\n');
        if !setting.values.is_empty() {
            writeln!(out, "    values: {}", setting.values.replace('`', "")).ok(); // writing to a String cannot fail
        }
    }
    out
}

/// The table in README.md.
pub fn markdown() -> String {
    let mut out = String::from("| name | default | values | meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            default if default == "–" || default.contains('`') => default.to_owned(),
            default => format!("`{default}`"),
        };
        let name = setting.name.replace(" / ", "` / `");
        let (values, meaning) =
            (if setting.values.is_empty() { "–" } else { setting.values }, setting.meaning);
        writeln!(out, "| `{name}` | {default} | {values} | {meaning} |").ok(); // writing to a String cannot fail
    }
    out
}
