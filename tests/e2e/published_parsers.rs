//! Published parsers of Heroku's platform lines, which must also parse the agent's.
//!
//! The expressions are those of Sumo Logic's app for Heroku, of Splunk's recipe, of Vector and of others.

use fancy_regex::Regex;
use tailrace_drain::stats::Line;

/// A frame as the drain decoded it and as it was sent.
#[derive(Debug)]
pub(crate) struct ReceivedFrame {
    pub(crate) line: Line,
    /// The bytes of the frame, with LEN and without the final LF.
    pub(crate) raw: String,
}

/// A published expression for a sample line.
pub(crate) struct Parser {
    pub(crate) expression: &'static str,
    /// What its last group must capture, as an expression.
    pub(crate) captures: &'static str,
}

const fn parser(expression: &'static str, captures: &'static str) -> Parser {
    Parser { expression, captures }
}

/// A published expression for a lifecycle line.
pub(crate) struct LifecycleParser {
    /// The beginning of the messages that it applies to.
    pub(crate) prefix: &'static str,
    pub(crate) expression: &'static str,
    /// What its last group must capture; empty for the command of the app.
    pub(crate) captures: &'static str,
}

const fn lifecycle(
    prefix: &'static str,
    expression: &'static str,
    captures: &'static str,
) -> LifecycleParser {
    LifecycleParser { prefix, expression, captures }
}

/// For the load sample.
pub(crate) const LOAD: &[Parser] = &[
    parser(
        r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= )).*load_avg_5m=(?<b>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))",
        r"^\d+\.\d\d$",
    ),
    parser(r"dyno=(?<dyno>.*?(?= )).*load_avg_1m=(?<a>.*?(?= ))", r"^\d+\.\d\d$"),
    parser(r"dyno=(?<dyno>.*?(?= )).*load_avg_5m=(?<b>.*?(?= ))", r"^\d+\.\d\d$"),
    parser(r"dyno=(?<dyno>.*?(?= )).*load_avg_15m=(?<c>.*?(?=$))", r"^\d+\.\d\d$"),
    parser(
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#load_avg_1m=([^ ]+) sample#load_avg_5m=([^ ]+) sample#load_avg_15m=([^ ]+)",
        r"^\d+\.\d\d$",
    ),
    parser(r"sample#load_avg_1m=(\d+\.\d+)", r"^\d+\.\d\d$"),
    parser(r"load_avg_1m=(.*?) ", r"^\d+\.\d\d$"),
    parser(r"load_avg_5m=(.*?) ", r"^\d+\.\d\d$"),
    parser(r"load_avg_15m=(.*)", r"^\d+\.\d\d$"),
];
/// For the memory sample.
pub(crate) const MEMORY: &[Parser] = &[
    parser(
        r"dyno=(?<dyno>.*?(?= )).*memory_total=(?<t>.*?(?=MB )).*memory_rss=(?<r>.*?(?=MB )).*memory_cache=(?<c>.*?(?=MB )).*memory_swap=(?<s>.*?(?=MB ))",
        r"^\d+\.\d\d$",
    ),
    parser(r"dyno=(?<dyno>.*?(?= )).*memory_quota=(?<memory_quota>.*?(?=MB))", r"^512\.00$"),
    parser(r"dyno=(?<dyno>.*?(?= )).*memory_pgpgin=(?<p>.*?(?=pages ))", r"^\d+$"),
    parser(r"dyno=(?<dyno>.*?(?= )).*memory_pgpgout=(?<p>.*?(?=pages ))", r"^\d+$"),
    parser(
        r"source=(\w+[.]\d+) dyno=([^ ]+) sample#memory_total=([^ ]+)MB sample#memory_rss=([^ ]+)MB sample#memory_cache=([^ ]+)MB sample#memory_swap=([^ ]+)MB sample#memory_pgpgin=([^ ]+)pages sample#memory_pgpgout=([^ ]+)pages sample#memory_quota=([^ ]+)MB",
        r"^512\.00$",
    ),
    parser(r"sample#memory_total=(\d+\.\d*)", r"^\d+\.\d\d$"),
    parser(r"memory_total=(.*?)MB", r"^\d+\.\d\d$"),
    parser(r"memory_rss=(.*?)MB", r"^\d+\.\d\d$"),
    parser(r"memory_pgpgout=(.*?)pages", r"^\d+$"),
    parser(r"memory_quota=(.*?)MB", r"^512\.00$"),
];
/// For both samples.
pub(crate) const BOTH: &[Parser] = &[
    parser(r"host (?<host>.*?(?= ))", r"^heroku$"),
    parser(
        r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)",
        r"^source=web\.1 dyno=heroku\.0\.",
    ),
    parser(r" dyno=(.*?) ", r"^heroku\.0\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    parser(r"heroku\s(\w+\.\d+)\s-\ssource=\w+\.\d+\sdyno=heroku\.", r"^web\.1$"),
    parser(
        r"^([0-9]+)\s+<(?<pri>[0-9]+)>[0-9]* (?<time>[^ ]*) (?<drain_id>[^ ]*) (?<ident>[a-zA-Z0-9_\/\.\-]*) (?<pid>[a-zA-Z0-9\.]+)? *- *(?<message>.*)$",
        r"^source=web\.1 ",
    ),
    parser(r">1 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}.\d+\+\d{2}:\d{2}).+", r"^2"),
    parser(r"\d+\s<\d{1,3}>\d\s(\S+)\shost", r"^2"),
    parser(r"\d <(.+)>", r"^134$"),
    parser(r"source=(web\.)", r"^web\.$"),
    // Vector splits at the first seven spaces.
    parser(r"^(?:[^ ]* ){7}(.*)$", r"^source=web\.1 dyno="),
];
/// For lifecycle lines.
pub(crate) const LIFECYCLE: &[LifecycleParser] = &[
    lifecycle(
        "State changed from starting to up",
        r"State changed from (?<first_state>.*?(?= )) to (?<second_state>.*)",
        "up",
    ),
    lifecycle("State changed from starting to up", r"State changed from \w+ to (?<state>\w+)$", "up"),
    lifecycle("Process exited with status 3", r"Process exited with status (?<status>.*)", "3"),
    lifecycle("Process exited with status 3", r"Process exited with status (?<exit_code>\w+)$", "3"),
    lifecycle("Starting process", r"command `(?<command>[^`]+)`", ""),
    lifecycle("Error R14", r"Error (?<code>\w+) \((?<desc>.+)\)", "Memory quota exceeded"),
    lifecycle("Error R14", r"Error (R\d+)", "R14"),
    lifecycle(
        "Error R14",
        r"host (?<host>.*?(?= )) (?<component>.*?(?= )) - (?<error_message>.*)",
        "Error R14 (Memory quota exceeded)",
    ),
];

