//! What `tailrace status` is told: the keeper answers on a Unix socket of the abstract namespace (unix(7)), whose
//! name stands in `/proc/net/unix`, so a second shell finds it without a setting. It answers also while the shipper
//! is stuck or dead.

use crate::config::Config;
use crate::delivery::Coordinator;
use crate::ledger::{DrainIndex, Report, json_text};
use crate::spool::Spool;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// What an agent's socket is called: this, and its id.
pub const NAME: &str = "tailrace.";
/// Between the text for people and the JSON.
pub const SEPARATOR: u8 = 0;
/// Answers at a time; who asks more often waits for the next round.
const AT_ONCE: usize = 8;

/// How the shipper is.
#[derive(Clone, Copy, Debug)]
pub struct ShipperStatus {
    /// Its pid, when it runs.
    pub pid: Option<i32>,
    /// How long ago it was heard.
    pub silent: Duration,
    /// How often one was started.
    pub starts: u32,
}

/// The socket, and what does not change.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    since: Instant,
}

impl StatusSocket {
    /// Opens the socket of the agent with this id.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(agent: &str, since: Instant) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("{NAME}{agent}"))?;
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, since })
    }

    /// To poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers who asks now. `health` is none where the shipper is a part of this process.
    pub fn answer(
        &self,
        config: &Config,
        coordinator: &Coordinator,
        health: Option<ShipperStatus>,
        probe: Option<&str>,
    ) {
        for _ in 0..AT_ONCE {
            let Ok((stream, _)) = self.listener.accept() else { return };
            // Numbers only, but they are this user's.
            let user = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid());
            if user.is_ok_and(|user| user == nix::unistd::geteuid().as_raw() || user == 0) {
                drop(send(
                    stream,
                    &self.text(config, coordinator, health, probe),
                    &self.json(config, coordinator, health, probe),
                ));
            }
        }
    }

    fn text(
        &self,
        config: &Config,
        coordinator: &Coordinator,
        health: Option<ShipperStatus>,
        probe: Option<&str>,
    ) -> String {
        let spool: &Spool = coordinator.spool();
        let report = spool.shared.lock().report();
        let mut out = format!(
            "{} of {}: tailrace {}, pid {}, up {}\n  captured    {} lines\n",
            config.dyno,
            config.app,
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            time(self.since.elapsed()),
            report.captured
        );
        let _infallible = writeln!(out, "  probe       {}", probe.unwrap_or("not chosen yet"));
        if let Some(ShipperStatus { pid, silent, starts }) = health {
            let _infallible = match pid {
                Some(pid) => writeln!(
                    out,
                    "  shipper     pid {pid}, heard {} ago{}{}",
                    time(silent),
                    if silent > STUCK { ": it is stuck, and will be replaced" } else { "" },
                    if starts > 1 { format!(", started {starts} times") } else { String::new() }
                ),
                None => writeln!(out, "  shipper     not running, started {starts} times; it will be again"),
            };
        }
        for (drain, account) in DrainIndex::all(report.drains.len()).zip(&report.drains) {
            let (_, oldest) = coordinator.health().held(drain);
            let bytes = spool.shared.lock().held_bytes(drain);
            let _infallible = writeln!(out, "drain {} at {}", spool.token(drain), account.drain);
            let _infallible = writeln!(out, "  delivered   {} lines", account.delivered);
            let _infallible = match account.held {
                0 => writeln!(out, "  held        0 lines"),
                held => writeln!(
                    out,
                    "  held        {held} lines, {bytes} bytes, the oldest for {}",
                    time(oldest)
                ),
            };
            let reasons =
                account.dropped.iter().map(|(reason, lines)| format!(", {}: {lines}", reason.as_str()));
            let _infallible = writeln!(
                out,
                "  dropped     {} lines{}",
                account.dropped_lines(),
                reasons.collect::<String>()
            );
            let _infallible = writeln!(out, "  rejected    {} lines", account.rejected);
            out.push_str(&self.answer_text(coordinator, drain));
        }
        out
    }

    #[expect(clippy::unused_self, reason = "a part of `text`")]
    fn answer_text(&self, coordinator: &Coordinator, drain: DrainIndex) -> String {
        let mut out = String::from("  last answer ");
        let Some(health) = coordinator.health().get(drain) else { return out };
        match &health.last {
            None => out.push_str("none yet"),
            Some((200, detail, at)) if detail.is_empty() => {
                let _infallible = write!(out, "delivered, {} ago", time(at.elapsed()));
            }
            Some((status, detail, at)) => {
                if *status != 0 {
                    let _infallible = write!(out, "{status}, ");
                }
                let _infallible = write!(out, "{detail}, {} ago", time(at.elapsed()));
            }
        }
        if let (Some(next), Some(since)) = (health.next, health.since) {
            let wait = next.saturating_duration_since(Instant::now());
            let _infallible =
                write!(out, "; failing for {}, next attempt in {}", time(since.elapsed()), time(wait));
        }
        out.push('\n');
        out
    }

    fn json(
        &self,
        config: &Config,
        coordinator: &Coordinator,
        health: Option<ShipperStatus>,
        probe: Option<&str>,
    ) -> String {
        let spool: &Spool = coordinator.spool();
        let Report { captured, own_frames, drains } = spool.shared.lock().report();
        let mut out = format!(
            "{{\"agent\":{},\"version\":{},\"pid\":{},\"app\":{},\"dyno\":{},\"up_seconds\":{},\
             \"captured_lines\":{captured},\"own_frames\":{own_frames},\"probe\":{},\"shipper\":",
            json_text(&spool.agent),
            json_text(env!("CARGO_PKG_VERSION")),
            std::process::id(),
            json_text(&config.app),
            json_text(&config.dyno),
            self.since.elapsed().as_secs(),
            json_text(probe.unwrap_or("")),
        );
        match health {
            None => out.push_str("null"),
            Some(ShipperStatus { pid, silent, starts }) => {
                let pid = pid.map_or_else(|| "null".to_owned(), |pid| pid.to_string());
                let silent = silent.as_secs();
                let _infallible =
                    write!(out, "{{\"pid\":{pid},\"silent_seconds\":{silent},\"starts\":{starts}}}");
            }
        }
        out.push_str(",\"drains\":[");
        for (drain, account) in DrainIndex::all(drains.len()).zip(&drains) {
            let reasons =
                account.dropped.iter().map(|(why, lines)| format!("{}:{lines}", json_text(why.as_str())));
            // Two locks in one statement would wait for each other.
            let bytes = spool.shared.lock().held_bytes(drain);
            let oldest = coordinator.health().held(drain).1.as_secs();
            let health = coordinator.health().get(drain);
            let last = health.and_then(|health| health.last.as_ref());
            let last = last.map_or_else(
                || "null".to_owned(),
                |(status, detail, at)| {
                    let (detail, ago) = (json_text(detail), at.elapsed().as_secs());
                    format!("{{\"status\":{status},\"detail\":{detail},\"seconds_ago\":{ago}}}")
                },
            );
            let next = health.and_then(|health| health.next);
            let next = next.map_or_else(
                || "null".to_owned(),
                |next| next.saturating_duration_since(Instant::now()).as_secs().to_string(),
            );
            let _infallible = write!(
                out,
                "{}{{\"drain\":{},\"token\":{},\"delivered_lines\":{},\"held_lines\":{},\"held_bytes\":{},\
                 \"oldest_seconds\":{},\"dropped_lines\":{},\"dropped\":{{{}}},\"rejected_lines\":{},\
                 \"batches\":{},\"attempts\":{},\"failures\":{},\"last\":{last},\"next_attempt_seconds\":{next}}}",
                if drain == DrainIndex::default() { "" } else { "," },
                json_text(&account.drain),
                json_text(spool.token(drain)),
                account.delivered,
                account.held,
                bytes,
                oldest,
                account.dropped_lines(),
                reasons.collect::<Vec<_>>().join(","),
                account.rejected,
                account.batches,
                account.attempts,
                health.map_or(0, |health| health.failures),
            );
        }
        out.push_str("]}");
        out
    }
}

/// A shipper gives a sign of life every 5 s.
const STUCK: Duration = Duration::from_secs(11);

fn send(mut stream: UnixStream, text: &str, json: &str) -> io::Result<()> {
    // It fits a socket's buffer; a reader that does not read is not waited for.
    stream.set_nonblocking(true)?;
    stream.write_all(text.as_bytes())?;
    stream.write_all(&[SEPARATOR])?;
    stream.write_all(json.as_bytes())
}

/// A length of time as people read it.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
