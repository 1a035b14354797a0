//! Expected counts, kept by the test while it sends: the drain must count the same.

use std::collections::BTreeMap;

/// A request in a router line.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: &'static str,
    pub(crate) dyno: String,
    pub(crate) status: u16,
    pub(crate) connect: u64,
    pub(crate) service: u64,
    pub(crate) bytes: u64,
    pub(crate) clients: Vec<String>,
    pub(crate) code: Option<&'static str>,
}

/// Counts of everything that was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// Accepted requests to the drain, by token.
    pub(crate) deliveries: BTreeMap<&'static str, u64>,
    /// Frames by token, then by APP-NAME and PROCID.
    pub(crate) frames: BTreeMap<&'static str, BTreeMap<(String, String), u64>>,
    pub(crate) requests: Vec<Request>,
    /// Lines with the word `error`, by `app[proc]`.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Lines with an error code of the platform, by code.
    pub(crate) codes: BTreeMap<&'static str, u64>,
    /// Platform events, by name.
    pub(crate) events: BTreeMap<&'static str, u64>,
    /// Values of samples, by dyno and metric.
    pub(crate) samples: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Lost lines that loss notices announce, by token.
    pub(crate) lost: BTreeMap<&'static str, u64>,
}

impl Expected {
    /// Counts a frame; `from` is `APP-NAME PROCID`.
    pub(crate) fn add_frame(&mut self, token: &'static str, from: &str) {
        let (app, proc_id) = from.split_once(' ').expect("app and proc");
        let of_token = self.frames.entry(token).or_default();
        *of_token.entry((app.to_owned(), proc_id.to_owned())).or_default() += 1;
    }

    pub(crate) fn add_event(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn add_code(&mut self, code: &'static str) {
        *self.codes.entry(code).or_default() += 1;
    }

    /// Counts a line with the word `error`.
    pub(crate) fn add_error_line(&mut self, component: &str) {
        *self.errors.entry(component.to_owned()).or_default() += 1;
    }

    pub(crate) fn add_sample(&mut self, dyno: &str, metric: &'static str, value: f64) {
        self.samples.entry((dyno.to_owned(), metric)).or_default().push(value);
    }

    /// Frames of a drain whose APP-NAME and PROCID match.
    pub(crate) fn count_frames(&self, token: &str, matches: impl Fn(&str, &str) -> bool) -> u64 {
        let frames = self.frames.get(token).into_iter().flatten();
        frames.filter(|((app, proc_id), _)| matches(app, proc_id)).map(|(_, count)| count).sum()
    }

    /// Requests that match.
    pub(crate) fn count_requests(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        self.requests.iter().filter(|request| matches(request)).count() as u64
    }
}
