//! The router's lines: requests, as the overview shows them.

use super::kind::pairs;
use super::measure::{Mean, Merge, Names, Quantiles, Series};
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Request ids that are remembered, to count each once.
const IDS: usize = 100_000;

/// Requests of one name: a path, a dyno, a method.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// Lines of the router.
    pub requests: u64,
    /// Those with a status from 400 on.
    pub failed: u64,
    /// `connect=`, in ms.
    pub connect: Quantiles,
    /// `service=`, in ms.
    pub service: Quantiles,
    /// `bytes=`.
    pub bytes: u64,
}

impl Merge for Requests {
    fn absorb(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.connect.absorb(other.connect);
        self.service.absorb(other.service);
        self.bytes += other.bytes;
    }
}

impl Requests {
    fn add(&mut self, line: &RouterLine<'_>) {
        self.requests += 1;
        self.failed += u64::from(line.status >= 400);
        if let Some(connect) = line.connect {
            self.connect.add(connect);
        }
        if let Some(service) = line.service {
            self.service.add(service);
        }
        self.bytes += line.bytes;
    }
}

/// The overview.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overview {
    /// All of them.
    pub all: Requests,
    /// Different request ids, among the last 100,000.
    pub distinct: u64,
    /// Those whose status is not 200: what Sumo Logic's app calls failed.
    pub not_200: u64,
    /// By status.
    pub by_status: Names<u64>,
    /// By path, without the query.
    pub by_path: Names<Requests>,
    /// By dyno.
    pub by_dyno: Names<Requests>,
    /// By method.
    pub by_method: Names<Requests, 20>,
    /// First address of `fwd=`.
    pub by_client: Names<u64>,
    /// Over time.
    pub over_time: Series<Requests>,
    /// Size of the answers, in bytes.
    pub size: Mean,
    #[serde(skip)]
    ids: HashSet<u64>,
    #[serde(skip)]
    id_order: VecDeque<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct RouterLine<'a> {
    pub(crate) code: Option<&'a str>,
    path: &'a str,
    method: &'a str,
    dyno: &'a str,
    id: &'a str,
    client: &'a str,
    connect: Option<f64>,
    service: Option<f64>,
    status: u16,
    bytes: u64,
}

impl<'a> RouterLine<'a> {
    pub(crate) fn read(message: &'a str) -> Self {
        let ms = |value: &str| value.strip_suffix("ms").and_then(|value| value.parse().ok());
        let mut line = Self::default();
        for (key, value) in pairs(message) {
            match key {
                "code" => line.code = Some(value),
                "path" => line.path = value.split('?').next().unwrap_or(value),
                "method" => line.method = value,
                "dyno" => line.dyno = value,
                "request_id" => line.id = value,
                "fwd" => line.client = value.split(',').next().unwrap_or(value),
                "connect" => line.connect = ms(value),
                "service" => line.service = ms(value),
                "status" => line.status = value.parse().unwrap_or_default(),
                "bytes" => line.bytes = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        line
    }
}

impl Overview {
    pub(crate) fn add(&mut self, line: &RouterLine<'_>, second: u64) {
        self.all.add(line);
        self.size.add(line.bytes as f64);
        self.distinct += u64::from(self.is_new(line.id));
        self.not_200 += u64::from(line.status != 200);
        *self.by_status.of(&line.status.to_string()) += 1;
        self.by_path.of(line.path).add(line);
        self.by_dyno.of(if line.dyno.is_empty() { "(none)" } else { line.dyno }).add(line);
        self.by_method.of(line.method).add(line);
        *self.by_client.of(line.client) += 1;
        self.over_time.at(second).add(line);
    }

    fn is_new(&mut self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = hasher.finish();
        let is_new = self.ids.insert(hash);
        if is_new {
            self.id_order.push_back(hash);
            if self.id_order.len() > IDS
                && let Some(oldest) = self.id_order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
        is_new
    }
}
