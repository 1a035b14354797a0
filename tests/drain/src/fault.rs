//! Scripted faults: what fails, how often and when.

use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use tailrace::config::value;

/// The grammar, for `--help` and for error messages.
pub const GRAMMAR: &str = "\
A fault is KIND[:MODIFIER…]; several are separated by commas or line ends.
  status=503            answer with this status; the body is read and discarded
  too-large=100KiB      answer 413 to larger bodies
  reset-before          close the connection before the body is read
  reset-after           record the body, then close without an answer
  stall=30s             read the body, answer after this time
  slow-read=10KiB/s     read the body at this speed
  latency=200ms         delay the answer by this time
  close-after-answer    close the connection after every answer
  idle=30s              close connections without a request for this time
  json-problem          answer 200 with a JSON body that reports a problem
  refuse                close the listening socket and all connections
  tls-stall             accept the connection, but never start the TLS handshake
  swallow               answer 204 and record nothing: a loss that no notice can announce
  deaf                  record everything but the loss notices
  wrong-cert            present a certificate of another authority
Modifiers:
  :10%                  a share of the requests (of the connections for TLS faults)
  :n=3                  only the first 3
  :retry-after=5        with a status: the Retry-After header, in seconds
  :retry-date=5         the same header as a date, 5 seconds from the answer
  :@10s+20s             from second 10 on, for 20 s
";

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// Answer with this status.
    Status(u16),
    /// Answer 413 to bodies of more bytes.
    TooLarge(u64),
    /// Close the connection before the body is read.
    ResetBefore,
    /// Record the body, then close without an answer.
    ResetAfter,
    /// Read the body, answer after this time.
    Stall(Duration),
    /// Read the body at this speed, in bytes per second.
    SlowRead(u64),
    /// Delay the answer by this time.
    Latency(Duration),
    /// Close the connection after the answer.
    CloseAfterAnswer,
    /// Close connections without a request for this time.
    Idle(Duration),
    /// Answer 200 with a JSON body that reports a problem.
    JsonProblem,
    /// Answer 204 and record nothing.
    Swallow,
    /// Record everything but the loss notices (`deaf`).
    IgnoreLossNotices,
    /// Refuse connections.
    Refuse,
    /// Never start the TLS handshake.
    TlsStall,
    /// Present a certificate of another authority.
    WrongCert,
}

/// The two forms of `Retry-After` (RFC 9110 section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// A delay, in seconds.
    Seconds(u64),
    /// A date, this many seconds after the answer.
    Date(u64),
}

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// `Retry-After` of its answer.
    pub retry_after: Option<RetryAfter>,
    spec: String,
    share: f64,
    max_hits: u64,
    window: Option<RangeInclusive<Duration>>,
    hits: u64,
    credit: f64,
}

/// A specification that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError {
    /// Byte offset of the invalid part in the text.
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

/// Where a fault is in its window and its number of hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FaultPhase {
    /// Its window starts later.
    #[serde(rename = "waits")]
    Pending,
    /// It may strike.
    #[serde(rename = "in force")]
    Active,
    /// Its window or its number of hits is used up.
    #[serde(rename = "over")]
    Ended,
}

/// The state of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultState<'a> {
    /// The specification, as it was given.
    pub spec: &'a str,
    /// How often it has struck.
    pub hits: u64,
    /// Its phase.
    #[serde(rename = "state")]
    pub phase: FaultPhase,
}

/// A list of faults. Their windows count from the moment at which the plan becomes active; the methods get the time
/// since then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan(Vec<Fault>);

