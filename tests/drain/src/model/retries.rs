//! Repeated requests, recognized by `Logplex-Frame-Id`.

use super::Attempt;
use crate::measure::{BoundedMap, Quantiles};
use serde::{Serialize, Serializer};
use std::collections::{HashMap, VecDeque};

/// Most ids without a success; the oldest are evicted.
const MAX_OPEN: usize = 4096;
/// Most ids that are shown.
const MAX_SHOWN: usize = 20;
/// Most results that are shown per id.
const MAX_CODES: usize = 16;

/// The requests with one id.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RetriedBatch {
    /// `Logplex-Frame-Id`.
    pub id: String,
    /// Requests with this id.
    pub attempts: u64,
    /// Their results, the first 16: a status, or `closed`.
    pub codes: Vec<String>,
    /// Time from the first request to the success or the last request, in ms.
    pub took_ms: u64,
    /// Time between the last two requests, from the end of one to the start of the other, in ms.
    pub waited_ms: Option<f64>,
    /// Start of the first request, in µs since the Unix epoch.
    #[serde(skip)]
    first_started_at: u64,
    /// End of the last request, in µs since the Unix epoch.
    #[serde(skip)]
    last_ended_at: u64,
}

/// Counts of retries.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Retries {
    /// Requests after the first with the same id.
    pub requests: u64,
    /// Ids that succeeded after more than one request.
    pub recovered: u64,
    /// Ids without a success yet.
    pub open: u64,
    /// Ids that succeeded after a 408 or a close: another receiver may have stored them twice.
    #[serde(rename = "maybe_twice")]
    pub maybe_duplicated: u64,
    /// Number of ids by number of requests until success.
    pub by_attempts: BoundedMap<u64, 32>,
    /// Time from the first request to the success, in ms, of ids with more than one request.
    pub took: Quantiles,
    /// Time from the end of one request to the start of the next with the same id, in ms: the sender's backoff.
    pub waits: Quantiles,
    /// The last ids that recovered.
    pub recent: VecDeque<RetriedBatch>,
    /// The ids that have been without a success for the longest time.
    #[serde(serialize_with = "oldest")]
    waiting: HashMap<String, RetriedBatch>,
    #[serde(skip)]
    order: VecDeque<String>,
}

fn oldest<S: Serializer>(waiting: &HashMap<String, RetriedBatch>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut oldest: Vec<_> = waiting.values().collect();
    oldest.sort_by_key(|retried| std::cmp::Reverse(retried.first_started_at));
    serializer.collect_seq(&oldest[oldest.len().saturating_sub(MAX_SHOWN)..])
}

impl Retries {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        let Some(id) = attempt.id else { return };
        let is_success = attempt.status.is_some_and(|status| (200..300).contains(&status));
        let Some(known) = self.waiting.get_mut(id) else {
            if is_success {
                *self.by_attempts.entry("1") += 1;
            } else {
                self.add_open(id, attempt);
            }
            return;
        };
        known.record(attempt);
        if let Some(waited) = known.waited_ms {
            self.waits.add(waited);
        }
        self.requests += 1;
        if is_success && let Some(done) = self.waiting.remove(id) {
            self.order.retain(|waiting| waiting != id);
            self.open = self.waiting.len() as u64;
            self.recovered += 1;
            self.maybe_duplicated +=
                u64::from(done.codes.iter().any(|code| code == "408" || code == "closed"));
            *self.by_attempts.entry(&done.attempts.to_string()) += 1;
            self.took.add(done.took_ms as f64);
            if self.recent.len() == MAX_SHOWN {
                self.recent.pop_front();
            }
            self.recent.push_back(done);
        }
    }

    fn add_open(&mut self, id: &str, attempt: &Attempt<'_>) {
        let mut new = RetriedBatch {
            id: id.to_owned(),
            first_started_at: attempt.started_at(),
            ..RetriedBatch::default()
        };
        new.record(attempt);
        self.waiting.insert(id.to_owned(), new);
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX_OPEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.open = self.waiting.len() as u64;
    }
}

impl RetriedBatch {
    fn record(&mut self, attempt: &Attempt<'_>) {
        self.attempts += 1;
        if self.attempts > 1 {
            self.waited_ms = Some(attempt.started_at().saturating_sub(self.last_ended_at) as f64 / 1000.0);
        }
        self.last_ended_at = attempt.ended_at;
        self.took_ms = attempt.ended_at.saturating_sub(self.first_started_at) / 1000;
        if self.codes.len() < MAX_CODES {
            let code = attempt.status.map_or_else(|| "closed".to_owned(), |status| status.to_string());
            self.codes.push(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_id_is_tracked_until_its_success() {
        let mut retries = Retries::default();
        let duration = Duration::from_millis(1);
        for (ended_at, id, status) in
            [(1_000, "a", Some(503)), (1_000, "b", Some(204)), (2_000, "a", None), (9_000, "a", Some(204))]
        {
            retries.attempt(&Attempt { ended_at, token: "d.1", id: Some(id), status, duration });
        }
        retries.attempt(&Attempt {
            ended_at: 9_500,
            token: "d.1",
            id: Some("c"),
            status: Some(503),
            duration,
        });
        assert_eq!(
            (retries.requests, retries.recovered, retries.open, retries.maybe_duplicated),
            (2, 1, 1, 1)
        );
        assert_eq!(retries.by_attempts["1"] + retries.by_attempts["3"], 2);
        let only = &retries.recent[0];
        assert_eq!((only.took_ms, only.codes.join(" ").as_str()), (9, "503 closed 204"));
        assert_eq!((retries.waits.count(), retries.waits.max(), only.waited_ms), (2, 6.0, Some(6.0)));
        let json = serde_json::to_value(&retries).expect("is JSON");
        assert_eq!((&json["waiting"][0]["id"], &json["waiting"][1]), (&"c".into(), &serde_json::Value::Null));
    }
}
