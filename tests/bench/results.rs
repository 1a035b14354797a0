//! The book: every figure of every run, by key, and what went missing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::stats::median;

/// Figures as they were measured.
#[derive(Default)]
pub(crate) struct Book {
    figures: BTreeMap<String, Vec<f64>>,
    missing: u64,
    faults: Vec<String>,
}

impl Book {
    /// Enters one run's figure.
    pub(crate) fn add(&mut self, key: impl Into<String>, value: f64) {
        self.figures.entry(key.into()).or_default().push(value);
    }

    /// The figures of `key`, in the order of the runs.
    pub(crate) fn runs(&self, key: &str) -> &[f64] {
        self.figures.get(key).map_or(&[], Vec::as_slice)
    }

    /// The median of `key`.
    pub(crate) fn median(&self, key: &str) -> Option<f64> {
        median(self.runs(key))
    }

    /// The median over the runs of `change(key, base)`: both of one run, so that a machine that is slow for a
    /// while is slow for both.
    pub(crate) fn paired(&self, key: &str, base: &str, change: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let pairs = self.runs(key).iter().zip(self.runs(base));
        median(&pairs.map(|(value, base)| change(*value, *base)).collect::<Vec<_>>())
    }

    /// Enters a fault when a count is not what it must be.
    pub(crate) fn expect(&mut self, key: &str, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.fault(format!("{key}: {what}: {found}, expected {expected}"));
        }
    }

    /// Enters what became of the lines of one measurement: those not delivered are missing.
    pub(crate) fn delivered(&mut self, key: &str, sent: u64, delivered: u64) {
        self.missing += sent.saturating_sub(delivered);
        self.expect(key, "lines delivered", sent, delivered);
    }

    /// Enters a sentence about what went wrong, and says it.
    pub(crate) fn fault(&mut self, sentence: String) {
        eprintln!(" !     {sentence}");
        self.faults.push(sentence);
    }

    /// Lines that were sent and not delivered, over all runs.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// What went wrong.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Everything, for other programs: `{"figures": {KEY: {"median": …, "runs": […]}}, "missing": …, "faults": […]}`.
    pub(crate) fn json(&self) -> Value {
        let figure = |(key, runs): (&String, &Vec<f64>)| {
            (key.clone(), json!({ "median": median(runs), "runs": runs }))
        };
        let figures: Map<_, _> = self.figures.iter().map(figure).collect();
        json!({ "figures": figures, "missing": self.missing, "faults": self.faults })
    }
}
