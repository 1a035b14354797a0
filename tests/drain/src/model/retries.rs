//! Requests that came more than once, told by `Logplex-Frame-Id`.

use super::Attempt;
use crate::measure::{Names, Quantiles};
use serde::{Serialize, Serializer};
use std::collections::{HashMap, VecDeque};

/// Ids that wait for their success; the oldest are forgotten.
const OPEN: usize = 4096;
/// Retried requests that are shown.
const RECENT: usize = 20;
/// Answers that are told of one id.
const CODES: usize = 16;

/// One id, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Retried {
    /// `Logplex-Frame-Id`.
    pub id: String,
    /// Requests with it.
    pub attempts: u64,
    /// What they met, the first 16: a status, or `closed`.
    pub codes: Vec<String>,
    /// From the first request to the last, or to its success, in ms.
    pub took_ms: u64,
    /// From the end of one request to the start of the next, in ms: the last time.
    pub waited_ms: Option<f64>,
    /// When the first came, and when the last was over, in µs since the Unix epoch.
    #[serde(skip)]
    first: u64,
    #[serde(skip)]
    last: u64,
}

/// Retries.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Retries {
    /// Requests beyond the first with an id.
    pub requests: u64,
    /// Ids that succeeded after more than one request.
    pub recovered: u64,
    /// Ids without a success so far.
    pub open: u64,
    /// Ids that met a 408 or a close, and were sent again: they may be stored twice elsewhere.
    pub maybe_twice: u64,
    /// Attempts until success: ids.
    pub by_attempts: Names<u64, 32>,
    /// From the first request to its success, in ms, of those with more than one.
    pub took: Quantiles,
    /// From the end of one request to the start of the next with the same id, in ms: how the sender backs off.
    pub waits: Quantiles,
    /// The last that recovered.
    pub recent: VecDeque<Retried>,
    /// Those that wait the longest for their success.
    #[serde(serialize_with = "oldest")]
    waiting: HashMap<String, Retried>,
    #[serde(skip)]
    order: VecDeque<String>,
}

fn oldest<S: Serializer>(waiting: &HashMap<String, Retried>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut oldest: Vec<_> = waiting.values().collect();
    oldest.sort_by_key(|retried| std::cmp::Reverse(retried.first));
    serializer.collect_seq(&oldest[oldest.len().saturating_sub(RECENT)..])
}

impl Retries {
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) {
        let Some(id) = attempt.id else { return };
        let is_success = attempt.status.is_some_and(|status| (200..300).contains(&status));
        let Some(known) = self.waiting.get_mut(id) else {
            if is_success {
                *self.by_attempts.of("1") += 1;
            } else {
                self.wait(id, attempt);
            }
            return;
        };
        known.meet(attempt);
        if let Some(waited) = known.waited_ms {
            self.waits.add(waited);
        }
        self.requests += 1;
        if is_success && let Some(done) = self.waiting.remove(id) {
            self.order.retain(|waiting| waiting != id);
            self.open = self.waiting.len() as u64;
            self.recovered += 1;
            self.maybe_twice += u64::from(done.codes.iter().any(|code| code == "408" || code == "closed"));
            *self.by_attempts.of(&done.attempts.to_string()) += 1;
            self.took.add(done.took_ms as f64);
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(done);
        }
    }

    fn wait(&mut self, id: &str, attempt: &Attempt<'_>) {
        let mut new = Retried { id: id.to_owned(), first: attempt.begun(), ..Retried::default() };
        new.meet(attempt);
        self.waiting.insert(id.to_owned(), new);
        self.order.push_back(id.to_owned());
        if self.order.len() > OPEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        self.open = self.waiting.len() as u64;
    }
}

impl Retried {
    fn meet(&mut self, attempt: &Attempt<'_>) {
        self.attempts += 1;
        if self.attempts > 1 {
            self.waited_ms = Some(attempt.begun().saturating_sub(self.last) as f64 / 1000.0);
        }
        self.last = attempt.now;
        self.took_ms = attempt.now.saturating_sub(self.first) / 1000;
        if self.codes.len() < CODES {
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
    fn an_id_is_followed_to_its_success() {
        let mut retries = Retries::default();
        let took = Duration::from_millis(1);
        for (now, id, status) in
            [(1_000, "a", Some(503)), (1_000, "b", Some(204)), (2_000, "a", None), (9_000, "a", Some(204))]
        {
            retries.attempt(&Attempt { now, token: "d.1", id: Some(id), status, took });
        }
        retries.attempt(&Attempt { now: 9_500, token: "d.1", id: Some("c"), status: Some(503), took });
        assert_eq!((retries.requests, retries.recovered, retries.open, retries.maybe_twice), (2, 1, 1, 1));
        assert_eq!(retries.by_attempts["1"] + retries.by_attempts["3"], 2);
        let only = &retries.recent[0];
        assert_eq!((only.took_ms, only.codes.join(" ").as_str()), (9, "503 closed 204"));
        assert_eq!((retries.waits.count(), retries.waits.max(), only.waited_ms), (2, 6.0, Some(6.0)));
        let json = serde_json::to_value(&retries).expect("is JSON");
        assert_eq!((&json["waiting"][0]["id"], &json["waiting"][1]), (&"c".into(), &serde_json::Value::Null));
    }
}
