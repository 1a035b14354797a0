//! Scripted faults: what goes wrong, how often, and when.

use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The grammar, for `--help` and for error messages.
pub const GRAMMAR: &str = "\
A fault is KIND[:MODIFIER…]; several are separated by commas or line ends.
  status=503            answer with this status; the body is read and thrown away
  too-large=100KiB      answer 413 to larger bodies
  reset-before          close the connection before the body is read
  reset-after           record the body, then close without an answer
  stall=30s             read the body, answer after this time
  slow-read=10KiB/s     read the body at this speed
  latency=200ms         answer later by this time
  close-after-answer    close the connection behind every answer
  idle=30s              close connections over which nothing came for this time
  json-problem          answer 200 with a JSON body that tells of a problem
  refuse                close the listening socket and all connections
  tls-stall             accept, and never say a word of TLS
  swallow               answer as ever and record nothing: a loss that nobody can announce
  deaf                  record all but the loss notices
  wrong-cert            show a certificate of another authority
Modifiers:
  :10%                  a share of the requests (of the connections for TLS faults)
  :n=3                  only the first so many
  :retry-after=5        with a status: the header, in seconds
  :retry-date=5         the same as a date, so many seconds from then on
  :@10s+20s             only from second 10 on, for 20 s
";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Answer with this status.
    Status(u16),
    /// Answer 413 to bodies of more bytes.
    TooLarge(u64),
    /// Close before the body is read.
    ResetBefore,
    /// Record the body, then close without an answer.
    ResetAfter,
    /// Answer only after this time.
    Stall(Duration),
    /// Read at so many bytes per second.
    SlowRead(u64),
    /// Answer later by this.
    Latency(Duration),
    /// Close behind the answer.
    CloseAfterAnswer,
    /// Close connections over which nothing came for this time.
    Idle(Duration),
    /// 200 with a problem in JSON.
    JsonProblem,
    /// Answer as ever, record nothing.
    Swallow,
    /// Take no note of loss notices.
    Deaf,
    /// Connections are refused.
    Refuse,
    /// TLS never starts.
    TlsStall,
    /// A certificate of another authority.
    WrongCert,
}

/// The two forms of `Retry-After` (RFC 9110 section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// The date so many seconds after the answer.
    Date(u64),
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// `Retry-After`.
    pub retry_after: Option<RetryAfter>,
    spec: String,
    share: f64,
    first: u64,
    window: Option<RangeInclusive<Duration>>,
    hits: u64,
    credit: f64,
}

/// A specification that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError {
    /// Offset of the part in the text.
    pub offset: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault at byte {}: expected {}", self.offset, self.expected)
    }
}

impl std::error::Error for FaultError {}

/// A fault, and what it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct State<'a> {
    /// As it was written.
    pub spec: &'a str,
    /// How often it has struck.
    pub hits: u64,
    /// `waits`, `in force`, `over`.
    pub state: &'static str,
}

/// The faults in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan(Vec<Fault>);

fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    let scale = match &text[end..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * scale).ok()
}

