//! Conformance: each rule of Logplex's form, how often it was broken, and the last example.

use super::Batch;
use serde::Serialize;
use std::collections::BTreeMap;
use tailrace::frame::STAMP_LEN;

/// The rules, as they are named.
pub const RULES: [&str; 9] = [
    "body splits by LEN",
    "Logplex-Msg-Count is the number of frames",
    "Content-Type is application/logplex-1",
    "Logplex-Frame-Id is there",
    "Logplex-Drain-Token is there",
    "time has six digits and +00:00",
    "hostname is `host`",
    "one dash before the message",
    "no CR in the message",
];

/// One rule.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rule {
    /// Requests or frames that broke it.
    pub broken: u64,
    /// The last one.
    pub last: Option<String>,
}

/// All rules.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Conformance(pub BTreeMap<&'static str, Rule>);

impl Default for Conformance {
    fn default() -> Self {
        Self(RULES.into_iter().map(|rule| (rule, Rule::default())).collect())
    }
}

impl Conformance {
    fn check(&mut self, rule: usize, holds: bool, example: impl FnOnce() -> String) {
        if holds {
            return;
        }
        let rule = self.0.entry(RULES[rule]).or_default();
        rule.broken += 1;
        rule.last = Some(example().chars().take(200).collect());
    }

    pub(crate) fn batch(&mut self, batch: &Batch<'_>) {
        let headers = batch.headers;
        self.check(0, batch.error.is_none(), || batch.error.unwrap_or_default().to_owned());
        self.check(1, headers.count == Some(batch.frames.len() as u64), || {
            let said = headers.count.map_or_else(|| "nothing".to_owned(), |count| count.to_string());
            format!("the header says {said}, there are {} frames", batch.frames.len())
        });
        self.check(2, headers.content_type.as_deref() == Some("application/logplex-1"), || {
            headers.content_type.clone().unwrap_or_else(|| "no Content-Type".to_owned())
        });
        self.check(3, headers.id.is_some(), || "a request without it".to_owned());
        self.check(4, !batch.token.is_empty(), || "a request without it".to_owned());
        for frame in batch.frames {
            let time = frame.time.as_bytes();
            let is_time = time.len() == STAMP_LEN && time[19] == b'.' && time.ends_with(b"+00:00");
            self.check(5, is_time, || frame.time.to_owned());
            self.check(6, frame.host == "host", || frame.host.to_owned());
            self.check(7, !frame.msg.starts_with("- "), || frame.msg.to_owned());
            self.check(8, memchr::memchr(b'\r', frame.msg.as_bytes()).is_none(), || frame.msg.to_owned());
        }
    }
}
