//! What a test sent, counted by itself from what it meant to say: the drain's counts have to be the same.

use std::collections::BTreeMap;

/// A request that the router told of.
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

/// Everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Requests of a drain that were taken, by token.
    pub(crate) posts: BTreeMap<&'static str, u64>,
    /// Frames by token, then by APP-NAME and PROCID.
    pub(crate) frames: BTreeMap<&'static str, BTreeMap<(String, String), u64>>,
    pub(crate) requests: Vec<Request>,
    /// Lines with the word `error`, by `app[proc]`, each once.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Codes of the platform.
    pub(crate) codes: BTreeMap<&'static str, u64>,
    /// What happened, by the words of the page.
    pub(crate) events: BTreeMap<&'static str, u64>,
    /// Values of samples, by dyno and metric.
    pub(crate) samples: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Lines that notices announce, by token.
    pub(crate) lost: BTreeMap<&'static str, u64>,
}

impl Sent {
    /// A frame is to be sent.
    pub(crate) fn frame(&mut self, token: &'static str, from: &str) {
        let (app, proc_id) = from.split_once(' ').expect("app and proc");
        let of_token = self.frames.entry(token).or_default();
        *of_token.entry((app.to_owned(), proc_id.to_owned())).or_default() += 1;
    }

    pub(crate) fn happened(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }

    pub(crate) fn failed(&mut self, code: &'static str) {
        *self.codes.entry(code).or_default() += 1;
    }

    /// A line with the word `error`.
    pub(crate) fn error(&mut self, component: &str) {
        *self.errors.entry(component.to_owned()).or_default() += 1;
    }

    pub(crate) fn sample(&mut self, dyno: &str, metric: &'static str, value: f64) {
        self.samples.entry((dyno.to_owned(), metric)).or_default().push(value);
    }

    /// Frames that fit.
    pub(crate) fn count(&self, token: &str, fits: impl Fn(&str, &str) -> bool) -> u64 {
        let frames = self.frames.get(token).into_iter().flatten();
        frames.filter(|((app, proc_id), _)| fits(app, proc_id)).map(|(_, count)| count).sum()
    }

    /// Requests that fit.
    pub(crate) fn requested(&self, fits: impl Fn(&Request) -> bool) -> u64 {
        self.requests.iter().filter(|request| fits(request)).count() as u64
    }
}
