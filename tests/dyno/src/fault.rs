//! Faults to inject, and when: faults of the receiver, which the test drain carries out, and faults inside a dyno.

use std::fmt;
use std::time::Duration;
use tailrace::config::value;
use tailrace_drain::fault::FaultPlan;

/// The syntax, for `--help` and for error messages.
pub const SYNTAX: &str = "drain=503:10%, outage=20s@10s, latency=200ms, shipper=kill@5s, shipper=stop@5s+10s, \
                          disk=full@5s+10s, memory=grow@5s or app=kill@5s";

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A fault of the receivers; its times count from the moment of injection.
    Drain {
        /// The fault as it was requested.
        text: String,
        /// The fault in the syntax of the test drain.
        spec: String,
    },
    /// A fault inside every dyno.
    Dyno(DynoFault),
}

/// A fault inside a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynoFault {
    /// What goes wrong.
    pub kind: DynoFaultKind,
    /// Delay from the injection to the start of the fault.
    pub at: Duration,
    /// How long it lasts; without it, until the end of the simulation.
    pub length: Option<Duration>,
}

/// The kinds of faults inside a dyno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynoFaultKind {
    /// The agent's shipper gets SIGKILL.
    ShipperKilled,
    /// The agent's shipper gets SIGSTOP.
    ShipperStopped,
    /// `/tmp` is full.
    DiskFull,
    /// A process allocates more memory than the quota.
    MemoryGrown,
    /// The app's process gets SIGKILL.
    AppKilled,
}

impl DynoFaultKind {
    /// The message for the log stream.
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

/// A fault that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError(String);

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Whether the dynos need a `/tmp` of limited size.
    pub fn fills_disk(&self) -> bool {
        matches!(self, Self::Dyno(DynoFault { kind: DynoFaultKind::DiskFull, .. }))
    }

    /// Parses faults, separated by commas.
    ///
    /// # Errors
    /// [`FaultError`] names the part that cannot be parsed.
    pub fn parse(text: &str) -> Result<Vec<Self>, FaultError> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::parse_one).collect()
    }

    fn parse_one(text: &str) -> Result<Self, FaultError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let drain = |spec: String| match FaultPlan::parse(&spec) {
            Ok(_) => Ok(Self::Drain { text: text.to_owned(), spec }),
            Err(error) => Err(FaultError(format!("{text}: expected {}", error.expected))),
        };
        let dyno = |kind| {
            let (at, length) = schedule(value, text)?;
            Ok(Self::Dyno(DynoFault { kind, at, length }))
        };
        match (name, value.split('@').next().unwrap_or_default()) {
            ("drain", value) if value.starts_with(|c: char| c.is_ascii_digit()) => {
                drain(format!("status={}", text.trim_start_matches("drain=")))
            }
            ("drain", _) => drain(value.to_owned()),
            ("latency", _) => drain(text.to_owned()),
            ("outage", length) => {
                let from = value.split_once('@').map_or("0s", |(_, from)| from);
                let [from, length] =
                    [duration(from, text)?, duration(length, text)?].map(|time| time.as_millis());
                drain(format!("refuse:@{from}ms+{length}ms"))
            }
            ("shipper", "kill") => dyno(DynoFaultKind::ShipperKilled),
            ("shipper", "stop") => dyno(DynoFaultKind::ShipperStopped),
            ("disk", "full") => dyno(DynoFaultKind::DiskFull),
            ("memory", "grow") => dyno(DynoFaultKind::MemoryGrown),
            ("app", "kill") => dyno(DynoFaultKind::AppKilled),
            _ => Err(FaultError(format!("{text}: no such fault; expected {SYNTAX}"))),
        }
    }
}

/// Parses the times of `VALUE[@FROM[+LENGTH]]`: when the fault starts, and how long it lasts.
fn schedule(value: &str, fault: &str) -> Result<(Duration, Option<Duration>), FaultError> {
    let Some((_, times)) = value.split_once('@') else { return Ok((Duration::ZERO, None)) };
    let (at, length) = times.split_once('+').map_or((times, None), |(at, length)| (at, Some(length)));
    Ok((duration(at, fault)?, length.map(|length| duration(length, fault)).transpose()?))
}

fn duration(text: &str, fault: &str) -> Result<Duration, FaultError> {
    value::duration(text)
        .map_err(|expected| FaultError(format!("{fault}: found {text:?}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed() {
        let drain = |text: &str, spec: &str| Fault::Drain { text: text.to_owned(), spec: spec.to_owned() };
        let dyno = |kind, at, length: Option<u64>| {
            Fault::Dyno(DynoFault {
                kind,
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
            ("shipper=kill@5s", dyno(DynoFaultKind::ShipperKilled, 5, None)),
            ("shipper=stop@5s+10s", dyno(DynoFaultKind::ShipperStopped, 5, Some(10))),
            ("disk=full", dyno(DynoFaultKind::DiskFull, 0, None)),
            ("memory=grow@1m", dyno(DynoFaultKind::MemoryGrown, 60, None)),
            ("app=kill", dyno(DynoFaultKind::AppKilled, 0, None)),
        ] {
            assert_eq!(Fault::parse(text), Ok(vec![fault]), "{text}");
        }
        assert_eq!(Fault::parse("drain=503, latency=1s").map(|faults| faults.len()), Ok(2));
    }

    #[test]
    fn errors_name_the_fault_and_what_was_expected() {
        for (text, part) in [
            ("flood", "shipper=kill"),
            ("drain=9999", "200 to 599"),
            ("drain=wat", "a kind of fault"),
            ("outage=x", "250ms, 20s or 5m"),
            ("drain=503:often", "drain=503:often: expected a modifier"),
            ("shipper=kill@5", "250ms, 20s or 5m"),
            ("shipper=hug", "no such fault"),
        ] {
            let error = Fault::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
