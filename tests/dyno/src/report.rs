//! The report at the end: a table for people, JSON for programs.

use crate::account::{DrainLedger, Ending, Ledger, Printed};
use crate::router::Requests;
use crate::traffic::{Comparison, percentiles};
use crate::verdict::{Evidence, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tailrace_drain::tally::{Lag, Losses, Report, Stream};

/// A simulation that has come to its end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the witnesses say.
    pub evidence: Evidence,
    /// What came of the requests to the app.
    pub requests: Requests,
    /// Times of requests with and without the agent.
    pub comparison: Comparison,
    /// Lines of the app that the platform's own drain took, by dyno.
    pub platform_lines: BTreeMap<String, u64>,
    /// From the start of the dynos to their end.
    pub took: Duration,
}

#[derive(Serialize)]
struct Json<'a> {
    ok: bool,
    problems: &'a [String],
    notes: &'a [String],
    seconds: f64,
    dynos: Vec<Dyno<'a>>,
    drains: Vec<Side<'a>>,
    slow_down: Option<SlowDown>,
    drain: Option<&'a Report>,
    requests: &'a Requests,
}

/// A dyno, each time that it ran.
#[derive(Serialize)]
struct Dyno<'a> {
    name: &'a str,
    seconds: f64,
    exit_status: u8,
    ledger: Option<&'a Ledger>,
    printed: Option<Printed>,
    agent_memory_kib: u64,
}

/// What came by one way: by tailrace, or by the platform's own drain.
#[derive(Serialize)]
struct Side<'a> {
    drain: &'a str,
    /// Messages that the apps' output makes.
    messages: u64,
    /// Of those, how many arrived.
    arrived: u64,
    /// Of those that did not, how many were announced.
    announced: u64,
    /// Bytes of the longest.
    longest: u64,
    lag_ms: Lag,
}

/// Times of the same requests with and without the agent, in ms.
#[derive(Serialize)]
struct SlowDown {
    requests: usize,
    with_p50: f64,
    with_p95: f64,
    without_p50: f64,
    without_p95: f64,
}

impl Outcome {
    /// The report as JSON.
    pub fn json(&self, verdict: &Verdict) -> String {
        let dynos = self.evidence.boots.iter().map(|boot| Dyno {
            name: &boot.dyno,
            seconds: boot.took.as_secs_f64(),
            exit_status: boot.ending.status(),
            ledger: boot.ledger.as_ref().and_then(|ledger| ledger.as_ref().ok()),
            printed: boot.printed,
            agent_memory_kib: boot.memory,
        });
        let json = Json {
            ok: verdict.problems.is_empty(),
            problems: &verdict.problems,
            notes: &verdict.notes,
            seconds: self.took.as_secs_f64(),
            dynos: dynos.collect(),
            drains: self.sides(),
            slow_down: self.slow_down(),
            drain: self.evidence.drain.as_ref(),
            requests: &self.requests,
        };
        // Strings and numbers in structs and string-keyed maps: nothing that JSON does not have.
        serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
    }

    /// The report as a table.
    pub fn text(&self, verdict: &Verdict) -> String {
        let mut out =
            format!("\n{} dynos in {:.1} s\n\n", self.evidence.boots.len(), self.took.as_secs_f64());
        self.dynos(&mut out);
        let sides = self.sides();
        if !sides.is_empty() {
            out.push('\n');
            let titles =
                ["drain", "messages", "arrived", "announced", "unheard", "longest", "lag p50", "p95", "max"];
            let ms = |ms: f64| format!("{ms:.0} ms");
            let rows = sides.iter().map(|side| {
                let unheard = side.messages.saturating_sub(side.arrived + side.announced);
                let counts = [side.messages, side.arrived, side.announced, unheard, side.longest];
                let lags = [side.lag_ms.p50, side.lag_ms.p95, side.lag_ms.max].map(ms);
                let counts = counts.map(|count| count.to_string());
                [side.drain.to_owned()].into_iter().chain(counts).chain(lags).collect()
            });
            table(&mut out, &titles, rows.collect());
        }
        out.push('\n');
        self.requests(&mut out);
        if let Some(slow) = self.slow_down() {
            let _infallible = writeln!(
                out,
                "slow-down: {:+.1} ms at the median of {} requests each ({:.1} ms with tailrace, {:.1} ms without), \
                 {:+.1} ms at p95",
                slow.with_p50 - slow.without_p50,
                slow.requests,
                slow.with_p50,
                slow.without_p50,
                slow.with_p95 - slow.without_p95,
            );
        }
        if let Some(drain) = &self.evidence.drain {
            let objections: Vec<String> = drain
                .conformance
                .iter()
                .map(|(name, complaints)| format!("{name} {}", complaints.errors))
                .collect();
            let _infallible = writeln!(
                out,
                "receivers: {} requests, {} repeats; objections: {}",
                drain.requests,
                drain.duplicates,
                objections.join(", ")
            );
        }
        out.push('\n');
        for note in &verdict.notes {
            let _infallible = writeln!(out, "       {note}");
        }
        if verdict.problems.is_empty() {
            self.well(&mut out);
        }
        for problem in &verdict.problems {
            let _infallible = writeln!(out, " !     {problem}");
        }
        out
    }

