//! The results: the figures of all runs by key, the lines that were lost, and the faults.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::stats::median;

/// Figures as measured.
#[derive(Default)]
pub(crate) struct Results {
    figures: BTreeMap<String, Vec<f64>>,
    missing: u64,
    faults: Vec<String>,
}

impl Results {
    /// Adds the figure of one run.
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

    /// The median over the runs of `change(key, base)`. Both figures are of the same run, so that a phase in which the
    /// machine is slow affects both.
    pub(crate) fn paired(&self, key: &str, base: &str, change: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let pairs = self.runs(key).iter().zip(self.runs(base));
        median(&pairs.map(|(value, base)| change(*value, *base)).collect::<Vec<_>>())
    }

    /// Adds a fault if a count is wrong.
    pub(crate) fn expect(&mut self, key: &str, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.add_fault(format!("{key}: {what}: {found}, expected {expected}"));
        }
    }

    /// Adds the outcome of one measurement; lines that were not delivered count as missing.
    pub(crate) fn expect_delivered(&mut self, key: &str, sent: u64, delivered: u64) {
        self.missing += sent.saturating_sub(delivered);
        self.expect(key, "lines delivered", sent, delivered);
    }

    /// Adds the description of a fault, and prints it.
    pub(crate) fn add_fault(&mut self, description: String) {
        eprintln!(" !     {description}");
        self.faults.push(description);
    }

    /// Lines that were sent and not delivered, over all runs.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Descriptions of all faults.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// All results as JSON: `{"figures": {KEY: {"median": …, "runs": […]}}, "missing": …, "faults": […]}`.
    pub(crate) fn json(&self) -> Value {
        let figure = |(key, runs): (&String, &Vec<f64>)| {
            (key.clone(), json!({ "median": median(runs), "runs": runs }))
        };
        let figures: Map<_, _> = self.figures.iter().map(figure).collect();
        json!({ "figures": figures, "missing": self.missing, "faults": self.faults })
    }
}
