//! What an agent captured, delivered, holds and dropped at one instant: as text for people and as JSON.

use crate::config::Config;
use crate::delivery::{Coordinator, DrainHealth, LastAnswer};
use crate::frame::DropReason;
use crate::ledger::{DrainIndex, DrainReport, dropped_by_reason};
use crate::spool::OtherSpool;
use crate::version::VERSION;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::fmt;
use std::time::{Duration, Instant};

/// A shipper that is silent for longer is reported as stuck: it sends a ping every 5 s.
const STUCK_AFTER: Duration = Duration::from_secs(11);

/// Spools of other apps that are listed at most: the answer fits a socket's buffer.
const MAX_OTHER_SPOOLS: usize = 16;

/// A length of time: whole seconds in JSON, the two largest units in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct Elapsed(pub(crate) Duration);

impl Serialize for Elapsed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.as_secs())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m {}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h {}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d {}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// State of the shipper process.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct ShipperStatus {
    /// Its pid, while it runs.
    pub(crate) pid: Option<i32>,
    /// Time since its last message.
    #[serde(rename = "silent_seconds")]
    pub(crate) silent: Elapsed,
    /// How often one was started.
    pub(crate) starts: u32,
}

/// The last answer of a drain, and how long ago it came.
#[derive(Debug)]
struct Answered {
    answer: LastAnswer,
    ago: Elapsed,
}

impl Serialize for Answered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = match self.answer {
            LastAnswer::Delivered { .. } => 200,
            LastAnswer::Refused { status, .. } => status,
            LastAnswer::NoAnswer { .. } => 0,
        };
        let mut last = serializer.serialize_struct("Answered", 3)?;
        last.serialize_field("status", &status)?;
        last.serialize_field("detail", self.answer.detail())?;
        last.serialize_field("seconds_ago", &self.ago)?;
        last.end()
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            LastAnswer::Delivered { .. } => write!(f, "delivered")?,
            LastAnswer::Refused { status, detail, .. } if detail.is_empty() => write!(f, "{status}")?,
            LastAnswer::Refused { status, detail, .. } => write!(f, "{status}, {detail}")?,
            LastAnswer::NoAnswer { detail, .. } => write!(f, "{detail}")?,
        }
        write!(f, ", {} ago", self.ago)
    }
}

/// One drain. The order of the fields is that of the JSON.
#[derive(Debug, serde::Serialize)]
struct DrainStatus {
    drain: String,
    token: String,
    delivered_lines: u64,
    held_lines: u64,
    held_bytes: u64,
    /// How long the oldest held line has waited.
    #[serde(rename = "oldest_seconds")]
    oldest: Elapsed,
    /// What agents that ended before left and is not delivered.
    adopted_held_lines: u64,
    adopted_held_bytes: u64,
    dropped_lines: u64,
    #[serde(serialize_with = "dropped_by_reason")]
    dropped: Vec<(DropReason, u64)>,
    rejected_lines: u64,
    batches: u64,
    attempts: u64,
    /// Failed attempts since the last delivery.
    failures: u64,
    last: Option<Answered>,
    #[serde(rename = "next_attempt_seconds")]
    next_attempt: Option<Elapsed>,
    #[serde(skip)]
    failing_for: Option<Elapsed>,
}

impl DrainStatus {
    fn new(
        token: &str,
        report: DrainReport,
        held_bytes: u64,
        oldest: Duration,
        health: &DrainHealth,
    ) -> Self {
        let now = Instant::now();
        let since = |at: Instant| Elapsed(now.saturating_duration_since(at));
        let until = |at: Instant| Elapsed(at.saturating_duration_since(now));
        Self {
            token: token.to_owned(),
            delivered_lines: report.delivered,
            held_lines: report.held,
            held_bytes,
            oldest: Elapsed(oldest),
            adopted_held_lines: report.adopted_left.lines,
            adopted_held_bytes: report.adopted_left.bytes,
            dropped_lines: report.dropped_lines(),
            rejected_lines: report.rejected,
            batches: report.batches,
            attempts: report.attempts,
            failures: health.failures,
            last: health.last.clone().map(|answer| Answered { ago: since(answer.at()), answer }),
            next_attempt: health.next_attempt.map(until),
            failing_for: health.failing.since().map(since),
            drain: report.drain,
            dropped: report.dropped,
        }
    }
}

