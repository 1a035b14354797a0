//! Published parsers of Logplex lines, and the kinds of lines to which each applies.
//!
//! Names and expressions are those of Sumo Logic's app for Heroku (R, A) and of others: its older community app
//! (P1), a Rails dashboard for Sumo Logic (P2), Splunk's app (P3), Graylog's content pack (P4), fluentd's plugin (P5),
//! `CloudWatch` forwarders (P6), small tools (P7), Logstash's Heroku input (P8), a Papertrail alert (P9), and Vector's
//! source. Anchors (`at=* `) and phrases are written as expressions. Ruby's `\<` is written `<` here, because in this
//! engine it matches the start of a word.

use crate::model::kind::LineKind;

/// A published parser.
#[derive(Debug)]
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    /// The kinds of lines that it must match; empty for all.
    kinds: &'static [LineKind],
    /// Only lines with this text must match: the router leaves some fields empty.
    required_text: &'static str,
    /// The published expression.
    pub(crate) expression: &'static str,
    /// A group, and an expression for its capture: `.*` can match more than the value that its users expect.
    pub(crate) capture_check: Option<(&'static str, &'static str)>,
    /// Whether it parses the output of `heroku logs --tail` instead of frames.
    pub(crate) reads_tail: bool,
}

impl Parser {
    const fn new(name: &'static str, kinds: &'static [LineKind], expression: &'static str) -> Self {
        Self { name, kinds, required_text: "", expression, capture_check: None, reads_tail: false }
    }

    const fn requires(self, required_text: &'static str) -> Self {
        Self { required_text, ..self }
    }

    const fn captures(self, group: &'static str, expression: &'static str) -> Self {
        Self { capture_check: Some((group, expression)), ..self }
    }

    const fn for_tail(self) -> Self {
        Self { reads_tail: true, ..self }
    }

    /// Whether it must match a line.
    pub(crate) fn applies_to(&self, kind: LineKind, text: &str) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind)) && text.contains(self.required_text)
    }
}

const ANY: &[LineKind] = &[];
const APP: &[LineKind] = &[LineKind::App];
const ROUTER: &[LineKind] = &[LineKind::Router];
const MEMORY: &[LineKind] = &[LineKind::Memory];
const LOAD: &[LineKind] = &[LineKind::Load];
const SAMPLES: &[LineKind] = &[LineKind::Memory, LineKind::Load];
const STATE: &[LineKind] = &[LineKind::State];
const EXIT: &[LineKind] = &[LineKind::Exit];
const CODE: &[LineKind] = &[LineKind::Code];
const DYNO: &[LineKind] = &[
    LineKind::Memory,
    LineKind::Load,
    LineKind::Sample,
    LineKind::State,
    LineKind::Exit,
    LineKind::Code,
    LineKind::Platform,
];
const API: &[LineKind] = &[
    LineKind::Scaling,
    LineKind::Deploy,
    LineKind::Release,
    LineKind::Build,
    LineKind::Config,
    LineKind::Api,
];
const BY_USER: &[LineKind] = &[LineKind::Scaling, LineKind::Deploy, LineKind::Release, LineKind::Config];
/// In lines of requests that a dyno answered; otherwise the router leaves `connect=`, `service=` and others empty.
const ANSWERED: &str = "ms status=";

