//! What the panels are rendered from: the same JSON that `GET /model.json` answers.

use crate::server::Shared;
use serde_json::{Value, json};
use tailrace::frame::now_micros;

/// Report, model and faults at one instant.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) json: Value,
}

impl View {
    pub(crate) fn of(shared: &Shared) -> Self {
        // Copied under the lock, written out behind it.
        let (report, model, held, held_bytes) = {
            let tally = shared.tally();
            let kept = tally.kept();
            (tally.report(), tally.model().cloned(), kept.next() - kept.first(), kept.bytes())
        };
        let plan = shared.plan();
        let faults: Vec<_> =
            plan.1.specs().map(|(spec, hits)| json!({ "spec": spec, "hits": hits })).collect();
        drop(plan);
        let missing: u64 = report.sequence.values().map(|sequence| sequence.missing).sum();
        let numbered: u64 = report.sequence.values().map(|sequence| sequence.count).sum();
        let codes = crate::model::errors::CODES.iter();
        let codes: serde_json::Map<_, _> =
            codes.map(|(code, meaning)| ((*code).to_owned(), Value::from(*meaning))).collect();
        Self {
            json: json!({
                "now": now_micros() / 1_000_000,
                "report": report,
                "model": model,
                "faults": faults,
                "held": { "lines": held, "bytes": held_bytes },
                "numbered": { "lines": numbered, "missing": missing },
                "codes": codes,
            }),
        }
    }

    /// The value at a JSON pointer (RFC 6901).
    pub(crate) fn at(&self, pointer: &str) -> Option<&Value> {
        self.json.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The number at a JSON pointer; 0 where there is none.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.at(pointer).and_then(Value::as_f64).unwrap_or_default()
    }
}

/// A key as a part of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
