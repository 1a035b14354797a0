//! Parser parity: the regular expressions that receivers publish, each against the lines that it is made for.
//!
//! Names and expressions are those of Sumo Logic's app for Heroku (R, A) and of others (P): Splunk's app,
//! Graylog's content pack, fluentd's plugin, `CloudWatch` forwarders and small tools. Ruby's `\<` is written `<`
//! here: to this engine it would be the start of a word.

use super::kind::Kind;
use fancy_regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Lines of one kind that are looked at per second; the others are counted only. Backtracking has its price.
const PER_SECOND: u32 = 20;

type Parser = (&'static str, &'static [Kind], &'static str);

const ANY: &[Kind] = &[];
const ROUTER: &[Kind] = &[Kind::Router];
const MEMORY: &[Kind] = &[Kind::Memory];
const LOAD: &[Kind] = &[Kind::Load];
const SAMPLES: &[Kind] = &[Kind::Memory, Kind::Load];

/// Name, the kinds of lines that it must match (none: all of them), and the expression.
const PARSERS: &[Parser] = &[
    ("R1", ANY, r"host (?<host>.*?(?= ))"),
    ("R2", ANY, r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)"),
    ("R3", &[Kind::Deploy], r"Deploy (?<commit_id>.*?(?= )) by user (?<user>.*)"),
    ("R4", &[Kind::Release], r"Release (?<app_version>.*?(?= )) created by user (?<user>.*)"),
    ("R5", &[Kind::Scaling], r"Scaled to (?<dyno>.*(?= by)).*user (?<user>.*)"),
    ("R6", &[Kind::State], r"State changed from (?<first_state>.*?(?= )) to (?<second_state>\S*)$"),
    ("R7", &[Kind::Exit], r"Process exited with status (?<status>\d+)$"),
    (
        "R8",
        LOAD,
        r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= )).*load_avg_5m=(?<b>.*?(?= )).*load_avg_15m=(?<c>[\d.]*?(?=$))",
    ),
    (
        "R9",
        MEMORY,
        r"dyno=(?<dyno>.*?(?= )).*memory_total=(?<t>.*?(?=MB )).*memory_rss=(?<r>.*?(?=MB )).*memory_cache=(?<c>.*?(?=MB )).*memory_swap=(?<s>.*?(?=MB ))",
    ),
    ("R9q", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_quota=(?<memory_quota>.*?(?=MB))"),
    ("R10", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_pgpgin=(?<p>.*?(?=pages ))"),
    ("R10o", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_pgpgout=(?<p>.*?(?=pages ))"),
    ("R11", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*connect=(?<connect>.*?(?= ))"),
    ("R12", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))"),
    (
        "R13",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*connect=(?<connect>.*?(?= )).*service=(?<service>.*?(?= ))",
    ),
    (
        "R14",
        ROUTER,
        r"method=(?<request_type>.*?(?= )).*host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))",
    ),
    (
        "R15",
        ROUTER,
        r#"path="(?<request_path>.*?(?=")).*host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))"#,
    ),
    ("R16", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*status=(?<status>.*?(?= ))"),
    (
        "R17",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*dyno=(?<dyno>.*?(?= )).*bytes=(?<bytes>.*?(?= ))",
    ),
    (
        "R18",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*(?<dyno>(?<=dyno\=).*?(?= )).*(?<status_code>(?<=status\=).*?(?= ))",
    ),
    ("R20", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*request_id=(?<request_id>.*?(?= ))"),
    ("A1", &[Kind::Router, Kind::Memory, Kind::Load], r" dyno=(.*?) "),
    (
        "P1 memory",
        MEMORY,
        r"memory_total=(.*?)MB.*memory_rss=(.*?)MB.*memory_pgpgout=(.*?)pages.*memory_quota=(.*?)MB",
    ),
    ("P1 load", LOAD, r"load_avg_1m=(.*?) .*load_avg_5m=(.*?) .*load_avg_15m=(.*)"),
    ("P1 router", ROUTER, r#"at=(.*?) .* host=(.*?) .* fwd="(.*?)".* status=(.*?) .*bytes=(.*?) "#),
    ("P2", SAMPLES, r"source=\w+\..*sample#(?:load_avg_1m=(.*?) |memory_total=(.*?)MB)"),
    ("P3", ANY, r"^\d+\s<\d{1,3}>\d{0,2}\s(\S+)\shost\s\S+\s"),
    ("P3 sample", SAMPLES, r"heroku\s\w+\.\d+\s-\ssource=\w+\.\d+\sdyno=heroku\."),
    ("P3 state", &[Kind::State], r"State changed from \w+ to (?<state>\w+)$"),
    ("P3 exit", &[Kind::Exit], r"Process exited with status (?<exit_code>\w+)$"),
    ("P3 error", &[Kind::Code], r"Error (?<code>\w+) \((?<desc>.+)\)"),
    ("P3 status", ROUTER, r"status=(?<status>\d{3})\s"),
    ("P4", ANY, r">1 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.\d+\+\d{2}:\d{2}).+"),
    (
        "P5",
        ANY,
        r"^([0-9]+)\s+<(?<pri>[0-9]+)>[0-9]* (?<time>[^ ]*) (?<drain_id>[^ ]*) (?<ident>[a-zA-Z0-9_\/\.\-]*) (?<pid>[a-zA-Z0-9\.]+)? *- *(?<message>.*)$",
    ),
    (
        "P6 memory",
        MEMORY,
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#memory_total=([^ ]+)MB sample#memory_rss=([^ ]+)MB sample#memory_cache=([^ ]+)MB sample#memory_swap=([^ ]+)MB sample#memory_pgpgin=([^ ]+)pages sample#memory_pgpgout=([^ ]+)pages sample#memory_quota=([^ ]+)MB",
    ),
    (
        "P6 load",
        LOAD,
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#load_avg_1m=([^ ]+) sample#load_avg_5m=([^ ]+) sample#load_avg_15m=([^ ]+)",
    ),
    ("P7 memory", MEMORY, r"sample#memory_total=(\d+\.\d*)"),
    ("P7 load", LOAD, r"sample#load_avg_1m=(\d+\.\d+)"),
    ("P7 code", &[Kind::Code], r"Error ([HLR]\d+)"),
];

/// The router answers some requests without a dyno, and then leaves `connect=` and others empty.
const ERRORS_ONLY: Parser = (
    "R19",
    ROUTER,
    r#"at=(?<log_level>.*(?=)).code=(?<error_code>.*?(?= )).desc="(?<d>.*?(?="))..method=(?<m>.*?(?= )).path="(?<p>.*?(?=")).*host=(?<app_name>.*(?=.herokuapp.com)).*request_id=(?<id>.*?(?= )).fwd="(?<ip>.*(?=")).*dyno=(?<dyno>.*?(?= )).*connect=(?<c>.*?(?= )).*service=(?<s>.*?(?= )).*status=(?<st>.*?(?= )).*bytes=(?<b>.*?(?= )).*protocol=(?<pr>.*?(?=$))"#,
);

static COMPILED: LazyLock<Vec<(Parser, Regex)>> = LazyLock::new(|| {
    let all = PARSERS.iter().copied().chain([ERRORS_ONLY]);
    all.map(|parser| (parser, Regex::new(parser.2).expect("constants that a test compiles"))).collect()
});

/// One parser.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Match {
    /// Lines that it was made for, and matched.
    pub matched: u64,
    /// Lines that it was made for, and did not match.
    pub missed: u64,
    /// The last of those.
    pub example: Option<String>,
}

/// All parsers.
#[derive(Clone, Debug, Serialize)]
pub struct Parity {
    /// Lines that were looked at.
    pub looked_at: u64,
    /// Lines beyond 20 of a kind in a second, which were not.
    pub skipped: u64,
    /// By name.
    pub parsers: BTreeMap<&'static str, Match>,
    #[serde(skip)]
    budget: BTreeMap<Kind, u32>,
    #[serde(skip)]
    second: u64,
}

impl Default for Parity {
    fn default() -> Self {
        let parsers = COMPILED.iter().map(|((name, ..), _)| (*name, Match::default())).collect();
        Self { looked_at: 0, skipped: 0, parsers, budget: BTreeMap::new(), second: 0 }
    }
}

impl Parity {
    /// Looks at the bytes of a frame; its LF is taken off, as receivers do.
    pub(crate) fn line(&mut self, kind: Kind, raw: &[u8], second: u64) {
        if self.second != second {
            self.second = second;
            self.budget.clear();
        }
        let used = self.budget.entry(kind).or_default();
        *used += 1;
        let is_over = *used > PER_SECOND;
        let Ok(text) = std::str::from_utf8(raw) else { return };
        if is_over {
            self.skipped += 1;
            return;
        }
        self.looked_at += 1;
        let text = text.trim_end_matches('\n');
        // A young dyno's line has not all three loads yet, also from the platform: no parser was made for it.
        let is_young = kind == Kind::Load && !text.contains("load_avg_15m=");
        for ((name, kinds, _), regex) in COMPILED.iter() {
            let is_made_for = kinds.is_empty() || kinds.contains(&kind);
            if !is_made_for || (*name == ERRORS_ONLY.0 && !text.contains(" code=")) {
                continue;
            }
            let found = self.parsers.entry(*name).or_default();
            if regex.is_match(text).unwrap_or_default() {
                found.matched += 1;
            } else if !is_young {
                found.missed += 1;
                found.example = Some(text.chars().take(300).collect());
            }
        }
    }
}

/// The expression of a parser.
pub(crate) fn expression(name: &str) -> &'static str {
    COMPILED.iter().find(|((known, ..), _)| *known == name).map_or("", |((.., text), _)| text)
}
