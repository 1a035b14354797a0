//! The shipper's runtime: one worker per drain, and the socket to the supervisor.

use super::control_stream::Post;
use super::http::tls;
use super::http::{Client, Endpoint};
use super::worker::{BatchLimits, DrainWorker, SpoolProgress};
use crate::config::{Config, DrainSettings};
use crate::ledger::SegmentLocation;
use crate::protocol::{Decoder, Message, ToShipper, ToSupervisor};
use crate::signals::pending::{self, StalePending};
use crate::spool::{Reader, TakeoverState};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the keeper gets a sign of life.
const ALIVE: Duration = Duration::from_secs(5);
/// How long a drain that cannot be set up waits for somebody to act.
const HOLD: Duration = Duration::from_mins(1);
/// Threads that look up names.
const LOOKUPS: usize = 2;

/// How the shipper's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is answered for, and no more will come.
    Finished,
    /// The keeper went without a word, and left this.
    SupervisorGone(TakeoverState),
}

/// Ships until the keeper says that no more will come, or is gone. `control` is our end of its socket, `memory`
/// the memory file, `agent` its id.
///
/// # Errors
/// When the runtime or the socket cannot be set up.
pub fn serve(config: &Config, control: StdStream, memory: Option<File>, agent: &str) -> io::Result<Exit> {
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUPS)
        .thread_keep_alive(Duration::from_secs(10))
        .build()?;
    let mut takeover = TakeoverState::of(agent, config.drains.iter().map(|drain| drain.token.clone()));
    let result = runtime.block_on(ship(config, control, memory, &mut takeover));
    runtime.shutdown_background(); // a look-up that hangs is not waited for
    Ok(if result? { Exit::Finished } else { Exit::SupervisorGone(takeover) })
}

/// Tells the keeper why there is no shipper: as each drain's failure.
///
/// # Errors
/// When the keeper is not to be reached either.
pub fn tell(config: &Config, mut control: StdStream, error: &io::Error) -> io::Result<()> {
    let mut bytes = Vec::new();
    for drain in 0..config.drains.len() {
        let detail = format!("the shipper cannot work: {error}");
        ToSupervisor::AttemptFailed { drain, status: 0, hold: false, wait: 0, detail }.write(&mut bytes);
    }
    control.write_all(&bytes)
}

/// False when the keeper went without a word.
async fn ship(
    config: &Config,
    control: StdStream,
    memory: Option<File>,
    takeover: &mut TakeoverState,
) -> io::Result<bool> {
    let control = UnixStream::from_std(control)?;
    let (progress, watch) = watch::channel(SpoolProgress::default());
    let (say, mut replies) = mpsc::channel(64);
    let mut workers = JoinSet::new();
    let mut boxes = Vec::new();
    let mut seen = Vec::new();
    for (drain, drain_config) in config.drains.iter().enumerate() {
        let (order, orders) = mpsc::channel(4);
        boxes.push(order);
        let memory = memory.as_ref().map(File::try_clone).transpose()?;
        let (reader, watch, say) = (Reader::new(memory), watch.clone(), say.clone());
        let limits = BatchLimits { batch_bytes: drain_config.batch_bytes, linger: config.batch_linger };
        match client(config, drain_config) {
            Ok(client) => {
                let known = Arc::new(AtomicU64::new(0));
                seen.push(Arc::clone(&known));
                let worker = DrainWorker::new(drain, client, limits, reader, watch, orders, say, known);
                workers.spawn(async move { worker.run().await.is_ok() });
            }
            Err(detail) => {
                workers.spawn(hold(drain, detail, orders, say));
            }
        }
    }
    drop((watch, say));
    let mut post = Post { control: &control, decoder: Decoder::default() };
    let mut strays = StalePending::default();
    let mut alive = interval(ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            more = post.fill() => {
                if !more {
                    return Ok(false);
                }
                while let Some(order) = post.decoder.take::<ToShipper>() {
                    let order = order.map_err(io::Error::other)?;
                    note(&order, takeover);
                    take(order, &progress, &boxes, &seen).await;
                }
            }
            Some(word) = replies.recv() => {
                if !post.send(&word).await {
                    return Ok(false);
                }
            }
            _ = alive.tick() => {
                if progress.borrow().deadline.is_none() {
                    strays.check();
                }
                if !post.send(&ToSupervisor::Ping).await {
                    return Ok(false);
                }
            }
            Some(_) = workers.join_next() => {
                if workers.is_empty() {
                    while let Ok(word) = replies.try_recv() {
                        if !post.send(&word).await {
                            break;
                        }
                    }
                    return Ok(true);
                }
            }
        }
    }
}

