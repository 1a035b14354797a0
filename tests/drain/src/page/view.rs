//! The data that the panels are rendered from: the same JSON that `GET /model.json` returns.

use crate::filter::Filter;
use crate::history::MAX_BYTES;
use crate::model::errors::CODES;
use crate::server::Shared;
use crate::stream::Stream;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use tailrace::frame::Timestamp;

/// Report, model and faults at one instant.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) json: Value,
    /// Ids of the open `<details>`; `None` renders the content of all of them.
    pub(crate) unfolded: Option<BTreeSet<String>>,
}

impl View {
    /// The view of the frames that pass a filter. Slow for a new filter: it scans the history.
    pub(crate) fn new(shared: &Shared, filter: &Filter) -> Self {
        // Copied under the lock, serialized after its release.
        let (mut snapshot, held) = {
            let stats = shared.stats();
            let kept = stats.history();
            let held = json!({
                "lines": kept.next() - kept.first(),
                "bytes": kept.bytes(),
                "most_lines": kept.max_lines(),
                "most_bytes": MAX_BYTES,
            });
            (stats.snapshot(), held)
        };
        let mut counted = None;
        if !filter.is_empty() {
            let (filtered, from) = shared.filtered_stats().update(shared, filter);
            snapshot = snapshot.with_frames_of(filtered);
            counted = Some(from);
        }
        let now = Timestamp::now().as_micros() / 1_000_000;
        let mut model = snapshot.model.take();
        if let Some(model) = &mut model {
            let requests = model.requests.tokens.clone();
            let duplicates = shared.duplicates().update(shared);
            model.delivery.summarize(&requests, &snapshot, duplicates);
        }
        let report = &snapshot.report;
        let missing: u64 = report.sequence.values().map(|sequence| sequence.missing).sum();
        let numbered_lines: u64 = report.sequence.values().map(|sequence| sequence.count).sum();
        let received: u64 =
            report.streams.values().flat_map(|procs| procs.values().map(Stream::frames)).sum();
        let codes: Map<_, _> =
            CODES.iter().map(|(code, meaning)| ((*code).to_owned(), Value::from(*meaning))).collect();
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64 * 100.0);
        Self {
            json: json!({
                "now": now,
                "filter": counted.map(|counted| json!({
                    "token": filter.token, "app": filter.app, "proc": filter.proc_id, "counted": counted,
                })),
                "platform": snapshot.platform,
                "came": received,
                "wire_percent": share(report.wire_bytes, report.bytes),
                "current_dynos": model.as_ref().map(|model| model.samples.current(now)),
                "report": report,
                "model": model,
                "faults": shared.faults(),
                "held": held,
                "numbered": { "lines": numbered_lines, "missing": missing },
                "codes": codes,
            }),
            unfolded: None,
        }
    }

    /// The value at a JSON pointer (RFC 6901).
    pub(crate) fn at(&self, pointer: &str) -> Option<&Value> {
        self.json.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The number at a JSON pointer; 0 if there is none.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.at(pointer).and_then(Value::as_f64).unwrap_or_default()
    }

    /// Whether the value at a JSON pointer is present, not 0 and not without members.
    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.at(pointer).is_some_and(|value| match value {
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => true,
        })
    }

    /// Whether the content of the `<details>` with this id is rendered.
    pub(crate) fn is_unfolded(&self, id: &str) -> bool {
        self.unfolded.as_ref().is_none_or(|unfolded| unfolded.contains(id))
    }
}

/// Escapes a key for use in a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