    /// What the agents say of themselves, a row for each time that a dyno ran.
    fn dynos(&self, out: &mut String) {
        let titles = [
            "dyno",
            "status",
            "captured",
            "delivered",
            "dropped",
            "held",
            "rejected",
            "batches",
            "attempts",
            "agent",
        ];
        let rows = self.evidence.boots.iter().map(|boot| {
            let mut row = vec![boot.dyno.clone(), boot.ending.status().to_string()];
            match &boot.ledger {
                Some(Ok(ledger)) => {
                    let sum =
                        |of: fn(&DrainLedger) -> u64| ledger.drains.iter().map(of).sum::<u64>().to_string();
                    row.extend([
                        ledger.captured_lines.to_string(),
                        sum(|drain| drain.delivered_lines),
                        sum(|drain| drain.dropped_lines),
                        sum(|drain| drain.held_lines),
                        sum(|drain| drain.rejected_lines),
                        sum(|drain| drain.batches),
                        sum(|drain| drain.attempts),
                        format!("{:.1} MiB", boot.memory as f64 / 1024.0),
                    ]);
                }
                Some(Err(_)) => row.push("no ledger".to_owned()),
                None => row.push("without".to_owned()),
            }
            row
        });
        table(out, &titles, rows.collect());
        let reasons = self.evidence.boots.iter().filter_map(|boot| boot.ledger.as_ref()?.as_ref().ok());
        let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in reasons.flat_map(|ledger| &ledger.drains).flat_map(|drain| &drain.dropped) {
            *dropped.entry(reason).or_default() += count;
        }
        for (reason, count) in dropped.into_iter().filter(|(_, count)| *count > 0) {
            let _infallible = writeln!(out, "dropped, {reason}: {count}");
        }
    }

    fn requests(&self, out: &mut String) {
        let Requests { sent, by_status, failed } = &self.requests;
        if *sent == 0 {
            return;
        }
        let statuses = by_status.iter().map(|(status, count)| format!("{count} × {status}"));
        let codes = failed.iter().map(|(code, count)| format!("{count} × {code}"));
        let what: Vec<String> = statuses.chain(codes).collect();
        let _infallible = writeln!(out, "requests: {sent} ({})", what.join(", "));
    }

    fn slow_down(&self) -> Option<SlowDown> {
        let Comparison { with, without } = &self.comparison;
        let ((with_p50, with_p95), (without_p50, without_p95)) =
            percentiles(with).zip(percentiles(without))?;
        Some(SlowDown {
            requests: with.len().min(without.len()),
            with_p50,
            with_p95,
            without_p50,
            without_p95,
        })
    }

    /// tailrace and the platform's own drain, side by side.
    fn sides(&self) -> Vec<Side<'_>> {
        let Some(drain) = &self.evidence.drain else { return Vec::new() };
        let platform = &self.evidence.platform;
        let mut sides = Vec::new();
        let ours = drain.streams.iter().filter(|(token, _)| *token != platform).flat_map(|(_, procs)| procs);
        let printed = self.evidence.boots.iter().filter_map(|boot| boot.printed);
        sides.push(side("tailrace", printed.map(|printed| printed.frames).sum(), ours));
        if !self.platform_lines.is_empty() {
            let is_app = |name: &str| self.platform_lines.contains_key(name) || name == "logplex";
            let theirs = drain.streams.get(platform).into_iter().flatten().filter(|(name, _)| is_app(name));
            sides.push(side("platform", self.platform_lines.values().sum(), theirs));
        }
        sides
    }

    fn well(&self, out: &mut String) {
        let ledgers = || self.evidence.boots.iter().filter_map(|boot| boot.ledger.as_ref()?.as_ref().ok());
        let captured: u64 = ledgers().map(|ledger| ledger.captured_lines).sum();
        let delivered: u64 =
            ledgers().flat_map(|ledger| &ledger.drains).map(|drain| drain.delivered_lines).sum();
        if self.evidence.boots.iter().any(|boot| boot.ending == Ending::ExitTimeout) {
            let _infallible = writeln!(out, "All lines up to the platform's kill are accounted for.");
            return;
        }
        let drains = ledgers().map(|ledger| ledger.drains.len() as u64).max().unwrap_or(1).max(1);
        let _infallible = if delivered == captured * drains {
            writeln!(out, "All {captured} lines arrived, and no receiver objected.")
        } else {
            writeln!(out, "All {captured} lines are accounted for: what did not arrive was announced.")
        };
    }
}

