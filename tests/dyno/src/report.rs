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
use std::fmt::{self, Write as _};
use std::time::Duration;
use table::table;
use tailrace_drain::stats::Report;

/// Columns of the table of dynos.
const DYNO_TITLES: [&str; 11] = [
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
/// Columns of the table of drains.
const DRAIN_TITLES: [&str; 11] = [
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

/// The result of a simulation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the verdict is based on.
    pub observations: Observations,
    /// The router's counts.
    pub requests: Requests,
    /// Response times with and without the agent.
    pub comparison: Comparison,
    /// Messages that the platform's own drain accepted, by source; empty where there is no such drain.
    pub platform_messages: BTreeMap<String, MessageCounts>,
    /// From the start of the dynos to their end.
    pub duration: Duration,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    ok: bool,
    problems: &'a [String],
    notes: &'a [String],
    seconds: f64,
    dynos: Vec<JsonRun<'a>>,
    drains: Vec<DrainSummary>,
    slow_down: Option<SlowDown>,
    drain: Option<&'a Report>,
    requests: &'a Requests,
}

/// One run of a dyno.
#[derive(Serialize)]
struct JsonRun<'a> {
    name: &'a str,
    seconds: f64,
    exit_status: u8,
    ledger: Option<&'a Ledger>,
    printed: Option<OutputCounts>,
    agent_memory_kib: u64,
}

/// Percentiles of the response times with and without the agent, in ms.
#[derive(Serialize)]
struct SlowDown {
    requests: usize,
    with_p50: f64,
    with_p95: f64,
    without_p50: f64,
    without_p95: f64,
}

/// Appends a formatted line.
fn push_line(out: &mut String, line: fmt::Arguments<'_>) {
    writeln!(out, "{line}").ok(); // writing to a String cannot fail
}

impl Outcome {
    /// The report as JSON.
    pub fn json(&self, verdict: &Verdict) -> String {
        let dynos = self.observations.runs.iter().map(|run| JsonRun {
            name: &run.dyno,
            seconds: run.duration.as_secs_f64(),
            exit_status: run.end.status(),
            ledger: run.ledger.as_ref().and_then(|ledger| ledger.as_ref().ok()),
            printed: run.printed,
            agent_memory_kib: run.agent_memory_kib,
        });
        let report = JsonReport {
            ok: verdict.problems.is_empty(),
            problems: &verdict.problems,
            notes: &verdict.notes,
            seconds: self.duration.as_secs_f64(),
            dynos: dynos.collect(),
            drains: drain_summary::summaries(&self.observations, &self.platform_messages),
            slow_down: self.slow_down(),
            drain: self.observations.drain.as_ref(),
            requests: &self.requests,
        };
        // Cannot fail: structs and maps with string keys only.
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    }

    /// The report as text.
    pub fn text(&self, verdict: &Verdict) -> String {
        let count = self.observations.runs.len();
        let dynos = if count == 1 { "dyno" } else { "dynos" };
        let mut out = format!("\n{count} {dynos} in {:.1} s\n\n", self.duration.as_secs_f64());
        self.push_dynos(&mut out);
        let summaries = drain_summary::summaries(&self.observations, &self.platform_messages);
        if !summaries.is_empty() {
            out.push('\n');
            table(&mut out, 2, &DRAIN_TITLES, summaries.iter().flat_map(DrainSummary::rows).collect());
        }
        out.push('\n');
        self.push_requests(&mut out);
        self.push_slow_down(&mut out);
        self.push_receivers(&mut out);
        out.push('\n');
        for note in &verdict.notes {
            push_line(&mut out, format_args!("       {note}"));
        }
        if verdict.problems.is_empty() {
            self.push_success(&mut out);
        }
        for problem in &verdict.problems {
            push_line(&mut out, format_args!(" !     {problem}"));
        }
        out
    }

