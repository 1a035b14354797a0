//! Expected counts, kept by the test while it sends: the drain must count the same.

use std::collections::BTreeMap;

/// A request in a router line.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its path, without a query.
    pub path: &'static str,
    /// Which dyno answered.
    pub dyno: String,
    /// Status of the answer.
    pub status: u16,
    /// Milliseconds until the dyno was connected.
    pub connect: u64,
    /// Milliseconds until the answer was complete.
    pub service: u64,
    /// Size of the answer.
    pub bytes: u64,
    /// Addresses in `fwd`.
    pub clients: Vec<String>,
    /// The platform's error code, such as `H12`.
    pub code: Option<&'static str>,
}

/// Counts of everything that was sent.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Accepted requests to the drain, by token.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// Frames by token, then by APP-NAME and PROCID.
    pub frames: BTreeMap<&'static str, BTreeMap<(String, String), u64>>,
    /// Requests in router lines.
    pub requests: Vec<Request>,
    /// Lines with the word `error`, by `app[proc]`.
    pub errors: BTreeMap<String, u64>,
    /// Lines with an error code of the platform, by code.
    pub codes: BTreeMap<&'static str, u64>,
    /// Platform events, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// Values of samples, by dyno and metric.
    pub samples: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Lost lines that loss notices announce, by token.
    pub lost: BTreeMap<&'static str, u64>,
}

impl Expected {
    /// Counts a frame; `from` is `APP-NAME PROCID`.
    pub fn add_frame(&mut self, token: &'static str, from: &str) {
        let (app, proc_id) = from.split_once(' ').expect("app and proc");
        let of_token = self.frames.entry(token).or_default();
        *of_token.entry((app.to_owned(), proc_id.to_owned())).or_default() += 1;
    }

    /// Counts an event of the platform.
    pub fn add_event(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    /// Counts a line with an error code of the platform.
    pub fn add_code(&mut self, code: &'static str) {
        *self.codes.entry(code).or_default() += 1;
    }

    /// Counts a line with the word `error`.
    pub fn add_error_line(&mut self, component: &str) {
        *self.errors.entry(component.to_owned()).or_default() += 1;
    }

    /// Notes a value of a sample.
    pub fn add_sample(&mut self, dyno: &str, metric: &'static str, value: f64) {
        self.samples.entry((dyno.to_owned(), metric)).or_default().push(value);
    }

    /// Frames of a drain whose APP-NAME and PROCID match.
    pub fn count_frames(&self, token: &str, matches: impl Fn(&str, &str) -> bool) -> u64 {
        let frames = self.frames.get(token).into_iter().flatten();
        frames.filter(|((app, proc_id), _)| matches(app, proc_id)).map(|(_, count)| count).sum()
    }

    /// Requests that match.
    pub fn count_requests(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        self.requests.iter().filter(|request| matches(request)).count() as u64
    }
}