/// All parsers.
pub(crate) const PARSERS: &[Parser] = &[
    Parser::new("R1", ANY, r"host (?<host>.*?(?= ))"),
    Parser::new("R2", ANY, r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)"),
    Parser::new("R3", &[LineKind::Deploy], r"Deploy (?<commit_id>.*?(?= )) by user (?<user>.*)")
        .captures("user", r"\S+"),
    Parser::new("R4", &[LineKind::Release], r"Release (?<app_version>.*?(?= )) created by user (?<user>.*)")
        .captures("user", r"\S+"),
    Parser::new("R5", &[LineKind::Scaling], r"Scaled to (?<dyno>.*(?= by)).*user (?<user>.*)")
        .captures("user", r"\S+"),
    Parser::new("R6", STATE, r"State changed from (?<first_state>.*?(?= )) to (?<second_state>.*)")
        .captures("second_state", r"\S+"),
    Parser::new("R7", EXIT, r"Process exited with status (?<status>.*)").captures("status", r"\d+"),
    Parser::new(
        "R8",
        LOAD,
        r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= )).*load_avg_5m=(?<b>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))",
    )
    .captures("c", r"\d+\.\d+"),
    Parser::new(
        "R9",
        MEMORY,
        r"dyno=(?<dyno>.*?(?= )).*memory_total=(?<t>.*?(?=MB )).*memory_rss=(?<r>.*?(?=MB )).*memory_cache=(?<c>.*?(?=MB )).*memory_swap=(?<s>.*?(?=MB ))",
    ),
    Parser::new("R9q", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_quota=(?<memory_quota>.*?(?=MB))"),
    Parser::new("R10 in", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_pgpgin=(?<p>.*?(?=pages ))"),
    Parser::new("R10 out", MEMORY, r"dyno=(?<dyno>.*?(?= )).*memory_pgpgout=(?<p>.*?(?=pages ))"),
    Parser::new("R11", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*connect=(?<connect>.*?(?= ))"),
    Parser::new("R12", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))"),
    Parser::new(
        "R13",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*connect=(?<connect>.*?(?= )).*service=(?<service>.*?(?= ))",
    ),
    Parser::new(
        "R14",
        ROUTER,
        r"method=(?<request_type>.*?(?= )).*host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))",
    ),
    Parser::new(
        "R15",
        ROUTER,
        r#"path="(?<request_path>.*?(?=")).*host=(?<app_name>.*(?=.herokuapp.com)).*service=(?<service>.*?(?= ))"#,
    ),
    Parser::new("R16", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*status=(?<status>.*?(?= ))")
        .captures("status", r"\d{3}"),
    Parser::new(
        "R17",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*dyno=(?<dyno>.*?(?= )).*bytes=(?<bytes>.*?(?= ))",
    ),
    Parser::new(
        "R18",
        ROUTER,
        r"host=(?<app_name>.*(?=.herokuapp.com)).*(?<dyno>(?<=dyno\=).*?(?= )).*(?<status_code>(?<=status\=).*?(?= ))",
    ),
    Parser::new(
        "R19",
        ROUTER,
        r#"at=(?<log_level>.*(?=)).code=(?<error_code>.*?(?= )).desc="(?<d>.*?(?="))..method=(?<m>.*?(?= )).path="(?<p>.*?(?=")).*host=(?<app_name>.*(?=.herokuapp.com)).*request_id=(?<id>.*?(?= )).fwd="(?<ip>.*(?=")).*dyno=(?<dyno>.*?(?= )).*connect=(?<c>.*?(?= )).*service=(?<s>.*?(?= )).*status=(?<st>.*?(?= )).*bytes=(?<b>.*?(?= )).*protocol=(?<pr>.*?(?=$))"#,
    )
    .requires(" code="),
    Parser::new("R20", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*request_id=(?<request_id>.*?(?= ))"),
    Parser::new("A1", &[LineKind::Router, LineKind::Memory, LineKind::Load], r" dyno=(.*?) "),
    Parser::new(
        "P1 router",
        ROUTER,
        r#"^(?=.* dyno=(.*?) )(?=.*at=(.*?) )(?=.* status=(.*?) )(?=.* host=(.*?) )(?=.*path="(.*?)")(?=.* fwd="(.*?)")(?=.*bytes=(.*?) )"#,
    ),
    Parser::new("P1 error", ROUTER, r#"desc="(.*?)""#).requires(" code="),
    Parser::new(
        "P1 memory",
        MEMORY,
        r"^(?=.* dyno=(.*?) )(?=.*memory_total=(.*?)MB)(?=.*memory_rss=(.*?)MB)(?=.*memory_pgpgout=(.*?)pages)(?=.*memory_quota=(.*?)MB)",
    ),
    Parser::new(
        "P1 load",
        LOAD,
        r"^(?=.* dyno=(.*?) )(?=.*load_avg_1m=(.*?) )(?=.*load_avg_5m=(.*?) )(?=.*load_avg_15m=(.*))",
    ),
    Parser::new("P2 memory", MEMORY, r"source=web\..*sample#memory_total=(.*?)MB").requires(" web."),
    Parser::new("P2 load", LOAD, r"source=web\..*sample#load_avg_1m=(.*?) ").requires(" web."),
    Parser::new("P2 worker", APP, r"host app worker\.").requires(" worker."),
    Parser::new("P3 strip", ANY, r"^\d+\s<\d{1,3}>\d{0,2}\s(\S+)\shost"),
    Parser::new("P3 router", ROUTER, r"^\d+\s<\d{1,3}>\d{0,2}\s\S+\shost\sheroku\srouter"),
    Parser::new("P3 dyno", DYNO, r"^\d+\s<\d{1,3}>\d{0,2}\s\S+\shost\sheroku\s(?!router)"),
    Parser::new("P3 api", API, r"^\d+\s<\d{1,3}>\d{0,2}\s\S+\shost\sapp\sapi"),
    Parser::new("P3 app", APP, r"^\d+\s<\d{1,3}>\d{0,2}\s\S+\shost\sapp\s(?!api)"),
    Parser::new("P3 time", ANY, r"^\d+\s<\d{1,3}>\d\s\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d\s"),
    Parser::new("P3 sample", SAMPLES, r"heroku\s\w+\.\d+\s-\ssource=\w+\.\d+\sdyno=heroku\."),
    Parser::new("P3 state", STATE, r"State changed from \w+ to (?<state>\w+)$"),
    Parser::new("P3 exit", EXIT, r"Process exited with status (?<exit_code>\w+)$"),
    Parser::new("P3 error", CODE, r"Error (?<code>\w+) \((?<desc>.+)\)"),
    Parser::new("P3 status", ROUTER, r"status=(?<status>\d{3})\s"),
    Parser::new("P3 duration", ROUTER, r"service=(?<duration>\d+)ms").requires(ANSWERED),
    Parser::new("P3 uri_path", ROUTER, r#"path="(?<uri_path>[^#?"]+)\S*""#),
    Parser::new("P3 user", BY_USER, r"by user (?<user>\S+)").requires(" user "),
    Parser::new("P3 release", &[LineKind::Release], r"Release (?<release>v\d+)"),
    Parser::new("P3 deploy", &[LineKind::Deploy], r"Deploy (?<deploy>\S+)"),
    Parser::new("P3 scale", &[LineKind::Scaling], r"Scaled to (?<scale>\S+)"),
    Parser::new("P3 config_vars", &[LineKind::Config], r"(?:Set|Remove) (?<config_vars>.+) config vars"),
    Parser::new("P3 command", &[LineKind::Platform], r"command `(?<command>[^`]+)`").requires("Starting process with"),
    Parser::new("P4 pri", ANY, r"\d <(.+)>"),
    Parser::new("P4 time", ANY, r">1 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.\d+\+\d{2}:\d{2}).+"),
    Parser::new("P4 connect", ROUTER, r"connect=(.+?)ms(\s|$)").requires(ANSWERED),
    Parser::new("P4 service", ROUTER, r"service=(.+?)ms(\s|$)").requires(ANSWERED),
    Parser::new("P4 fwd", ROUTER, r#"fwd="*(.+?)"*(\s|$)"#),
    Parser::new(
        "P5",
        ANY,
        r"^([0-9]+)\s+<(?<pri>[0-9]+)>[0-9]* (?<time>[^ ]*) (?<drain_id>[^ ]*) (?<ident>[a-zA-Z0-9_\/\.\-]*) (?<pid>[a-zA-Z0-9\.]+)? *- *(?<message>.*)$",
    ),
    Parser::new(
        "P6 memory",
        MEMORY,
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#memory_total=([^ ]+)MB sample#memory_rss=([^ ]+)MB sample#memory_cache=([^ ]+)MB sample#memory_swap=([^ ]+)MB sample#memory_pgpgin=([^ ]+)pages sample#memory_pgpgout=([^ ]+)pages sample#memory_quota=([^ ]+)MB",
    ),
    Parser::new(
        "P6 load",
        LOAD,
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#load_avg_1m=([^ ]+) sample#load_avg_5m=([^ ]+) sample#load_avg_15m=([^ ]+)",
    ),
    Parser::new("P7 memory", MEMORY, r"sample#memory_total=(\d+\.\d*)"),
    Parser::new("P7 load", LOAD, r"sample#load_avg_1m=(\d+\.\d+)"),
    Parser::new("P7 router", ROUTER, r"dyno=(\S+)\s+connect=(\d+)ms\s+service=(\d+)ms\s+status=(\d+)")
        .requires(ANSWERED),
    Parser::new("P7 at", ROUTER, r"at=error code=(\S+)").requires("at=error"),
    Parser::new("P7 H", ROUTER, r"code=(H\d+)").requires(" code="),
    Parser::new("P7 R", CODE, r"Error (R\d+)").requires(" - Error R"),
    Parser::new(
        "P8",
        ANY,
        r"^(?<timestamp>\d{4}-\d\d-\d\d[T ]\d\d:?\d\d(?::?\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?) (?<component>\b\w+\b)\[(?<process>\b\w+\b)(?:\.(?<instance>[+-]?\d+))?\]: (?<message>.*?)$",
    )
    .for_tail(),
    Parser::new("P9 router", ROUTER, r"error code=H").requires("at=error"),
    Parser::new("P9 H27", ROUTER, r"warning code=H27").requires("at=warning code=H27"),
    Parser::new("P9 dyno", CODE, r"Error R|Error L"),
    Parser::new(
        "Vector",
        ANY,
        r"^(\d+) <(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) (.*)$",
    ),
];