fn size(text: &str) -> Option<u64> {
    let (number, scale) = match text.strip_suffix("KiB") {
        Some(number) => (number, 1024),
        None => (text.strip_suffix("B")?, 1),
    };
    number.parse::<u64>().ok().map(|n| n * scale).filter(|size| *size > 0)
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// [`FaultError`] with the offset of the first part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let mut faults = Vec::new();
        let mut offset = 0;
        for spec in text.split([',', '\n']) {
            let lead = spec.len() - spec.trim_start().len();
            if !spec.trim().is_empty() {
                faults.push(fault(spec.trim(), offset + lead)?);
            }
            offset += spec.len() + 1;
        }
        Ok(Self(faults))
    }

    /// The first fault that `fits` and strikes now, `at` being the time since the plan was made.
    pub fn strike(&mut self, at: Duration, fits: impl Fn(Kind) -> bool) -> Option<Fault> {
        self.0.iter_mut().find_map(|fault| (fits(fault.kind) && fault.strikes(at)).then(|| fault.clone()))
    }

    /// Whether nothing is to go wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the faults of another plan, which was made `at` this time of this one.
    pub fn add(&mut self, other: Self, at: Duration) {
        self.0.extend(other.0.into_iter().map(|fault| {
            let later = |window: RangeInclusive<Duration>| *window.start() + at..=*window.end() + at;
            Fault { window: fault.window.map(later), ..fault }
        }));
    }

    /// Becomes another plan, which was made `at` this time of this one; a fault that both have goes on as it is.
    pub fn change(&mut self, other: Self, at: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for fault in other.0 {
            match before.iter().position(|known| known.spec == fault.spec) {
                Some(known) => self.0.push(before.swap_remove(known)),
                None => self.add(Self(vec![fault]), at),
            }
        }
    }

    /// What each fault is at now, `at` being the time since the plan was made.
    pub fn states(&self, at: Duration) -> impl Iterator<Item = State<'_>> {
        self.0.iter().map(move |fault| State {
            spec: &fault.spec,
            hits: fault.hits,
            state: match &fault.window {
                _ if fault.hits >= fault.first => "over",
                Some(window) if at < *window.start() => "waits",
                Some(window) if at > *window.end() => "over",
                _ => "in force",
            },
        })
    }

    /// The faults that may strike at `at`, as they were written.
    pub fn in_force(&self, at: Duration) -> impl Iterator<Item = (Kind, &str)> {
        let open = self.0.iter().filter(move |fault| fault.is_open(at) && fault.hits < fault.first);
        open.map(|fault| (fault.kind, fault.spec.as_str()))
    }

    /// The kinds of those that were in force at some time until `at`.
    pub fn begun(&self, at: Duration) -> impl Iterator<Item = Kind> {
        let has_begun =
            move |fault: &&Fault| fault.window.as_ref().is_none_or(|window| *window.start() <= at);
        self.0.iter().filter(has_begun).map(|fault| fault.kind)
    }

    /// Whether connections are refused at `at`.
    pub fn refuses(&self, at: Duration) -> bool {
        self.0.iter().any(|fault| fault.kind == Kind::Refuse && fault.is_open(at))
    }
}

impl Fault {
    fn is_open(&self, at: Duration) -> bool {
        self.window.as_ref().is_none_or(|window| window.contains(&at))
    }

    fn strikes(&mut self, at: Duration) -> bool {
        if !self.is_open(at) || self.hits >= self.first {
            return false;
        }
        // Evenly spread, so that a run can be repeated.
        self.credit += self.share;
        if self.credit < 1.0 {
            return false;
        }
        self.credit -= 1.0;
        self.hits += 1;
        true
    }
}