impl FaultPlan {
    /// Parses a plan.
    ///
    /// # Errors
    /// [`FaultError`] with the offset of the first part that cannot be parsed.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let mut faults = Vec::new();
        let mut offset = 0;
        for spec in text.split([',', '\n']) {
            let lead = spec.len() - spec.trim_start().len();
            if !spec.trim().is_empty() {
                faults.push(Fault::parse(spec.trim(), offset + lead)?);
            }
            offset += spec.len() + 1;
        }
        Ok(Self(faults))
    }

    /// The first fault that `matches` and strikes now; the hit is counted.
    pub fn strike(&mut self, elapsed: Duration, matches: impl Fn(FaultKind) -> bool) -> Option<Fault> {
        self.0.iter_mut().find_map(|fault| {
            let strikes = matches(fault.kind) && fault.strikes(elapsed);
            strikes.then(|| fault.clone())
        })
    }

    /// Whether the plan has no faults.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the faults of another plan; their windows count from `elapsed`.
    pub fn add(&mut self, other: Self, elapsed: Duration) {
        self.0.extend(other.0.into_iter().map(|fault| {
            let shift =
                |window: RangeInclusive<Duration>| *window.start() + elapsed..=*window.end() + elapsed;
            Fault { window: fault.window.map(shift), ..fault }
        }));
    }

    /// Replaces the faults by those of another plan, whose windows count from `elapsed`. A fault that is in both plans
    /// keeps its window and its hits.
    pub fn replace(&mut self, other: Self, elapsed: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for fault in other.0 {
            match before.iter().position(|known| known.spec == fault.spec) {
                Some(known) => self.0.push(before.swap_remove(known)),
                None => self.add(Self(vec![fault]), elapsed),
            }
        }
    }

    /// The state of each fault.
    pub fn states(&self, elapsed: Duration) -> impl Iterator<Item = FaultState<'_>> {
        self.0.iter().map(move |fault| FaultState {
            spec: &fault.spec,
            hits: fault.hits,
            phase: match &fault.window {
                _ if fault.hits >= fault.max_hits => FaultPhase::Ended,
                Some(window) if elapsed < *window.start() => FaultPhase::Pending,
                Some(window) if elapsed > *window.end() => FaultPhase::Ended,
                _ => FaultPhase::Active,
            },
        })
    }

    /// The faults that may strike now, with their specifications.
    pub fn in_force(&self, elapsed: Duration) -> impl Iterator<Item = (FaultKind, &str)> {
        let active = self.0.iter().filter(move |fault| fault.is_open(elapsed) && fault.hits < fault.max_hits);
        active.map(|fault| (fault.kind, fault.spec.as_str()))
    }

    /// The kinds of all faults whose window has started.
    pub fn started(&self, elapsed: Duration) -> impl Iterator<Item = FaultKind> {
        let has_started =
            move |fault: &&Fault| fault.window.as_ref().is_none_or(|window| *window.start() <= elapsed);
        self.0.iter().filter(has_started).map(|fault| fault.kind)
    }

    /// Whether connections are refused now.
    pub fn refuses(&self, elapsed: Duration) -> bool {
        self.0.iter().any(|fault| fault.kind == FaultKind::Refuse && fault.is_open(elapsed))
    }
}

impl Fault {
    fn parse(spec: &str, offset: usize) -> Result<Self, FaultError> {
        let mut parts = spec.split(':');
        let kind_text = parts.next().unwrap_or("");
        let mut fault = Self {
            kind: parse_kind(kind_text, offset)?,
            retry_after: None,
            spec: spec.to_owned(),
            share: 1.0,
            max_hits: u64::MAX,
            window: None,
            hits: 0,
            credit: 0.0,
        };
        let mut at = offset + kind_text.len() + 1;
        for modifier in parts {
            fault.apply(modifier).ok_or(FaultError {
                offset: at,
                expected: "a modifier: 10%, n=3, retry-after=5, retry-date=5 or @10s+20s",
            })?;
            at += modifier.len() + 1;
        }
        Ok(fault)
    }

    /// Parses and applies one modifier; `None` when it is invalid.
    fn apply(&mut self, modifier: &str) -> Option<()> {
        if let Some(percent) = modifier.strip_suffix('%') {
            self.share = percent.parse::<f64>().ok()? / 100.0;
        } else if let Some(window) = modifier.strip_prefix('@') {
            let (from, length) = window.split_once('+')?;
            let (from, length) = (value::duration(from).ok()?, value::duration(length).ok()?);
            self.window = Some(from..=from + length);
        } else {
            let (name, number) = modifier.split_once('=')?;
            let number = number.parse().ok()?;
            match name {
                "n" => self.max_hits = number,
                "retry-after" => self.retry_after = Some(RetryAfter::Seconds(number)),
                "retry-date" => self.retry_after = Some(RetryAfter::Date(number)),
                _ => return None,
            }
        }
        Some(())
    }

    fn is_open(&self, elapsed: Duration) -> bool {
        self.window.as_ref().is_none_or(|window| window.contains(&elapsed))
    }

    fn strikes(&mut self, elapsed: Duration) -> bool {
        if !self.is_open(elapsed) || self.hits >= self.max_hits {
            return false;
        }
        // Evenly spread instead of random, so that a run can be repeated.
        self.credit += self.share;
        if self.credit < 1.0 {
            return false;
        }
        self.credit -= 1.0;
        self.hits += 1;
        true
    }
}

/// Parses `KIND` or `KIND=VALUE`, which is at byte `offset` of the whole text.
fn parse_kind(text: &str, offset: usize) -> Result<FaultKind, FaultError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let invalid_value = |expected| FaultError { offset: offset + name.len() + 1, expected };
    let time = || value::duration(value).map_err(|_| invalid_value("a time such as 200ms or 30s"));
    Ok(match name {
        "status" => match value.parse() {
            Ok(status @ 200..=599) => FaultKind::Status(status),
            _ => return Err(invalid_value("a status from 200 to 599")),
        },
        "too-large" => {
            FaultKind::TooLarge(size(value).ok_or_else(|| invalid_value("a size such as 100KiB"))?)
        }
        "reset-before" => FaultKind::ResetBefore,
        "reset-after" => FaultKind::ResetAfter,
        "stall" => FaultKind::Stall(time()?),
        "latency" => FaultKind::Latency(time()?),
        "idle" => FaultKind::Idle(time()?),
        "slow-read" => {
            let speed = value.strip_suffix("/s").and_then(size);
            FaultKind::SlowRead(speed.ok_or_else(|| invalid_value("a speed such as 10KiB/s"))?)
        }
        "close-after-answer" => FaultKind::CloseAfterAnswer,
        "json-problem" => FaultKind::JsonProblem,
        "swallow" => FaultKind::Swallow,
        "deaf" => FaultKind::IgnoreLossNotices,
        "refuse" => FaultKind::Refuse,
        "tls-stall" => FaultKind::TlsStall,
        "wrong-cert" => FaultKind::WrongCert,
        _ => {
            let expected = "a kind of fault, such as status=503 (see --help)";
            return Err(FaultError { offset, expected });
        }
    })
}

