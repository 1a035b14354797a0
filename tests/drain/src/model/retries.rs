//! Requests that came more than once, told by `Logplex-Frame-Id`.

use super::Attempt;
use super::measure::{Names, Quantiles};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};

/// Ids that wait for their success; the oldest are forgotten.
const OPEN: usize = 4096;
/// Retried requests that are shown.
const RECENT: usize = 20;
/// Answers that are told of one id.
const CODES: usize = 16;

/// One id, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// `Logplex-Frame-Id`.
    pub id: String,
    /// Requests with it.
    pub attempts: u64,
    /// What they met, the first 16: a status, or `closed`.
    pub codes: Vec<String>,
    /// From the first request to its success, in ms.
    pub took_ms: u64,
    #[serde(skip)]
    first: u64,
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
    /// The last that recovered.
    pub recent: VecDeque<Retried>,
    #[serde(skip)]
    waiting: HashMap<String, Retried>,
    #[serde(skip)]
    order: VecDeque<String>,
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
        self.requests += 1;
        if is_success && let Some(mut done) = self.waiting.remove(id) {
            self.order.retain(|waiting| waiting != id);
            self.open = self.waiting.len() as u64;
            done.took_ms = attempt.now.saturating_sub(done.first) / 1000;
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
        let mut new = Retried { id: id.to_owned(), first: attempt.now, ..Retried::default() };
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
        for (now, id, status) in
            [(0, "a", Some(503)), (1_000, "b", Some(204)), (2_000, "a", None), (9_000, "a", Some(204))]
        {
            let took = Duration::ZERO;
            retries.attempt(&Attempt { now, id: Some(id), status, took });
        }
        assert_eq!((retries.requests, retries.recovered, retries.open, retries.maybe_twice), (2, 1, 0, 1));
        assert_eq!(retries.by_attempts["1"] + retries.by_attempts["3"], 2);
        let only = &retries.recent[0];
        assert_eq!((only.took_ms, only.codes.join(" ").as_str()), (9, "503 closed 204"));
    }
}