fn fault(spec: &str, offset: usize) -> Result<Fault, FaultError> {
    let mut parts = spec.split(':');
    let kind_text = parts.next().unwrap_or("");
    let (name, value) = kind_text.split_once('=').unwrap_or((kind_text, ""));
    let fail = |offset, expected| Err(FaultError { offset, expected });
    let value_at = offset + name.len() + 1;
    let time =
        || duration(value).ok_or(FaultError { offset: value_at, expected: "a time such as 200ms or 30s" });
    let kind = match name {
        "status" => match value.parse() {
            Ok(status @ 200..=599) => Kind::Status(status),
            _ => return fail(value_at, "a status from 200 to 599"),
        },
        "too-large" => match size(value) {
            Some(size) => Kind::TooLarge(size),
            None => return fail(value_at, "a size such as 100KiB"),
        },
        "reset-before" => Kind::ResetBefore,
        "reset-after" => Kind::ResetAfter,
        "stall" => Kind::Stall(time()?),
        "latency" => Kind::Latency(time()?),
        "idle" => Kind::Idle(time()?),
        "slow-read" => match value.strip_suffix("/s").and_then(size) {
            Some(speed) => Kind::SlowRead(speed),
            None => return fail(value_at, "a speed such as 10KiB/s"),
        },
        "close-after-answer" => Kind::CloseAfterAnswer,
        "json-problem" => Kind::JsonProblem,
        "swallow" => Kind::Swallow,
        "deaf" => Kind::Deaf,
        "refuse" => Kind::Refuse,
        "tls-stall" => Kind::TlsStall,
        "wrong-cert" => Kind::WrongCert,
        _ => return fail(offset, "a kind of fault, such as status=503 (see --help)"),
    };
    let mut fault = Fault {
        kind,
        retry_after: None,
        spec: spec.to_owned(),
        share: 1.0,
        first: u64::MAX,
        window: None,
        hits: 0,
        credit: 0.0,
    };
    let mut at = offset + kind_text.len() + 1;
    for modifier in parts {
        if let Some(percent) = modifier.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
            fault.share = percent / 100.0;
        } else if let Some(first) = modifier.strip_prefix("n=").and_then(|first| first.parse().ok()) {
            fault.first = first;
        } else if let Some(after) = modifier.strip_prefix("retry-after=").and_then(|after| after.parse().ok())
        {
            fault.retry_after = Some(RetryAfter::Seconds(after));
        } else if let Some(after) = modifier.strip_prefix("retry-date=").and_then(|after| after.parse().ok())
        {
            fault.retry_after = Some(RetryAfter::Date(after));
        } else if let Some((from, length)) =
            modifier.strip_prefix('@').and_then(|window| window.split_once('+'))
            && let (Some(from), Some(length)) = (duration(from), duration(length))
        {
            fault.window = Some(from..=from + length);
        } else {
            return fail(at, "a modifier: 10%, n=3, retry-after=5, retry-date=5 or @10s+20s");
        }
        at += modifier.len() + 1;
    }
    Ok(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_strike_as_they_say() {
        let mut plan = Plan::parse("status=503:25%:n=2, refuse:@10s+20s\nlatency=200ms").expect("good");
        let hits =
            (0..20).filter(|_| plan.strike(Duration::ZERO, |k| k == Kind::Status(503)).is_some()).count();
        assert_eq!(hits, 2);
        assert!(!plan.refuses(Duration::from_secs(9)) && plan.refuses(Duration::from_secs(10)));
        assert!(plan.refuses(Duration::from_secs(30)) && !plan.refuses(Duration::from_secs(31)));
        let latency = plan.strike(Duration::ZERO, |kind| matches!(kind, Kind::Latency(_))).expect("always");
        assert_eq!(latency.kind, Kind::Latency(Duration::from_millis(200)));
    }

    #[test]
    fn what_is_in_force_is_told_and_what_was() {
        let mut plan = Plan::parse("status=503:n=1, refuse:@10s+20s, swallow:@50s+1s").expect("good");
        let kinds = |plan: &Plan, at| -> Vec<Kind> {
            plan.in_force(Duration::from_secs(at)).map(|(kind, _)| kind).collect()
        };
        assert_eq!(kinds(&plan, 0), [Kind::Status(503)]);
        assert_eq!(kinds(&plan, 15), [Kind::Status(503), Kind::Refuse]);
        assert!(plan.strike(Duration::ZERO, |kind| kind == Kind::Status(503)).is_some());
        assert_eq!(kinds(&plan, 31), []);
        assert_eq!(
            plan.begun(Duration::from_secs(31)).collect::<Vec<_>>(),
            [Kind::Status(503), Kind::Refuse]
        );
    }

    #[test]
    fn what_stays_in_the_plan_goes_on() {
        let second = Duration::from_secs;
        let mut plan = Plan::parse("status=503:n=2,latency=1s:@10s+20s").expect("good");
        plan.strike(second(1), |kind| kind == Kind::Status(503)).expect("the first of two");
        let other = Plan::parse("refuse:@1s+1s,status=503:n=2,latency=1s:@10s+20s").expect("good");
        plan.change(other, second(5));
        assert!(plan.strike(second(6), |kind| kind == Kind::Status(503)).is_some(), "the second of two");
        assert!(plan.strike(second(6), |kind| kind == Kind::Status(503)).is_none());
        let states: Vec<_> =
            plan.states(second(12)).map(|state| (state.spec, state.hits, state.state)).collect();
        let wanted = [
            ("refuse:@1s+1s", 0, "over"),
            ("status=503:n=2", 2, "over"),
            ("latency=1s:@10s+20s", 0, "in force"),
        ];
        assert_eq!(states, wanted);
        assert!(plan.refuses(second(6)) && plan.refuses(second(7)) && !plan.refuses(second(8)));
        plan.change(Plan::parse("status=503:n=2,status=503:n=2").expect("good"), second(20));
        let left: Vec<_> = plan.states(second(20)).map(|state| (state.hits, state.state)).collect();
        assert_eq!(left, [(2, "over"), (0, "in force")]);
    }

    #[test]
    fn errors_name_the_byte() {
        for (text, offset) in
            [("frobnicate", 0), ("status=9", 7), ("reset-before, stall=x", 20), ("refuse:often", 7)]
        {
            assert_eq!(Plan::parse(text).expect_err(text).offset, offset, "{text}");
        }
    }
}
