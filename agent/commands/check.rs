//! `tailrace check`: prints app, dyno, settings and their problems, and tests whether each drain accepts a frame.

use crate::cli::TestFrame;
use crate::config::{Config, DrainSettings, Problem, ProblemKind, show_bytes};
use crate::dyno::procfile::{self, Entry, Start};
use crate::exit_code::ExitCode;
use crate::frame::{Encoder, Field, PRI_DYNO, Timestamp};
use crate::sample::{self, Sampler, SamplerSettings};
use crate::shipper::http::{AttemptError, AttemptOutcome, BatchRequest, Phase};
use crate::shipper::verdict::Verdict;
use crate::shipper::{self, DrainTls};
use crate::spool;
use crate::version::VERSION;
use rustls::CertificateError;
use std::io::{self, Write};

/// Prints the settings and tests each drain. Returns the exit status.
pub fn run(test_frame: TestFrame, out: &mut impl Write) -> ExitCode {
    let (config, problems) = super::settings();
    let (config, problems) = (&config, problems.as_slice());
    print_settings(config, problems, out).ok(); // the reader may have closed the pipe
    let has_bad_value = problems.iter().any(|problem| problem.kind == ProblemKind::BadValue);
    let mut any_failed = false;
    for (index, drain) in config.drains.iter().enumerate() {
        let mut report = Vec::new();
        let is_accepted = test_drain(config, index, drain, test_frame, &mut report).unwrap_or(false);
        out.write_all(&report).ok(); // the reader may have closed the pipe
        any_failed |= !is_accepted;
    }
    match (any_failed, has_bad_value || config.drains.is_empty()) {
        (true, _) => ExitCode::Unavailable,
        (false, true) => ExitCode::Usage,
        (false, false) => ExitCode::Success,
    }
}

fn print_settings(config: &Config, problems: &[Problem], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "tailrace {VERSION} on {}", std::env::consts::ARCH)?;
    writeln!(out, "  app      {}", config.app)?;
    if !config.app_known {
        writeln!(
            out,
            "           not set: set TAILRACE_APP, or run `heroku labs:enable runtime-dyno-metadata`"
        )?;
    }
    writeln!(out, "  dyno     {}", config.dyno)?;
    writeln!(out, "  probe    {}", Sampler::new(SamplerSettings::of(config)).describe())?;
    writeln!(
        out,
        "  spool    {}, at most {}",
        config.spool_dir.display(),
        show_bytes(config.spool_limit(sample::quota))
    )?;
    print_procfile(config, out)?;
    if !config.enabled {
        writeln!(out, "  TAILRACE is off: `tailrace run` execs the command and does nothing else")?;
    }
    if config.proxy_ignored && config.proxy.is_none() {
        writeln!(out, "  HTTPS_PROXY is not used: it is the app's setting; for drains set TAILRACE_PROXY")?;
    }
    if !config.explicit().is_empty() {
        writeln!(out, "settings that are set explicitly")?;
        for (name, value) in config.explicit() {
            writeln!(out, "  {name}={value}")?;
        }
    }
    if !problems.is_empty() {
        writeln!(out, "problems")?;
        for problem in problems {
            let kind = match problem.kind {
                ProblemKind::BadValue => "error",
                ProblemKind::UnknownName => "warning",
            };
            writeln!(out, "  {kind}: {problem}")?;
        }
        let consequence = "`tailrace run` execs the command";
        if let Some(consequence) = super::consequence_of(config, problems, consequence) {
            writeln!(out, "  {consequence}")?;
        }
    }
    if config.drains.is_empty() && problems.is_empty() {
        writeln!(out, "no drain: set TAILRACE_DRAIN_URL; until then `tailrace run` execs the command")?;
    }
    Ok(())
}