/// A drain that cannot be set up: says why, and again while it lasts.
async fn hold(
    drain: usize,
    detail: String,
    mut orders: mpsc::Receiver<ToShipper>,
    say: mpsc::Sender<ToSupervisor>,
) -> bool {
    let wait = HOLD.as_millis() as u64;
    loop {
        let word = ToSupervisor::AttemptFailed { drain, status: 0, hold: true, wait, detail: detail.clone() };
        if say.send(word).await.is_err() {
            return false;
        }
        let until = Instant::now() + HOLD;
        while let Ok(order) = tokio::time::timeout_at(until, orders.recv()).await {
            if order.is_none() {
                return false;
            }
        }
    }
}

/// The client for a drain; else what is wrong, in plain replies.
pub(crate) fn client(config: &Config, drain: &DrainSettings) -> Result<Client, String> {
    let mut ca_files: Vec<PathBuf> = config.ca_file.iter().cloned().collect();
    // Another program's setting: a file that is not there is not our trouble.
    ca_files.extend(config.ssl_cert_file.iter().filter(|file| file.is_file()).cloned());
    let tls = tls::client_config(&ca_files).map_err(|error| error.to_string())?;
    Client::new(&target(config, drain), tls).map_err(|error| error.to_string())
}

fn target(config: &Config, drain: &DrainSettings) -> Endpoint {
    Endpoint {
        host: drain.url.host().to_owned(),
        port: drain.url.port(),
        path_and_query: drain.url.path_and_query().to_owned(),
        authorization: drain.url.authorization(),
        tls: drain.url.is_tls(),
        headers: config.headers.clone(),
        token: drain.token.clone(),
        gzip: drain.gzip,
        request_timeout: config.request_timeout,
        proxy: config.proxy.clone(),
    }
}

/// Takes note of what counts when the keeper is gone.
fn note(order: &ToShipper, takeover: &mut TakeoverState) {
    match order {
        ToShipper::Segment { start, place: SegmentLocation::Memory(slot) } => takeover.open(*start, *slot),
        ToShipper::SealRange { drain, cursor, .. } => takeover.set_cursor(*drain, *cursor, None),
        ToShipper::SealedBatch { drain, start, end, notice, .. } => {
            takeover.set_cursor(*drain, *start, Some((*end, notice.clone())));
        }
        _ => {}
    }
}

async fn take(
    order: ToShipper,
    progress: &watch::Sender<SpoolProgress>,
    boxes: &[mpsc::Sender<ToShipper>],
    seen: &[Arc<AtomicU64>],
) {
    match order {
        ToShipper::Segment { start, place } => {
            // No news by itself: the head that follows is.
            let all_know = seen.iter().map(|seen| seen.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
            progress.send_if_modified(|progress| {
                progress.segments.retain(|(start, _)| *start >= all_know);
                progress.segments.push((start, place));
                false
            });
        }
        ToShipper::LogEnd(head) => progress.send_modify(|progress| progress.head = head),
        ToShipper::Deadline(left) => {
            let deadline = Instant::now() + Duration::from_millis(left);
            progress.send_modify(|progress| progress.deadline = Some(deadline));
        }
        ToShipper::ClearPendingSignals => pending::clear_pending(),
        ToShipper::EndOfLog => progress.send_modify(|progress| progress.finish = true),
        ToShipper::SealRange { drain, .. } | ToShipper::SealedBatch { drain, .. } => {
            if let Some(worker) = boxes.get(drain) {
                // One order answers one word, so there is room; an worker that has ended needs none.
                let _or_ended = worker.send(order).await;
            }
        }
    }
}
