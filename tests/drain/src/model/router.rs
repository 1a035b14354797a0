//! Lines of the router: the requests to the app.

use super::kind::pairs;
use crate::measure::{BoundedMap, Mean, Merge, Quantiles, Series, SkipClone};
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// Request ids that are remembered, to count each once.
const MAX_IDS: usize = 100_000;

/// Counts of requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RequestStats {
    /// Requests.
    pub requests: u64,
    /// Requests with a status of 400 or more.
    pub failed: u64,
    /// Requests with a status other than 200, which Sumo Logic's app counts as failed.
    pub not_200: u64,
    /// `connect=`, in ms.
    pub connect: Quantiles,
    /// `service=`, in ms.
    pub service: Quantiles,
    /// The sum of `bytes=`.
    pub bytes: u64,
    /// The mean of `bytes=`.
    pub size: Mean,
}

impl Merge for RequestStats {
    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.not_200 += other.not_200;
        self.connect.merge(other.connect);
        self.service.merge(other.service);
        self.bytes += other.bytes;
        self.size.merge(other.size);
    }
}

impl RequestStats {
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

/// Requests to one dyno.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Routed {
    /// All requests.
    #[serde(flatten)]
    pub all: RequestStats,
    /// By status.
    pub by_status: BoundedMap<u64, 20>,
}

/// One address in `fwd=`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Client {
    /// Requests from this client or through this proxy.
    pub requests: u64,
    /// Requests with an error code.
    pub errors: u64,
}

/// All requests to the app.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overview {
    /// All requests.
    pub all: RequestStats,
    /// Distinct request ids; an id counts again after 100,000 others.
    pub distinct: u64,
    /// By status.
    pub by_status: BoundedMap<u64, 64>,
    /// By path, without the query.
    pub by_path: BoundedMap<RequestStats>,
    /// By dyno.
    pub by_dyno: BoundedMap<Routed>,
    /// By method.
    pub by_method: BoundedMap<RequestStats, 20>,
    /// By address in `fwd=`: the client and its proxies.
    pub by_client: BoundedMap<Client>,
    /// Over time.
    pub over_time: Series<RequestStats>,
    /// By status over time.
    pub status_over_time: Series<BoundedMap<u64, 20>>,
    #[serde(skip)]
    ids: SkipClone<RecentIds>,
}

/// Hashes of the last [`MAX_IDS`] request ids.
#[derive(Debug, Default)]
struct RecentIds {
    hashes: HashSet<u64>,
    /// From old to new.
    order: VecDeque<u64>,
}

impl RecentIds {
    /// Adds an id; false if it is already there.
    fn insert(&mut self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = hasher.finish();
        if !self.hashes.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        true
    }
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
    pub(crate) fn parse(message: &'a str) -> Self {
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
        self.distinct += u64::from(self.ids.0.insert(line.id));
        *self.by_status.entry(&status) += 1;
        self.by_path.entry(line.path).add(line);
        let dyno = self.by_dyno.entry(if line.dyno.is_empty() { "(none)" } else { line.dyno });
        dyno.all.add(line);
        *dyno.by_status.entry(&status) += 1;
        self.by_method.entry(line.method).add(line);
        for client in line.clients.split(',').map(str::trim).filter(|text| text.parse::<IpAddr>().is_ok()) {
            let client = self.by_client.entry(client);
            client.requests += 1;
            client.errors += u64::from(line.code.is_some());
        }
        self.over_time.at(second).add(line);
        *self.status_over_time.at(second).entry(&status) += 1;
    }
}