/// Prints which entries of the Procfile in this directory run under tailrace, and which do not.
fn print_procfile(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let Ok(text) = std::fs::read("Procfile") else { return Ok(()) }; // as in a container
    let (mut under, mut others) = (Vec::new(), Vec::new());
    for Entry { name, start } in procfile::entries(&String::from_utf8_lossy(&text)) {
        match start {
            Start::ByHand => under.push(name),
            Start::ByType if config.includes_type(&name) => under.push(name),
            Start::ByType => others.push(format!("{name} (excluded by TAILRACE_TYPES)")),
            Start::Plain if procfile::is_stored(&name) => {
                others
                    .push(format!("{name} (the build wrapped it; another buildpack replaced the Procfile)"));
            }
            Start::Plain => others.push(name),
        }
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    writeln!(out, "  Procfile under tailrace: {}", list(&under))?;
    writeln!(out, "           not: {}", list(&others))
}

fn test_drain(
    config: &Config,
    index: usize,
    drain: &DrainSettings,
    test_frame: TestFrame,
    out: &mut impl Write,
) -> io::Result<bool> {
    writeln!(out, "drain {}: {}", index + 1, drain.url)?;
    writeln!(out, "  token    {}", drain.token)?;
    writeln!(out, "  gzip     {}", if drain.gzip { "on" } else { "off" })?;
    let tls = DrainTls::new(config);
    for problem in tls.iter().flat_map(|tls| &tls.problems) {
        writeln!(out, "  CA file  {problem}; what can be read of it is trusted")?;
    }
    let mut client = match tls.and_then(|tls| shipper::client(config, drain, &tls)) {
        Ok(client) => client,
        Err(error) => {
            writeln!(out, "  setup    FAILED: {error}")?;
            return Ok(false);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let attempt = runtime.block_on(async {
        if test_frame == TestFrame::Send {
            return Ok(Some(client.post(&test_request(config)).await));
        }
        client.connect_only().await.map(|()| None).map_err(|error| (client.phase(), error))
    });
    runtime.shutdown_background();
    match attempt {
        Ok(Some(outcome)) => print_outcome(drain, &outcome, out),
        Ok(None) => {
            print_phases(drain, Phase::Request, out)?;
            writeln!(out, "not tried")?;
            Ok(true)
        }
        Err((phase, error)) => {
            print_phases(drain, phase, out)?;
            writeln!(out, "FAILED: {error}")?;
            advice(drain, None, Some(&error), out)?;
            Ok(false)
        }
    }
}

/// A request with one frame that tells where it comes from.
fn test_request(config: &Config) -> BatchRequest {
    let mut body = Vec::new();
    let text = format!("at=check version={VERSION} source={}", config.dyno);
    let app = Field::coerce("tailrace");
    let mut encoder = Encoder::new(PRI_DYNO, &config.frame_host, &app, &config.frame_proc);
    encoder.encode(&mut body, Timestamp::now(), text.as_bytes());
    // A new id each time, so that no receiver takes a second check for a duplicate.
    let id = spool::agent_id().unwrap_or_else(|_| "0".repeat(32)).to_ascii_uppercase();
    BatchRequest { body: body.into(), frames: 1, id }
}

/// Prints one line per phase before `failed`, and the name of `failed` itself.
fn print_phases(drain: &DrainSettings, failed: Phase, out: &mut impl Write) -> io::Result<()> {
    let phases = [
        (Phase::Lookup, "name", true),
        (Phase::Connect, "TCP", true),
        (Phase::Tls, "TLS", drain.url.is_tls()),
        (Phase::Request, "request", true),
    ];
    for (phase, name, is_used) in phases {
        if is_used && phase < failed {
            writeln!(out, "  {name:<8} ok")?;
        } else if is_used {
            return write!(out, "  {name:<8} ");
        }
    }
    write!(out, "  answer   ")
}

/// Prints the drain's response to the test frame. Returns whether it accepted the frame.
fn print_outcome(drain: &DrainSettings, outcome: &AttemptOutcome, out: &mut impl Write) -> io::Result<bool> {
    let Some(status) = outcome.status else {
        print_phases(drain, outcome.phase, out)?;
        writeln!(out, "FAILED: {}", outcome.detail)?;
        advice(drain, None, outcome.error.as_ref(), out)?;
        return Ok(false);
    };
    print_phases(drain, Phase::Response, out)?;
    let is_accepted = outcome.verdict == Verdict::Delivered;
    writeln!(
        out,
        "{} {status} after {} ms{}{}",
        if is_accepted { "ok:" } else { "FAILED:" },
        outcome.elapsed.as_millis(),
        if outcome.detail.is_empty() { "" } else { ": " },
        outcome.detail
    )?;
    if !is_accepted {
        advice(drain, Some(status), None, out)?;
    }
    Ok(is_accepted)
}

/// What to change, given the status of the response or the error instead of one.
fn advice(
    drain: &DrainSettings,
    status: Option<u16>,
    error: Option<&AttemptError>,
    out: &mut impl Write,
) -> io::Result<()> {
    let text = match status {
        Some(401 | 403) => "the drain does not accept the credentials in the URL: were they rotated?",
        Some(404 | 410) => {
            "there is no such address: compare TAILRACE_DRAIN_URL with what the receiver shows"
        }
        Some(413) => "even one frame is too large for this drain: is it a log receiver?",
        Some(400 | 415) if drain.gzip => "the drain may not take gzip: add #gzip=off to the URL",
        Some(400 | 405 | 415 | 422) => {
            "this address does not take Logplex frames: for most receivers it is another path than for JSON"
        }
        Some(429) => "the drain takes no more for now: its quota may be used up",
        Some(300..=399) => "the drain has moved: use the address that it redirects to",
        Some(500..) => "the drain has trouble of its own: lines are kept and tried again",
        Some(_) => "this is not an answer of a log drain",
        None => match error {
            Some(AttemptError::Certificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => "who runs the drain has to renew it; nothing can be set here against it",
            Some(AttemptError::Certificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {
                "TAILRACE_DRAIN_URL needs one of the names that the certificate has, as the receiver shows it"
            }
            Some(AttemptError::Certificate(_)) => {
                "for a private authority set TAILRACE_CA_FILE to its PEM file; verification cannot be turned off"
            }
            Some(AttemptError::Tls(_)) => "is this the port for TLS, and is the drain's TLS up to date?",
            _ => "is the host right, and is it reachable from this dyno?",
        },
    };
    writeln!(out, "           {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::drain_url::DrainUrl;

    fn advice_for(status: Option<u16>, error: Option<&AttemptError>) -> String {
        let drain = DrainSettings {
            url: DrainUrl::parse("https://drain.example/certificate").expect("good"),
            token: "d.1".to_owned(),
            gzip: false,
            batch_bytes: 1 << 20,
        };
        let mut out = Vec::new();
        advice(&drain, status, error, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn advice_on_a_certificate_names_the_ca_file() {
        let issuer = AttemptError::Certificate(CertificateError::UnknownIssuer);
        assert!(advice_for(None, Some(&issuer)).contains("TAILRACE_CA_FILE"));
        for (error, expected) in [
            (AttemptError::Certificate(CertificateError::Expired), "has to renew it"),
            (AttemptError::Certificate(CertificateError::NotValidForName), "one of the names"),
            (AttemptError::Tls(rustls::Error::DecryptError), "is this the port for TLS"),
            (AttemptError::Lookup("no certificate.example".to_owned()), "is the host right"),
        ] {
            let advice = advice_for(None, Some(&error));
            assert!(advice.contains(expected) && !advice.contains("CA_FILE"), "{error}: {advice}");
        }
        assert!(advice_for(Some(401), None).contains("credentials"));
    }
}
