//! The report at the end: a table for people, JSON for programs.

mod drain_summary;
mod table;

use crate::ledger::{DrainLedger, Ledger, OutputCounts, RunEnd, RunRecord, lines};
use crate::logplex::MessageCounts;
use crate::router::Requests;
use crate::traffic::{Comparison, percentiles};
use crate::verdict::{Observations, Verdict};
use drain_summary::DrainSummary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use table::table;
use tailrace_drain::tally::Report;

/// A simulation that has come to its end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the witnesses say.
    pub evidence: Observations,
    /// What came of the requests to the app.
    pub requests: Requests,
    /// Times of requests with and without the agent.
    pub comparison: Comparison,
    /// What the platform's own drain took, by source; nothing where there is none.
    pub taken: BTreeMap<String, MessageCounts>,
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
    drains: Vec<DrainSummary>,
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
    printed: Option<OutputCounts>,
    agent_memory_kib: u64,
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
            drains: drain_summary::sides(&self.evidence, &self.taken),
            slow_down: self.slow_down(),
            drain: self.evidence.drain.as_ref(),
            requests: &self.requests,
        };
        // Strings and numbers in structs and string-keyed maps: nothing that JSON does not have.
        serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
    }

    /// The report as a table.
    pub fn text(&self, verdict: &Verdict) -> String {
        let count = self.evidence.boots.len();
        let dynos = if count == 1 { "dyno" } else { "dynos" };
        let mut out = format!("\n{count} {dynos} in {:.1} s\n\n", self.took.as_secs_f64());
        self.dynos(&mut out);
        let sides = drain_summary::sides(&self.evidence, &self.taken);
        if !sides.is_empty() {
            out.push('\n');
            let titles = [
                "drain",
                "source",
                "messages",
                "arrived",
                "announced",
                "unheard",
                "repeats",
                "longest",
                "lag p50",
                "p95",
                "max",
            ];
            table(&mut out, 2, &titles, sides.iter().flat_map(DrainSummary::rows).collect());
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
                "receivers: {} requests, {} batches that came twice; objections: {}",
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

    /// What the agents say of themselves: a row for each time that a dyno ran, and each drain that it had.
    fn dynos(&self, out: &mut String) {
        let has_many = self.ledgers().any(|(_, ledger)| ledger.drains.len() > 1);
        let mut titles = vec![
            "dyno",
            "drain",
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
        let mut rows = Vec::new();
        for boot in &self.evidence.boots {
            let start = [boot.dyno.clone(), String::new(), boot.ending.status().to_string()];
            match &boot.ledger {
                Some(Ok(ledger)) => {
                    rows.extend(ledger.drains.iter().map(|account| row(boot, ledger, account)));
                }
                Some(Err(_)) => rows.push([&start[..], &["no ledger".to_owned()]].concat()),
                None => rows.push([&start[..], &["without".to_owned()]].concat()),
            }
        }
        if !has_many {
            titles.remove(1);
            for row in &mut rows {
                row.remove(1);
            }
        }
        table(out, 1 + usize::from(has_many), &titles, rows);
        for (boot, ledger) in self.ledgers() {
            for account in &ledger.drains {
                let drain = if has_many { format!(" to {}", account.drain) } else { String::new() };
                for (reason, count) in account.dropped.iter().filter(|(_, count)| **count > 0) {
                    let _infallible = writeln!(out, "dropped, {}{drain}: {count} ({reason})", boot.dyno);
                }
            }
        }
    }

    fn ledgers(&self) -> impl Iterator<Item = (&RunRecord, &Ledger)> {
        self.evidence.boots.iter().filter_map(|boot| Some((boot, boot.ledger.as_ref()?.as_ref().ok()?)))
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

    /// What became of the lines, when nothing is wrong. Only what was dropped is announced in the stream.
    fn well(&self, out: &mut String) {
        if self.evidence.boots.iter().any(|boot| boot.ending == RunEnd::ExitTimeout) {
            out.push_str("All lines up to the platform's kill are accounted for.\n");
            return;
        }
        let mut sums: BTreeMap<&str, (u64, DrainLedger)> = BTreeMap::new();
        for (_, ledger) in self.ledgers() {
            for account in &ledger.drains {
                let (captured, sum) = sums.entry(&account.drain).or_default();
                *captured += ledger.captured_lines;
                sum.delivered_lines += account.delivered_lines;
                sum.dropped_lines += account.dropped_lines;
                sum.held_lines += account.held_lines;
                sum.rejected_lines += account.rejected_lines;
            }
        }
        if sums.is_empty() {
            out.push_str("No dyno had an agent.\n");
        }
        let has_many = sums.len() > 1;
        for (drain, (captured, sum)) in sums {
            let to = if has_many { format!("{drain}: ") } else { String::new() };
            if sum.delivered_lines == captured {
                let objected = if self.evidence.drain.is_some() { ", and no receiver objected" } else { "" };
                let arrived =
                    if captured == 1 { "The line arrived" } else { &format!("All {captured} lines arrived") };
                let _infallible = writeln!(out, "{to}{arrived}{objected}.");
                continue;
            }
            let parts = [
                (sum.dropped_lines, "dropped and announced"),
                (sum.held_lines, "still held when their dyno ended"),
                (sum.rejected_lines, "refused by the receiver"),
            ];
            let parts: Vec<String> = parts
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            let _infallible = writeln!(
                out,
                "{to}{} accounted for: {} arrived, {}.",
                lines(captured),
                sum.delivered_lines,
                parts.join(", ")
            );
        }
    }
}

/// What an agent says of one drain.
fn row(boot: &RunRecord, ledger: &Ledger, account: &DrainLedger) -> Vec<String> {
    let counts = [
        ledger.captured_lines,
        account.delivered_lines,
        account.dropped_lines,
        account.held_lines,
        account.rejected_lines,
        account.batches,
        account.attempts,
    ];
    let mut row = vec![boot.dyno.clone(), account.drain.clone(), boot.ending.status().to_string()];
    row.extend(counts.map(|count| count.to_string()));
    row.push(format!("{:.1} MiB", boot.memory as f64 / 1024.0));
    row
}

#[cfg(test)]
mod tests;
