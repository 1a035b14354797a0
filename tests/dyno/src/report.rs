//! The report at the end: a table for people, JSON for programs.

use crate::account::{DrainLedger, Ledger, Printed};
use crate::router::Requests;
use crate::verdict::{Ending, Evidence};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;
use tailrace_drain::tally::Report;

/// A simulation that has come to its end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the witnesses say.
    pub evidence: Evidence,
    /// What came of the requests to the app.
    pub requests: Requests,
    /// From the start of the dyno to its end.
    pub took: Duration,
}

#[derive(Serialize)]
struct Json<'a> {
    ok: bool,
    problems: &'a [String],
    seconds: f64,
    exit_status: u8,
    ledger: Option<&'a Ledger>,
    drain: &'a Report,
    printed: Option<Printed>,
    requests: &'a Requests,
}

impl Ending {
    /// The exit status of the dyno's main process.
    pub fn status(self) -> u8 {
        match self {
            Self::Stopped(status) | Self::Exited(status) | Self::Died(status) => status,
            Self::BootTimeout | Self::ExitTimeout => 137,
        }
    }
}

impl Outcome {
    /// The report as JSON.
    pub fn json(&self, problems: &[String]) -> String {
        let json = Json {
            ok: problems.is_empty(),
            problems,
            seconds: self.took.as_secs_f64(),
            exit_status: self.evidence.ending.status(),
            ledger: self.evidence.ledger.as_ref().ok(),
            drain: &self.evidence.drain,
            printed: self.evidence.printed,
            requests: &self.requests,
        };
        // Strings and numbers in structs and string-keyed maps: nothing that JSON does not have.
        serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
    }

    /// The report as a table.
    pub fn text(&self, problems: &[String]) -> String {
        let Self { evidence, requests, took } = self;
        let drain = &evidence.drain;
        let mut out = String::from("\n");
        let status = evidence.ending.status();
        let _infallible =
            writeln!(out, "web.1 ran for {:.1} s and ended with status {status}\n", took.as_secs_f64());
        let answered =
            |class| requests.by_status.range(class..class + 100).map(|(_, count)| count).sum::<u64>();
        let failed: u64 = requests.failed.values().sum();
        row(
            &mut out,
            "to the app",
            &[
                ("requests", requests.sent),
                ("2xx", answered(200)),
                ("3xx", answered(300)),
                ("4xx", answered(400)),
                ("5xx", answered(500)),
                ("failed", failed),
            ],
        );
        if let Ok(ledger) = &evidence.ledger {
            let sum = |of: fn(&DrainLedger) -> u64| ledger.drains.iter().map(of).sum::<u64>();
            row(
                &mut out,
                "lines",
                &[
                    ("captured", ledger.captured_lines),
                    ("delivered", sum(|drain| drain.delivered_lines)),
                    ("dropped", sum(|drain| drain.dropped_lines)),
                    ("held", sum(|drain| drain.held_lines)),
                    ("rejected", sum(|drain| drain.rejected_lines)),
                ],
            );
            let batches =
                [("delivered", sum(|drain| drain.batches)), ("attempts", sum(|drain| drain.attempts))];
            row(&mut out, "batches", &batches);
        }
        row(
            &mut out,
            "at the drain",
            &[("requests", drain.requests), ("frames", drain.frames), ("duplicates", drain.duplicates)],
        );
        let lag = drain.lag_ms;
        let ms = |ms: f64| format!("{ms:.0} ms");
        row(&mut out, "lag", &[("p50", ms(lag.p50)), ("p95", ms(lag.p95)), ("max", ms(lag.max))]);
        let objections: Vec<(&str, u64)> =
            drain.conformance.iter().map(|(name, complaints)| (name.as_str(), complaints.errors)).collect();
        row(&mut out, "objections", &objections);
        out.push('\n');
        if problems.is_empty() {
            self.well(&mut out);
        }
        for problem in problems {
            let _infallible = writeln!(out, " !     {problem}");
        }
        out
    }

    fn well(&self, out: &mut String) {
        let Ok(ledger) = &self.evidence.ledger else { return };
        let captured = ledger.captured_lines;
        let dropped: u64 = ledger.drains.iter().map(|drain| drain.dropped_lines).sum();
        let _infallible = match dropped {
            0 => writeln!(out, "All {captured} lines arrived, and no receiver objected."),
            _ => writeln!(
                out,
                "All {captured} lines are accounted for: {dropped} were dropped and announced, the others arrived."
            ),
        };
    }
}

/// A name, and values under their titles.
fn row(out: &mut String, name: &str, cells: &[(&str, impl ToString)]) {
    let (mut titles, mut values) = (format!("{name:<14}"), " ".repeat(14));
    for (title, value) in cells {
        let value = value.to_string();
        let width = 2 + title.len().max(value.len()).max(8);
        let _infallible = write!(titles, "{title:>width$}");
        let _infallible = write!(values, "{value:>width$}");
    }
    let _infallible = writeln!(out, "{titles}\n{values}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Digest;
    use tailrace_drain::tally::Complaints;

    fn outcome() -> Outcome {
        let account =
            DrainLedger { delivered_lines: 12_345, batches: 7, attempts: 8, ..DrainLedger::default() };
        let mut drain = Report { frames: 12_347, lines: 12_345, ..Report::default() };
        drain.conformance.insert("sumo".to_owned(), Complaints::default());
        let evidence = Evidence {
            ending: Ending::Stopped(143),
            ledger: Ok(Ledger { captured_lines: 12_345, own_frames: 2, drains: vec![account] }),
            drain,
            arrived: Digest::default(),
            printed: None,
        };
        let requests =
            Requests { sent: 5, by_status: [(200, 3), (404, 1)].into(), failed: [("H13", 1)].into() };
        Outcome { evidence, requests, took: Duration::from_millis(5_040) }
    }

    #[test]
    fn the_table_says_what_was_counted() {
        let text = outcome().text(&[]);
        for part in [
            "ran for 5.0 s and ended with status 143\n",
            "lines           captured  delivered   dropped      held  rejected\n                   12345      12345         0         0         0\n",
            "to the app      requests       2xx       3xx       4xx       5xx    failed\n                       5         3         0         1         0         1\n",
            "All 12345 lines arrived, and no receiver objected.\n",
        ] {
            assert!(text.contains(part), "{part:?}: {text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }

    #[test]
    fn problems_stand_in_both_reports() {
        let problems = ["one".to_owned(), "another".to_owned()];
        let text = outcome().text(&problems);
        assert!(text.ends_with("\n !     one\n !     another\n"), "{text}");
        assert!(!text.contains("arrived"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&outcome().json(&problems)).expect("is JSON");
        assert_eq!((json["ok"].as_bool(), json["problems"][1].as_str()), (Some(false), Some("another")));
        assert_eq!(json["ledger"]["captured_lines"], 12_345);
        assert_eq!(json["drain"]["conformance"]["sumo"]["errors"], 0);
        assert_eq!(json["requests"]["by_status"]["404"], 1);
    }
}