impl fmt::Display for DrainStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "drain {} at {}", self.token, self.drain)?;
        writeln!(f, "  delivered   {} lines", self.delivered_lines)?;
        write!(f, "  held        {} lines", self.held_lines)?;
        if self.held_lines > 0 {
            write!(f, ", {} bytes, the oldest for {}", self.held_bytes, self.oldest)?;
        }
        if self.adopted_held_bytes > 0 {
            let (lines, bytes) = (self.adopted_held_lines, self.adopted_held_bytes);
            write!(f, "\n  adopted     {lines} lines, {bytes} bytes of agents that ended before")?;
        }
        write!(f, "\n  dropped     {} lines", self.dropped_lines)?;
        for (reason, lines) in &self.dropped {
            write!(f, ", {}: {lines}", reason.as_str())?;
        }
        writeln!(f, "\n  rejected    {} lines", self.rejected_lines)?;
        match &self.last {
            Some(last) => write!(f, "  last answer {last}")?,
            None => write!(f, "  last answer none yet")?,
        }
        if let (Some(next), Some(failing)) = (self.next_attempt, self.failing_for) {
            write!(f, "; failing for {failing}, next attempt in {next}")?;
        }
        writeln!(f)
    }
}

/// The spool of a dead agent of another app. The order of the fields is that of the JSON.
#[derive(Debug, serde::Serialize)]
struct OtherSpoolStatus {
    directory: String,
    /// Empty when it is not known.
    app: String,
    bytes: u64,
    #[serde(rename = "unchanged_seconds")]
    unchanged: Elapsed,
}

impl OtherSpoolStatus {
    fn new(other: &OtherSpool) -> Self {
        Self {
            directory: other.directory.display().to_string(),
            app: other.app.clone(),
            bytes: other.bytes,
            unchanged: Elapsed(other.unchanged()),
        }
    }
}

impl fmt::Display for OtherSpoolStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app = if self.app.is_empty() { "an app without a name" } else { &self.app };
        let hours = OtherSpool::KEEP_TIME.as_secs() / 3600;
        writeln!(f, "left by a dead agent of {app}: {} bytes in {}", self.bytes, self.directory)?;
        writeln!(
            f,
            "  unchanged   for {}; agents of that app deliver it; it is removed after {hours}h",
            self.unchanged
        )
    }
}

/// Where a snapshot takes its values from.
#[derive(Debug)]
pub(crate) struct StatusSources<'a> {
    pub(crate) config: &'a Config,
    pub(crate) coordinator: &'a Coordinator,
    pub(crate) shipper: ShipperStatus,
    /// What is sampled, and how, once that is known.
    pub(crate) probe: Option<&'a str>,
    /// When the agent started.
    pub(crate) started: Instant,
}

/// An agent at one instant. The order of the fields is that of the JSON.
#[derive(Debug, serde::Serialize)]
pub(crate) struct StatusSnapshot {
    agent: String,
    version: &'static str,
    pid: u32,
    app: String,
    dyno: String,
    #[serde(rename = "up_seconds")]
    up: Elapsed,
    captured_lines: u64,
    own_frames: u64,
    /// What is sampled, and how; empty until that is known.
    probe: String,
    /// How the shipper is confined; empty until it said so.
    confined: String,
    shipper: ShipperStatus,
    drains: Vec<DrainStatus>,
    other_spools: Vec<OtherSpoolStatus>,
}

impl StatusSnapshot {
    /// Takes a snapshot. All numbers are read under one lock of the ledger; only the age of the oldest line, which is
    /// read from the spool, is a moment younger.
    pub(crate) fn take(sources: &StatusSources<'_>) -> Self {
        let StatusSources { config, coordinator, shipper, probe, started } = sources;
        let spool = coordinator.spool();
        let (report, held_bytes) = {
            let ledger = spool.shared.lock();
            let report = ledger.report();
            let held_bytes: Vec<u64> = ledger.drains().map(|drain| ledger.held_bytes(drain)).collect();
            (report, held_bytes)
        };
        let unknown = DrainHealth::default();
        let count = report.drains.len();
        let drains = report.drains.into_iter().zip(held_bytes).zip(DrainIndex::all(count)).map(
            |((report, bytes), drain)| {
                let oldest = if report.held > 0 { spool.oldest(drain) } else { Duration::ZERO };
                let health = coordinator.health().get(drain).unwrap_or(&unknown);
                DrainStatus::new(spool.token(drain), report, bytes, oldest, health)
            },
        );
        Self {
            agent: spool.agent.clone(),
            version: VERSION,
            pid: std::process::id(),
            app: config.app.clone(),
            dyno: config.dyno.clone(),
            up: Elapsed(started.elapsed()),
            captured_lines: report.captured,
            own_frames: report.own_frames,
            probe: probe.unwrap_or_default().to_owned(),
            confined: coordinator.confined().to_owned(),
            shipper: *shipper,
            drains: drains.collect(),
            other_spools: spool.others().take(MAX_OTHER_SPOOLS).map(OtherSpoolStatus::new).collect(),
        }
    }
}

