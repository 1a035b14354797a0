//! What shall go wrong, and when: faults of the receiver, which the test drain plays, and faults inside a dyno.

use crate::args;
use std::fmt;
use std::time::Duration;
use tailrace_drain::fault::Plan;

/// The grammar, for `--help` and for error messages.
pub const SYNTAX: &str = "drain=503:10%, outage=20s@10s, latency=200ms, shipper=kill@5s, shipper=stop@5s+10s, \
                           disk=full@5s+10s, memory=grow@5s or app=kill@5s";

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the receivers; its times count from the moment when it is put in force.
    Drain {
        /// As it was asked for.
        text: String,
        /// In the words of the test drain.
        spec: String,
    },
    /// Inside every dyno.
    Dyno(DynoFault),
}

/// A fault inside a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynoFault {
    /// What.
    pub what: DynoFaultKind,
    /// From when on.
    pub at: Duration,
    /// For how long; without it, to the end.
    pub length: Option<Duration>,
}

/// What goes wrong inside a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynoFaultKind {
    /// The agent's shipper is killed.
    ShipperKilled,
    /// The agent's shipper stands still.
    ShipperStopped,
    /// `/tmp` is full.
    DiskFull,
    /// Somebody takes memory beyond the quota.
    MemoryGrown,
    /// The app's own process is killed.
    AppKilled,
}

impl DynoFaultKind {
    /// What happened.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShipperKilled => "the shipper was killed",
            Self::ShipperStopped => "the shipper was stopped",
            Self::DiskFull => "the disk is full",
            Self::MemoryGrown => "memory grows beyond the quota",
            Self::AppKilled => "the app was killed",
        }
    }
}

/// A fault that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError(String);

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Whether the dynos need a disk that can be full.
    pub fn fills_the_disk(&self) -> bool {
        matches!(self, Self::Dyno(DynoFault { what: DynoFaultKind::DiskFull, .. }))
    }

    /// Reads faults, separated by commas.
    ///
    /// # Errors
    /// [`FaultError`] with the part that cannot be read.
    pub fn parse(text: &str) -> Result<Vec<Self>, FaultError> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::one).collect()
    }

    fn one(text: &str) -> Result<Self, FaultError> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let drain = |spec: String| match Plan::parse(&spec) {
            Ok(_) => Ok(Self::Drain { text: text.to_owned(), spec }),
            Err(error) => Err(FaultError(format!("{text}: expected {}", error.expected))),
        };
        let strike = |what| {
            let (at, length) = times(value, text)?;
            Ok(Self::Dyno(DynoFault { what, at, length }))
        };
        match (kind, value.split('@').next().unwrap_or_default()) {
            ("drain", value) if value.starts_with(|c: char| c.is_ascii_digit()) => {
                drain(format!("status={}", text.trim_start_matches("drain=")))
            }
            ("drain", _) => drain(value.to_owned()),
            ("latency", _) => drain(text.to_owned()),
            ("outage", length) => {
                let from = value.split_once('@').map_or("0s", |(_, from)| from);
                let [from, length] = [time(from, text)?, time(length, text)?].map(|time| time.as_millis());
                drain(format!("refuse:@{from}ms+{length}ms"))
            }
            ("shipper", "kill") => strike(DynoFaultKind::ShipperKilled),
            ("shipper", "stop") => strike(DynoFaultKind::ShipperStopped),
            ("disk", "full") => strike(DynoFaultKind::DiskFull),
            ("memory", "grow") => strike(DynoFaultKind::MemoryGrown),
            ("app", "kill") => strike(DynoFaultKind::AppKilled),
            _ => Err(FaultError(format!("{text}: no such fault; expected {SYNTAX}"))),
        }
    }
}

/// `KIND[@FROM[+LENGTH]]`.
fn times(value: &str, text: &str) -> Result<(Duration, Option<Duration>), FaultError> {
    let Some((_, times)) = value.split_once('@') else { return Ok((Duration::ZERO, None)) };
    let (at, length) = times.split_once('+').map_or((times, None), |(at, length)| (at, Some(length)));
    Ok((time(at, text)?, length.map(|length| time(length, text)).transpose()?))
}

fn time(time: &str, text: &str) -> Result<Duration, FaultError> {
    args::duration(time).map_err(|error| FaultError(format!("{text}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let drain = |text: &str, spec: &str| Fault::Drain { text: text.to_owned(), spec: spec.to_owned() };
        let strike = |what, at, length: Option<u64>| {
            Fault::Dyno(DynoFault {
                what,
                at: Duration::from_secs(at),
                length: length.map(Duration::from_secs),
            })
        };
        for (text, fault) in [
            ("drain=503:10%", drain("drain=503:10%", "status=503:10%")),
            ("drain=stall=30s", drain("drain=stall=30s", "stall=30s")),
            ("outage=20s@10s", drain("outage=20s@10s", "refuse:@10000ms+20000ms")),
            ("outage=20s", drain("outage=20s", "refuse:@0ms+20000ms")),
            ("outage=1h@500ms", drain("outage=1h@500ms", "refuse:@500ms+3600000ms")),
            ("latency=200ms", drain("latency=200ms", "latency=200ms")),
            ("shipper=kill@5s", strike(DynoFaultKind::ShipperKilled, 5, None)),
            ("shipper=stop@5s+10s", strike(DynoFaultKind::ShipperStopped, 5, Some(10))),
            ("disk=full", strike(DynoFaultKind::DiskFull, 0, None)),
            ("memory=grow@1m", strike(DynoFaultKind::MemoryGrown, 60, None)),
            ("app=kill", strike(DynoFaultKind::AppKilled, 0, None)),
        ] {
            assert_eq!(Fault::parse(text), Ok(vec![fault]), "{text}");
        }
        assert_eq!(Fault::parse("drain=503, latency=1s").map(|faults| faults.len()), Ok(2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("flood", "shipper=kill"),
            ("drain=9999", "200 to 599"),
            ("drain=wat", "a kind of fault"),
            ("outage=x", "20s, 5m or 500ms"),
            ("drain=503:often", "drain=503:often: expected a modifier"),
            ("shipper=kill@5", "20s, 5m or 500ms"),
            ("shipper=hug", "no such fault"),
        ] {
            let error = Fault::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