    /// Appends the agents' ledgers: a row for each run of a dyno, and each of its drains.
    fn push_dynos(&self, out: &mut String) {
        let has_many = self.ledgers().any(|(_, ledger)| ledger.drains.len() > 1);
        let mut titles = DYNO_TITLES.to_vec();
        let mut rows = Vec::new();
        for run in &self.observations.runs {
            let start = [run.dyno.clone(), String::new(), run.end.status().to_string()];
            match &run.ledger {
                Some(Ok(ledger)) => {
                    rows.extend(ledger.drains.iter().map(|account| account_row(run, ledger, account)));
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
        for (run, ledger) in self.ledgers() {
            for account in &ledger.drains {
                let drain = if has_many { format!(" to {}", account.drain) } else { String::new() };
                for (reason, count) in account.dropped.iter().filter(|(_, count)| **count > 0) {
                    push_line(out, format_args!("dropped, {}{drain}: {count} ({reason})", run.dyno));
                }
            }
        }
    }

    fn ledgers(&self) -> impl Iterator<Item = (&RunRecord, &Ledger)> {
        self.observations.runs.iter().filter_map(|run| Some((run, run.ledger.as_ref()?.as_ref().ok()?)))
    }

    fn push_requests(&self, out: &mut String) {
        let Requests { sent, by_status, failed } = &self.requests;
        if *sent == 0 {
            return;
        }
        let statuses = by_status.iter().map(|(status, count)| format!("{count} × {status}"));
        let codes = failed.iter().map(|(code, count)| format!("{count} × {code}"));
        let results: Vec<String> = statuses.chain(codes).collect();
        push_line(out, format_args!("requests: {sent} ({})", results.join(", ")));
    }

    fn slow_down(&self) -> Option<SlowDown> {
        let Comparison { with_agent, without_agent } = &self.comparison;
        let (with, without) = (percentiles(with_agent)?, percentiles(without_agent)?);
        Some(SlowDown {
            requests: with_agent.len().min(without_agent.len()),
            with_p50: with.p50,
            with_p95: with.p95,
            without_p50: without.p50,
            without_p95: without.p95,
        })
    }

    fn push_slow_down(&self, out: &mut String) {
        let Some(slow) = self.slow_down() else { return };
        push_line(
            out,
            format_args!(
                "slow-down: {:+.1} ms at the median of {} requests each ({:.1} ms with tailrace, {:.1} ms without), \
                 {:+.1} ms at p95",
                slow.with_p50 - slow.without_p50,
                slow.requests,
                slow.with_p50,
                slow.without_p50,
                slow.with_p95 - slow.without_p95,
            ),
        );
    }

    fn push_receivers(&self, out: &mut String) {
        let Some(drain) = &self.observations.drain else { return };
        let objections: Vec<String> = drain
            .conformance
            .iter()
            .map(|(receiver, complaints)| format!("{receiver} {}", complaints.errors))
            .collect();
        push_line(
            out,
            format_args!(
                "receivers: {} requests, {} batches that came twice; objections: {}",
                drain.requests,
                drain.duplicates,
                objections.join(", ")
            ),
        );
    }

    /// Appends what became of the lines, for a report without problems. Only dropped lines are announced in the stream.
    fn push_success(&self, out: &mut String) {
        if self.observations.runs.iter().any(|run| run.end == RunEnd::ExitTimeout) {
            push_line(out, format_args!("All lines up to the platform's kill are accounted for."));
            return;
        }
        let totals = self.totals_by_drain();
        if totals.is_empty() {
            push_line(out, format_args!("No dyno had an agent."));
        }
        let has_many = totals.len() > 1;
        for (drain, DrainTotals { captured, sum }) in totals {
            let to = if has_many { format!("{drain}: ") } else { String::new() };
            if sum.delivered_lines == captured {
                let objected =
                    if self.observations.drain.is_some() { ", and no receiver objected" } else { "" };
                let arrived =
                    if captured == 1 { "The line arrived" } else { &format!("All {captured} lines arrived") };
                push_line(out, format_args!("{to}{arrived}{objected}."));
                continue;
            }
            let parts: Vec<String> = [
                (sum.dropped_lines, "dropped and announced"),
                (sum.held_lines, "still held when their dyno ended"),
                (sum.rejected_lines, "refused by the receiver"),
            ]
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
            let (captured, parts) = (lines(captured), parts.join(", "));
            push_line(
                out,
                format_args!("{to}{captured} accounted for: {} arrived, {parts}.", sum.delivered_lines),
            );
        }
    }

    /// The sums of all ledgers, by drain.
    fn totals_by_drain(&self) -> BTreeMap<&str, DrainTotals> {
        let mut totals: BTreeMap<&str, DrainTotals> = BTreeMap::new();
        for (_, ledger) in self.ledgers() {
            for account in &ledger.drains {
                let DrainTotals { captured, sum } = totals.entry(&account.drain).or_default();
                *captured += ledger.captured_lines;
                sum.delivered_lines += account.delivered_lines;
                sum.dropped_lines += account.dropped_lines;
                sum.held_lines += account.held_lines;
                sum.rejected_lines += account.rejected_lines;
            }
        }
        totals
    }
}

/// The sum of several ledgers for one drain.
#[derive(Default)]
struct DrainTotals {
    captured: u64,
    sum: DrainLedger,
}

/// The row of one run and one of its drains.
fn account_row(run: &RunRecord, ledger: &Ledger, account: &DrainLedger) -> Vec<String> {
    let counts = [
        ledger.captured_lines,
        account.delivered_lines,
        account.dropped_lines,
        account.held_lines,
        account.rejected_lines,
        account.batches,
        account.attempts,
    ];
    let mut row = vec![run.dyno.clone(), account.drain.clone(), run.end.status().to_string()];
    row.extend(counts.map(|count| count.to_string()));
    row.push(format!("{:.1} MiB", run.agent_memory_kib as f64 / 1024.0));
    row
}

#[cfg(test)]
mod tests;