/// Sums up what came by one way.
fn side<'a>(
    drain: &'a str,
    messages: u64,
    streams: impl Iterator<Item = (&'a String, &'a Stream)>,
) -> Side<'a> {
    let mut side = Side { drain, messages, arrived: 0, announced: 0, longest: 0, lag_ms: Lag::default() };
    for (_, Stream { lines, longest, losses: Losses { lines: lost, .. }, lag_ms, .. }) in streams {
        side.arrived += lines;
        side.announced += lost;
        side.longest = side.longest.max(*longest);
        // Of several processes the worst: no percentile can be made from percentiles.
        if *lines > 0 {
            side.lag_ms.p50 = side.lag_ms.p50.max(lag_ms.p50);
            side.lag_ms.p95 = side.lag_ms.p95.max(lag_ms.p95);
            side.lag_ms.max = side.lag_ms.max.max(lag_ms.max);
        }
    }
    side
}

/// Rows under titles; the first column is a name, the others stand to the right.
fn table(out: &mut String, titles: &[&str], rows: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    for row in [vec![titles], rows].concat() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _infallible =
                if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        let _infallible = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Boot;
    use crate::excuse::Excuse;
    use crate::platform::Limits;
    use tailrace_drain::tally::Complaints;

    fn outcome() -> Outcome {
        let account =
            DrainLedger { delivered_lines: 12_345, batches: 7, attempts: 8, ..DrainLedger::default() };
        let lag_ms = Lag { p50: 12.0, p95: 40.0, p99: 50.0, max: 60.0 };
        let stream = |lines, lost| {
            let losses = Losses { notices: 1, lines: lost };
            [("web.1".to_owned(), Stream { lines, longest: 80, losses, lag_ms, ..Stream::default() })].into()
        };
        let streams = [("d.a".to_owned(), stream(12_345, 0)), ("d.p".to_owned(), stream(12_000, 300))].into();
        let mut drain = Report { frames: 12_347, streams, ..Report::default() };
        drain.conformance.insert("sumo".to_owned(), Complaints::default());
        let boot = Boot {
            dyno: "web.1".to_owned(),
            ending: Ending::Stopped(143),
            ledger: Some(Ok(Ledger { captured_lines: 12_345, own_frames: 2, drains: vec![account] })),
            printed: Some(Printed { lines: 12_345, frames: 12_345, ..Printed::default() }),
            took: Duration::from_secs(5),
            memory: 3 << 10,
            excuse: Excuse::default(),
            made_room: false,
        };
        let evidence = Evidence {
            boots: vec![boot],
            drain: Some(drain),
            arrived: BTreeMap::new(),
            platform: "d.p".to_owned(),
            refused: Vec::new(),
            limits: Limits::default(),
        };
        let requests = Requests {
            sent: 5,
            by_status: [(200, 3), (404, 1)].into(),
            failed: [("H13".to_owned(), 1)].into(),
        };
        Outcome {
            evidence,
            requests,
            comparison: Comparison { with: vec![3.0], without: vec![2.5] },
            platform_lines: [("web.1".to_owned(), 12_345)].into(),
            took: Duration::from_millis(5_040),
        }
    }

    #[test]
    fn the_table_says_what_was_counted() {
        let text = outcome().text(&Verdict::default());
        for part in [
            "1 dynos in 5.0 s\n",
            "dyno   status  captured  delivered  dropped  held  rejected  batches  attempts    agent\n\
             web.1     143     12345      12345        0     0         0        7         8  3.0 MiB\n",
            "drain     messages  arrived  announced  unheard  longest  lag p50    p95    max\n\
             tailrace     12345    12345          0        0       80    12 ms  40 ms  60 ms\n\
             platform     12345    12000        300       45       80    12 ms  40 ms  60 ms\n",
            "requests: 5 (3 × 200, 1 × 404, 1 × H13)\n",
            "slow-down: +0.5 ms at the median of 1 requests each",
            "All 12345 lines arrived, and no receiver objected.\n",
        ] {
            assert!(text.contains(part), "{part:?}: {text}");
        }
        assert!(text.lines().all(|line| line.len() <= 130), "{text}");
    }

    #[test]
    fn problems_stand_in_both_reports() {
        let verdict = Verdict {
            problems: vec!["one".to_owned(), "another".to_owned()],
            notes: vec!["by the way".to_owned()],
        };
        let text = outcome().text(&verdict);
        assert!(text.ends_with("\n       by the way\n !     one\n !     another\n"), "{text}");
        assert!(!text.contains("lines arrived"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&outcome().json(&verdict)).expect("is JSON");
        assert_eq!((json["ok"].as_bool(), json["problems"][1].as_str()), (Some(false), Some("another")));
        assert_eq!(json["dynos"][0]["ledger"]["captured_lines"], 12_345);
        assert_eq!(json["drain"]["conformance"]["sumo"]["errors"], 0);
        assert_eq!(json["requests"]["by_status"]["404"], 1);
        assert_eq!(json["drains"][1]["announced"], 300);
    }
}