/// A size in bytes, not 0: a speed of 0 would never end.
fn size(text: &str) -> Option<u64> {
    value::bytes(text).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_decide_when_a_fault_strikes() {
        let mut plan =
            FaultPlan::parse("status=503:25%:n=2, refuse:@10s+20s\nlatency=200ms").expect("a valid plan");
        let hits = (0..20)
            .filter(|_| plan.strike(Duration::ZERO, |k| k == FaultKind::Status(503)).is_some())
            .count();
        assert_eq!(hits, 2);
        assert!(!plan.refuses(Duration::from_secs(9)) && plan.refuses(Duration::from_secs(10)));
        assert!(plan.refuses(Duration::from_secs(30)) && !plan.refuses(Duration::from_secs(31)));
        let latency = plan
            .strike(Duration::ZERO, |kind| matches!(kind, FaultKind::Latency(_)))
            .expect("it always strikes");
        assert_eq!(latency.kind, FaultKind::Latency(Duration::from_millis(200)));
    }

    #[test]
    fn active_and_started_faults_are_listed() {
        let mut plan =
            FaultPlan::parse("status=503:n=1, refuse:@10s+20s, swallow:@50s+1s").expect("a valid plan");
        let kinds = |plan: &FaultPlan, at| -> Vec<FaultKind> {
            plan.in_force(Duration::from_secs(at)).map(|(kind, _)| kind).collect()
        };
        assert_eq!(kinds(&plan, 0), [FaultKind::Status(503)]);
        assert_eq!(kinds(&plan, 15), [FaultKind::Status(503), FaultKind::Refuse]);
        assert!(plan.strike(Duration::ZERO, |kind| kind == FaultKind::Status(503)).is_some());
        assert_eq!(kinds(&plan, 31), []);
        assert_eq!(
            plan.started(Duration::from_secs(31)).collect::<Vec<_>>(),
            [FaultKind::Status(503), FaultKind::Refuse]
        );
    }

    #[test]
    fn a_fault_in_both_plans_keeps_its_window_and_hits() {
        let second = Duration::from_secs;
        let mut plan = FaultPlan::parse("status=503:n=2,latency=1s:@10s+20s").expect("a valid plan");
        plan.strike(second(1), |kind| kind == FaultKind::Status(503)).expect("the first of two");
        let other =
            FaultPlan::parse("refuse:@1s+1s,status=503:n=2,latency=1s:@10s+20s").expect("a valid plan");
        plan.replace(other, second(5));
        assert!(plan.strike(second(6), |kind| kind == FaultKind::Status(503)).is_some(), "the second of two");
        assert!(plan.strike(second(6), |kind| kind == FaultKind::Status(503)).is_none());
        let states: Vec<_> =
            plan.states(second(12)).map(|state| (state.spec, state.hits, state.phase)).collect();
        let expected = [
            ("refuse:@1s+1s", 0, FaultPhase::Ended),
            ("status=503:n=2", 2, FaultPhase::Ended),
            ("latency=1s:@10s+20s", 0, FaultPhase::Active),
        ];
        assert_eq!(states, expected);
        assert!(plan.refuses(second(6)) && plan.refuses(second(7)) && !plan.refuses(second(8)));
        plan.replace(FaultPlan::parse("status=503:n=2,status=503:n=2").expect("a valid plan"), second(20));
        let left: Vec<_> = plan.states(second(20)).map(|state| (state.hits, state.phase)).collect();
        assert_eq!(left, [(2, FaultPhase::Ended), (0, FaultPhase::Active)]);
    }

    #[test]
    fn errors_name_the_offset() {
        for (text, offset) in
            [("frobnicate", 0), ("status=9", 7), ("reset-before, stall=x", 20), ("refuse:often", 7)]
        {
            assert_eq!(FaultPlan::parse(text).expect_err(text).offset, offset, "{text}");
        }
    }

    #[test]
    fn sizes_and_speeds_of_zero_are_invalid() {
        for (text, offset) in [("too-large=0KiB", 10), ("slow-read=0B/s", 10), ("slow-read=10KiB", 10)] {
            assert_eq!(FaultPlan::parse(text).expect_err(text).offset, offset, "{text}");
        }
    }

    #[test]
    fn phases_are_serialized_as_the_page_reads_them() {
        let plan = FaultPlan::parse("refuse:@1s+1s").expect("a valid plan");
        let phase = |second| {
            let states: Vec<_> = plan.states(Duration::from_secs(second)).collect();
            serde_json::to_value(states).expect("is JSON")[0]["state"].clone()
        };
        assert_eq!([phase(0), phase(1), phase(3)], ["waits", "in force", "over"]);
    }
}
