//! The parsers of our lines that receivers publish, and the lines that each is made for.
//!
//! Names and expressions are those of Sumo Logic's app for Heroku (R, A) and of others: its older community app
//! (P1), a Rails dashboard for Sumo Logic (P2), Splunk's app (P3), Graylog's content pack (P4), fluentd's plugin (P5),
//! `CloudWatch` forwarders (P6), small tools (P7), Logstash's Heroku input (P8), a Papertrail alert (P9), and Vector's
//! source. Anchors (`at=* `) and phrases are written as expressions. Ruby's `\<` is written `<` here: to this engine
//! it would be the start of a word.

use crate::model::kind::Kind;

/// One parser.
#[derive(Debug)]
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    /// The kinds of lines that it must match; none: all of them.
    kinds: &'static [Kind],
    /// Of those only lines with this text: the router leaves some fields empty.
    needs: &'static str,
    /// As it is published.
    pub(crate) expression: &'static str,
    /// A group, and what it must have taken: `.*` matches more than what is meant, and its readers then compare.
    pub(crate) clean: Option<(&'static str, &'static str)>,
    /// It reads `heroku logs --tail`, not a drain.
    pub(crate) reads_tail: bool,
}

impl Parser {
    const fn new(name: &'static str, kinds: &'static [Kind], expression: &'static str) -> Self {
        Self { name, kinds, needs: "", expression, clean: None, reads_tail: false }
    }

    const fn needs(self, needs: &'static str) -> Self {
        Self { needs, ..self }
    }

    const fn clean(self, group: &'static str, text: &'static str) -> Self {
        Self { clean: Some((group, text)), ..self }
    }

    const fn of_tail(self) -> Self {
        Self { reads_tail: true, ..self }
    }

    /// Whether it must match a line of this kind.
    pub(crate) fn is_made_for(&self, kind: Kind, text: &str) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind)) && text.contains(self.needs)
    }
}

const ANY: &[Kind] = &[];
const APP: &[Kind] = &[Kind::App];
const ROUTER: &[Kind] = &[Kind::Router];
const MEMORY: &[Kind] = &[Kind::Memory];
const LOAD: &[Kind] = &[Kind::Load];
const SAMPLES: &[Kind] = &[Kind::Memory, Kind::Load];
const STATE: &[Kind] = &[Kind::State];
const EXIT: &[Kind] = &[Kind::Exit];
const CODE: &[Kind] = &[Kind::Code];
const DYNO: &[Kind] =
    &[Kind::Memory, Kind::Load, Kind::Sample, Kind::State, Kind::Exit, Kind::Code, Kind::Platform];
const API: &[Kind] = &[Kind::Scaling, Kind::Deploy, Kind::Release, Kind::Build, Kind::Config, Kind::Api];
const BY_USER: &[Kind] = &[Kind::Scaling, Kind::Deploy, Kind::Release, Kind::Config];
/// A request that a dyno answered: the router leaves `connect=`, `service=` and others empty where there was none.
const ANSWERED: &str = "ms status=";