/// A frame after the transformation of Splunk's recipe for Heroku, which removes the part before the timestamp.
pub(crate) fn strip_as_splunk(raw: &str) -> String {
    let strip = Regex::new(r"^\d+\s<\d{1,3}>\d{0,2}\s(\S+)\shost").unwrap();
    strip.replace(raw, "$1").into_owned()
}

/// The keys of a sample line with their units, as l2met reads them: digits and one dot, then the unit
/// (`parser/tuple.go`).
pub(crate) fn l2met_units(message: &str) -> Vec<(&str, &str)> {
    let pairs = message.split(' ').filter_map(|pair| pair.strip_prefix("sample#")?.split_once('='));
    pairs
        .map(|(key, value)| {
            let unit = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
            value[..unit].parse::<f64>().unwrap();
            (key, &value[unit..])
        })
        .collect()
}

/// Whether Heroku's lumbermill accepts a frame (`drain.go`, `dyno_msg.go`): its timestamp, app and source.
pub(crate) fn lumbermill_accepts(frame: &ReceivedFrame) -> bool {
    let line = &frame.line;
    let time = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$").unwrap();
    let source = line.message.strip_prefix("source=").and_then(|rest| rest.split(' ').next());
    let is_error = Regex::new(r"^Error R\d\d ").unwrap().is_match(&line.message).unwrap();
    let is_of_web = source.is_some_and(|source| source.split('.').next() == Some("web"));
    time.is_match(&line.time).unwrap() && line.app == "heroku" && (is_of_web || is_error)
}

/// Whether LEN of a frame is right (RFC 6587 section 3.4.1): it counts the bytes after its space, with the LF.
pub(crate) fn has_correct_len(raw: &str) -> bool {
    let (len, rest) = raw.split_once(' ').unwrap();
    len.parse() == Ok(rest.len() + 1)
}

/// The last group that an expression captures.
pub(crate) fn last_capture(expression: &str, text: &str) -> String {
    let captures = Regex::new(expression).unwrap().captures(text).unwrap();
    let captures = captures.unwrap_or_else(|| panic!("{expression} does not match: {text}"));
    captures.iter().flatten().last().unwrap().as_str().to_owned()
}

/// Whether an expression matches.
pub(crate) fn matches(expression: &str, text: &str) -> bool {
    Regex::new(expression).unwrap().is_match(text).unwrap()
}
