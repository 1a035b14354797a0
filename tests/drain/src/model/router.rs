//! The router's lines: requests, as the overview shows them.

use super::kind::pairs;
use crate::measure::{Mean, Merge, Names, Quantiles, Series, Unshown};
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// Request ids that are remembered, to count each once.
const IDS: usize = 100_000;

/// Requests of one name, or of one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// Lines of the router.
    pub requests: u64,
    /// Those with a status from 400 on.
    pub failed: u64,
    /// Those whose status is not 200: what Sumo Logic's app calls failed.
    pub not_200: u64,
    /// `connect=`, in ms.
    pub connect: Quantiles,
    /// `service=`, in ms.
    pub service: Quantiles,
    /// `bytes=`, all together.
    pub bytes: u64,
    /// `bytes=` of one answer.
    pub size: Mean,
}

impl Merge for Requests {
    fn absorb(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.not_200 += other.not_200;
        self.connect.absorb(other.connect);
        self.service.absorb(other.service);
        self.bytes += other.bytes;
        self.size.absorb(other.size);
    }
}

impl Requests {
    fn add(&mut self, line: &RouterLine<'_>) {
        self.requests += 1;
        self.failed += u64::from(line.status >= 400);
        self.not_200 += u64::from(line.status != 200);
        if let Some(connect) = line.connect {
            self.connect.add(connect);
        }
        if let Some(service) = line.service {
            self.service.add(service);
        }
        if let Some(bytes) = line.bytes {
            self.bytes += bytes;
            self.size.add(bytes as f64);
        }
    }
}

/// Requests that one dyno answered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Routed {
    /// All of them.
    #[serde(flatten)]
    pub all: Requests,
    /// By status.
    pub by_status: Names<u64, 20>,
}

/// An address of `fwd=`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Client {
    /// Requests that came from it or through it.
    pub requests: u64,
    /// Those with an error code.
    pub errors: u64,
}

/// The overview.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overview {
    /// All of them.
    pub all: Requests,
    /// Different request ids, among the last 100,000.
    pub distinct: u64,
    /// By status.
    pub by_status: Names<u64, 64>,
    /// By path, without the query.
    pub by_path: Names<Requests>,
    /// By dyno.
    pub by_dyno: Names<Routed>,
    /// By method.
    pub by_method: Names<Requests, 20>,
    /// By address: every one of `fwd=`, the client's first.
    pub by_client: Names<Client>,
    /// Over time.
    pub over_time: Series<Requests>,
    /// By status over time.
    pub status_over_time: Series<Names<u64, 20>>,
    #[serde(skip)]
    ids: Unshown<(HashSet<u64>, VecDeque<u64>)>,
}

/// One line of the router.
#[derive(Debug, Default)]
pub(crate) struct RouterLine<'a> {
    pub(crate) level: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) description: &'a str,
    /// Without the query.
    pub(crate) path: &'a str,
    pub(crate) method: &'a str,
    pub(crate) dyno: &'a str,
    pub(crate) clients: &'a str,
    pub(crate) connect: Option<f64>,
    pub(crate) service: Option<f64>,
    pub(crate) status: u16,
    pub(crate) bytes: Option<u64>,
    id: &'a str,
}

impl<'a> RouterLine<'a> {
    pub(crate) fn read(message: &'a str) -> Self {
        let ms = |value: &str| value.strip_suffix("ms").and_then(|value| value.parse().ok());
        let mut line = Self::default();
        for (key, value) in pairs(message) {
            match key {
                "at" => line.level = value,
                "code" => line.code = Some(value),
                "desc" => line.description = value,
                "path" => line.path = value.split('?').next().unwrap_or(value),
                "method" => line.method = value,
                "dyno" => line.dyno = value,
                "request_id" => line.id = value,
                "fwd" => line.clients = value,
                "connect" => line.connect = ms(value),
                "service" => line.service = ms(value),
                "status" => line.status = value.parse().unwrap_or_default(),
                "bytes" => line.bytes = value.parse().ok(),
                _ => {}
            }
        }
        line
    }
}

impl Overview {
    pub(crate) fn add(&mut self, line: &RouterLine<'_>, second: u64) {
        let status = line.status.to_string();
        self.all.add(line);
        self.distinct += u64::from(self.is_new(line.id));
        *self.by_status.of(&status) += 1;
        self.by_path.of(line.path).add(line);
        let dyno = self.by_dyno.of(if line.dyno.is_empty() { "(none)" } else { line.dyno });
        dyno.all.add(line);
        *dyno.by_status.of(&status) += 1;
        self.by_method.of(line.method).add(line);
        for client in line.clients.split(',').map(str::trim).filter(|text| text.parse::<IpAddr>().is_ok()) {
            let client = self.by_client.of(client);
            client.requests += 1;
            client.errors += u64::from(line.code.is_some());
        }
        self.over_time.at(second).add(line);
        *self.status_over_time.at(second).of(&status) += 1;
    }

    fn is_new(&mut self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = hasher.finish();
        let (ids, order) = &mut self.ids.0;
        let is_new = ids.insert(hash);
        if is_new {
            order.push_back(hash);
            if order.len() > IDS
                && let Some(oldest) = order.pop_front()
            {
                ids.remove(&oldest);
            }
        }
        is_new
    }
}