impl fmt::Display for StatusSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, dyno, version, pid, up, .. } = self;
        writeln!(f, "{dyno} of {app}: tailrace {version}, pid {pid}, up {up}")?;
        writeln!(f, "  captured    {} lines", self.captured_lines)?;
        writeln!(f, "  probe       {}", if self.probe.is_empty() { "not chosen yet" } else { &self.probe })?;
        let ShipperStatus { pid, silent, starts } = self.shipper;
        match pid {
            Some(pid) => {
                write!(f, "  shipper     pid {pid}, heard {silent} ago")?;
                if silent.0 > STUCK_AFTER {
                    write!(f, ": it is stuck, and will be replaced")?;
                }
                if starts > 1 {
                    write!(f, ", started {starts} times")?;
                }
                if !self.confined.is_empty() {
                    write!(f, ", confined={}", self.confined)?;
                }
                writeln!(f)?;
            }
            None => writeln!(f, "  shipper     not running, started {starts} times; it will be again")?,
        }
        self.drains.iter().try_for_each(|drain| write!(f, "{drain}"))?;
        self.other_spools.iter().try_for_each(|other| write!(f, "{other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Elapsed = |seconds| Elapsed(Duration::from_secs(seconds));

    fn drain(name: &str, last: Option<LastAnswer>) -> DrainStatus {
        DrainStatus {
            drain: name.to_owned(),
            token: format!("d.{name}"),
            delivered_lines: 3,
            held_lines: 0,
            held_bytes: 0,
            oldest: S(0),
            adopted_held_lines: 0,
            adopted_held_bytes: 0,
            dropped_lines: 0,
            dropped: Vec::new(),
            rejected_lines: 0,
            batches: 2,
            attempts: 2,
            failures: 0,
            last: last.map(|answer| Answered { answer, ago: S(7) }),
            next_attempt: None,
            failing_for: None,
        }
    }

    fn snapshot() -> StatusSnapshot {
        let at = Instant::now();
        let failing = DrainStatus {
            held_lines: 12,
            held_bytes: 1234,
            oldest: S(61),
            adopted_held_lines: 8,
            adopted_held_bytes: 900,
            dropped_lines: 5,
            dropped: vec![(DropReason::SpoolFull, 3), (DropReason::RecorderBehind, 2)],
            rejected_lines: 1,
            failures: 4,
            next_attempt: Some(S(60)),
            failing_for: Some(S(3601)),
            ..drain("b", Some(LastAnswer::Refused { status: 401, detail: "a \"key\"\n".to_owned(), at }))
        };
        let no_answer = LastAnswer::NoAnswer { detail: "refused".to_owned(), at };
        StatusSnapshot {
            agent: "00ff".to_owned(),
            version: "1.2.3",
            pid: 4,
            app: "shop".to_owned(),
            dyno: "web.1".to_owned(),
            up: S(90_061),
            captured_lines: 20,
            own_frames: 6,
            probe: "cgroup2, no quota".to_owned(),
            confined: "seccomp,no-new-privs (landlock: not in this kernel)".to_owned(),
            shipper: ShipperStatus { pid: Some(5), silent: S(1), starts: 1 },
            drains: vec![
                drain("a", Some(LastAnswer::Delivered { at })),
                failing,
                drain("c", Some(no_answer)),
                drain("d", None),
            ],
            other_spools: [("00ab", "blog"), ("00ac", "")]
                .map(|(directory, app)| OtherSpoolStatus {
                    directory: format!("/tmp/tailrace/{directory}"),
                    app: app.to_owned(),
                    bytes: 77,
                    unchanged: S(7300),
                })
                .into(),
        }
    }

    #[test]
    fn the_text_is_stable() {
        let expected = "\
web.1 of shop: tailrace 1.2.3, pid 4, up 1d 1h
  captured    20 lines
  probe       cgroup2, no quota
  shipper     pid 5, heard 1s ago, confined=seccomp,no-new-privs (landlock: not in this kernel)
drain d.a at a
  delivered   3 lines
  held        0 lines
  dropped     0 lines
  rejected    0 lines
  last answer delivered, 7s ago
drain d.b at b
  delivered   3 lines
  held        12 lines, 1234 bytes, the oldest for 1m 1s
  adopted     8 lines, 900 bytes of agents that ended before
  dropped     5 lines, spool-full: 3, recorder-behind: 2
  rejected    1 lines
  last answer 401, a \"key\"\n, 7s ago; failing for 1h 0m, next attempt in 1m 0s
drain d.c at c
  delivered   3 lines
  held        0 lines
  dropped     0 lines
  rejected    0 lines
  last answer refused, 7s ago
drain d.d at d
  delivered   3 lines
  held        0 lines
  dropped     0 lines
  rejected    0 lines
  last answer none yet
left by a dead agent of blog: 77 bytes in /tmp/tailrace/00ab
  unchanged   for 2h 1m; agents of that app deliver it; it is removed after 24h
left by a dead agent of an app without a name: 77 bytes in /tmp/tailrace/00ac
  unchanged   for 2h 1m; agents of that app deliver it; it is removed after 24h
";
        assert_eq!(snapshot().to_string(), expected);
    }

    #[test]
    fn the_text_tells_a_stuck_shipper_from_one_that_does_not_run() {
        let text = |shipper| {
            let snapshot = StatusSnapshot {
                shipper,
                probe: String::new(),
                confined: String::new(),
                drains: Vec::new(),
                other_spools: Vec::new(),
                ..snapshot()
            };
            snapshot.to_string().lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let just_over = Elapsed(STUCK_AFTER + Duration::from_millis(1));
        assert_eq!(
            text(ShipperStatus { pid: Some(5), silent: just_over, starts: 2 }),
            [
                "  probe       not chosen yet",
                "  shipper     pid 5, heard 11s ago: it is stuck, and will be replaced, started 2 times"
            ]
        );
        assert_eq!(
            text(ShipperStatus { pid: None, silent: S(0), starts: 3 })[1],
            "  shipper     not running, started 3 times; it will be again"
        );
    }

    #[test]
    fn an_answer_without_a_text_is_its_status() {
        let at = Instant::now();
        for (status, detail, expected) in [(403, "", "403, 1s ago"), (403, "no", "403, no, 1s ago")] {
            let answer = LastAnswer::Refused { status, detail: detail.to_owned(), at };
            assert_eq!(Answered { answer, ago: S(1) }.to_string(), expected);
        }
    }

    #[test]
    fn the_json_is_stable() {
        let expected = concat!(
            r#"{"agent":"00ff","version":"1.2.3","pid":4,"app":"shop","dyno":"web.1","up_seconds":90061,"#,
            r#""captured_lines":20,"own_frames":6,"probe":"cgroup2, no quota","#,
            r#""confined":"seccomp,no-new-privs (landlock: not in this kernel)","#,
            r#""shipper":{"pid":5,"silent_seconds":1,"starts":1},"drains":["#,
            r#"{"drain":"a","token":"d.a","delivered_lines":3,"held_lines":0,"held_bytes":0,"oldest_seconds":0,"#,
            r#""adopted_held_lines":0,"adopted_held_bytes":0,"dropped_lines":0,"dropped":{},"rejected_lines":0,"batches":2,"attempts":2,"failures":0,"#,
            r#""last":{"status":200,"detail":"","seconds_ago":7},"next_attempt_seconds":null},"#,
            r#"{"drain":"b","token":"d.b","delivered_lines":3,"held_lines":12,"held_bytes":1234,"#,
            r#""oldest_seconds":61,"adopted_held_lines":8,"adopted_held_bytes":900,"dropped_lines":5,"dropped":{"spool-full":3,"recorder-behind":2},"#,
            r#""rejected_lines":1,"batches":2,"attempts":2,"failures":4,"#,
            r#""last":{"status":401,"detail":"a \"key\"\n","seconds_ago":7},"next_attempt_seconds":60},"#,
            r#"{"drain":"c","token":"d.c","delivered_lines":3,"held_lines":0,"held_bytes":0,"oldest_seconds":0,"#,
            r#""adopted_held_lines":0,"adopted_held_bytes":0,"dropped_lines":0,"dropped":{},"rejected_lines":0,"batches":2,"attempts":2,"failures":0,"#,
            r#""last":{"status":0,"detail":"refused","seconds_ago":7},"next_attempt_seconds":null},"#,
            r#"{"drain":"d","token":"d.d","delivered_lines":3,"held_lines":0,"held_bytes":0,"oldest_seconds":0,"#,
            r#""adopted_held_lines":0,"adopted_held_bytes":0,"dropped_lines":0,"dropped":{},"rejected_lines":0,"batches":2,"attempts":2,"failures":0,"#,
            r#""last":null,"next_attempt_seconds":null}],"#,
            r#""other_spools":[{"directory":"/tmp/tailrace/00ab","app":"blog","bytes":77,"unchanged_seconds":7300},"#,
            r#"{"directory":"/tmp/tailrace/00ac","app":"","bytes":77,"unchanged_seconds":7300}]}"#,
        );
        assert_eq!(serde_json::to_string(&snapshot()).unwrap(), expected);
    }

    #[test]
    fn times_are_shown_in_their_two_largest_units() {
        for (seconds, expected) in [
            (59, "59s"),
            (60, "1m 0s"),
            (3599, "59m 59s"),
            (3600, "1h 0m"),
            (86_399, "23h 59m"),
            (86_400, "1d 0h"),
        ] {
            assert_eq!(S(seconds).to_string(), expected);
        }
    }
}