/// All of them.
pub(crate) const PARSERS: &[Parser] = &[
    Parser::new("R1", ANY, r"host (?<host>.*?(?= ))"),
    Parser::new("R2", ANY, r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)"),
    Parser::new("R3", &[Kind::Deploy], r"Deploy (?<commit_id>.*?(?= )) by user (?<user>.*)")
        .clean("user", r"\S+"),
    Parser::new("R4", &[Kind::Release], r"Release (?<app_version>.*?(?= )) created by user (?<user>.*)")
        .clean("user", r"\S+"),
    Parser::new("R5", &[Kind::Scaling], r"Scaled to (?<dyno>.*(?= by)).*user (?<user>.*)")
        .clean("user", r"\S+"),
    Parser::new("R6", STATE, r"State changed from (?<first_state>.*?(?= )) to (?<second_state>.*)")
        .clean("second_state", r"\S+"),
    Parser::new("R7", EXIT, r"Process exited with status (?<status>.*)").clean("status", r"\d+"),
    Parser::new(
        "R8",
        LOAD,
        r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= )).*load_avg_5m=(?<b>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))",
    )
    .clean("c", r"\d+\.\d+"),
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
        .clean("status", r"\d{3}"),
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
    .needs(" code="),
    Parser::new("R20", ROUTER, r"host=(?<app_name>.*(?=.herokuapp.com)).*request_id=(?<request_id>.*?(?= ))"),
    Parser::new("A1", &[Kind::Router, Kind::Memory, Kind::Load], r" dyno=(.*?) "),
    Parser::new(
        "P1 router",
        ROUTER,
        r#"^(?=.* dyno=(.*?) )(?=.*at=(.*?) )(?=.* status=(.*?) )(?=.* host=(.*?) )(?=.*path="(.*?)")(?=.* fwd="(.*?)")(?=.*bytes=(.*?) )"#,
    ),
    Parser::new("P1 error", ROUTER, r#"desc="(.*?)""#).needs(" code="),
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
    Parser::new("P2 memory", MEMORY, r"source=web\..*sample#memory_total=(.*?)MB").needs(" web."),
    Parser::new("P2 load", LOAD, r"source=web\..*sample#load_avg_1m=(.*?) ").needs(" web."),
    Parser::new("P2 worker", APP, r"host app worker\.").needs(" worker."),
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
    Parser::new("P3 duration", ROUTER, r"service=(?<duration>\d+)ms").needs(ANSWERED),
    Parser::new("P3 uri_path", ROUTER, r#"path="(?<uri_path>[^#?"]+)\S*""#),
    Parser::new("P3 user", BY_USER, r"by user (?<user>\S+)").needs(" user "),
    Parser::new("P3 release", &[Kind::Release], r"Release (?<release>v\d+)"),
    Parser::new("P3 deploy", &[Kind::Deploy], r"Deploy (?<deploy>\S+)"),
    Parser::new("P3 scale", &[Kind::Scaling], r"Scaled to (?<scale>\S+)"),
    Parser::new("P3 config_vars", &[Kind::Config], r"(?:Set|Remove) (?<config_vars>.+) config vars"),
    Parser::new("P3 command", &[Kind::Platform], r"command `(?<command>[^`]+)`").needs("Starting process with"),
    Parser::new("P4 pri", ANY, r"\d <(.+)>"),
    Parser::new("P4 time", ANY, r">1 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.\d+\+\d{2}:\d{2}).+"),
    Parser::new("P4 connect", ROUTER, r"connect=(.+?)ms(\s|$)").needs(ANSWERED),
    Parser::new("P4 service", ROUTER, r"service=(.+?)ms(\s|$)").needs(ANSWERED),
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
        .needs(ANSWERED),
    Parser::new("P7 at", ROUTER, r"at=error code=(\S+)").needs("at=error"),
    Parser::new("P7 H", ROUTER, r"code=(H\d+)").needs(" code="),
    Parser::new("P7 R", CODE, r"Error (R\d+)").needs(" - Error R"),
    Parser::new(
        "P8",
        ANY,
        r"^(?<timestamp>\d{4}-\d\d-\d\d[T ]\d\d:?\d\d(?::?\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?) (?<component>\b\w+\b)\[(?<process>\b\w+\b)(?:\.(?<instance>[+-]?\d+))?\]: (?<message>.*?)$",
    )
    .of_tail(),
    Parser::new("P9 router", ROUTER, r"error code=H").needs("at=error"),
    Parser::new("P9 H27", ROUTER, r"warning code=H27").needs("at=warning code=H27"),
    Parser::new("P9 dyno", CODE, r"Error R|Error L"),
    Parser::new(
        "Vector",
        ANY,
        r"^(\d+) <(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) (.*)$",
    ),
];
