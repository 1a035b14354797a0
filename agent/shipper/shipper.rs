//! The shipper's runtime: one worker per drain, and the socket to the supervisor.

use super::control_stream::Post;
use super::http::tls;
use super::http::{Client, Target};
use super::worker::{Board, Outlet, Pace};
use crate::config::{Config, DrainConfig};
use crate::ledger::Place;
use crate::protocol::{Inbox, Message, Order, Word};
use crate::signals::pending::{self, Strays};
use crate::spool::{Estate, Reader};
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
pub enum Ending {
    /// Everything is answered for, and no more will come.
    Finished,
    /// The keeper went without a word, and left this.
    Orphaned(Estate),
}

/// Ships until the keeper says that no more will come, or is gone. `control` is our end of its socket, `memory`
/// the memory file, `agent` its id.
///
/// # Errors
/// When the runtime or the socket cannot be set up.
pub fn serve(config: &Config, control: StdStream, memory: Option<File>, agent: &str) -> io::Result<Ending> {
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUPS)
        .thread_keep_alive(Duration::from_secs(10))
        .build()?;
    let mut estate = Estate::of(agent, config.drains.iter().map(|drain| drain.token.clone()));
    let result = runtime.block_on(ship(config, control, memory, &mut estate));
    runtime.shutdown_background(); // a look-up that hangs is not waited for
    Ok(if result? { Ending::Finished } else { Ending::Orphaned(estate) })
}

/// Tells the keeper why there is no shipper: as each drain's failure.
///
/// # Errors
/// When the keeper is not to be reached either.
pub fn tell(config: &Config, mut control: StdStream, error: &io::Error) -> io::Result<()> {
    let mut bytes = Vec::new();
    for drain in 0..config.drains.len() {
        let detail = format!("the shipper cannot work: {error}");
        Word::Tried { drain, status: 0, hold: false, wait: 0, detail }.write(&mut bytes);
    }
    control.write_all(&bytes)
}

/// False when the keeper went without a word.
async fn ship(
    config: &Config,
    control: StdStream,
    memory: Option<File>,
    estate: &mut Estate,
) -> io::Result<bool> {
    let control = UnixStream::from_std(control)?;
    let (board, watch) = watch::channel(Board::default());
    let (say, mut words) = mpsc::channel(64);
    let mut outlets = JoinSet::new();
    let mut boxes = Vec::new();
    let mut seen = Vec::new();
    for (drain, drain_config) in config.drains.iter().enumerate() {
        let (order, orders) = mpsc::channel(4);
        boxes.push(order);
        let memory = memory.as_ref().map(File::try_clone).transpose()?;
        let (reader, watch, say) = (Reader::new(memory), watch.clone(), say.clone());
        let pace = Pace { batch_bytes: drain_config.batch_bytes, linger: config.batch_linger };
        match client(config, drain_config) {
            Ok(client) => {
                let known = Arc::new(AtomicU64::new(0));
                seen.push(Arc::clone(&known));
                let outlet = Outlet::new(drain, client, pace, reader, watch, orders, say, known);
                outlets.spawn(async move { outlet.run().await.is_ok() });
            }
            Err(detail) => {
                outlets.spawn(hold(drain, detail, orders, say));
            }
        }
    }
    drop((watch, say));
    let mut post = Post { control: &control, inbox: Inbox::default() };
    let mut strays = Strays::default();
    let mut alive = interval(ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            more = post.fill() => {
                if !more {
                    return Ok(false);
                }
                while let Some(order) = post.inbox.take::<Order>() {
                    let order = order.map_err(io::Error::other)?;
                    note(&order, estate);
                    take(order, &board, &boxes, &seen).await;
                }
            }
            Some(word) = words.recv() => {
                if !post.send(&word).await {
                    return Ok(false);
                }
            }
            _ = alive.tick() => {
                if board.borrow().deadline.is_none() {
                    strays.look();
                }
                if !post.send(&Word::Alive).await {
                    return Ok(false);
                }
            }
            Some(_) = outlets.join_next() => {
                if outlets.is_empty() {
                    while let Ok(word) = words.try_recv() {
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
    mut orders: mpsc::Receiver<Order>,
    say: mpsc::Sender<Word>,
) -> bool {
    let wait = HOLD.as_millis() as u64;
    loop {
        let word = Word::Tried { drain, status: 0, hold: true, wait, detail: detail.clone() };
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

/// The client for a drain; else what is wrong, in plain words.
pub(crate) fn client(config: &Config, drain: &DrainConfig) -> Result<Client, String> {
    let mut ca_files: Vec<PathBuf> = config.ca_file.iter().cloned().collect();
    // Another program's setting: a file that is not there is not our trouble.
    ca_files.extend(config.ssl_cert_file.iter().filter(|file| file.is_file()).cloned());
    let tls = tls::client_config(&ca_files).map_err(|error| error.to_string())?;
    Client::new(&target(config, drain), tls).map_err(|error| error.to_string())
}

fn target(config: &Config, drain: &DrainConfig) -> Target {
    Target {
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
fn note(order: &Order, estate: &mut Estate) {
    match order {
        Order::Segment { start, place: Place::Memory(slot) } => estate.open(*start, *slot),
        Order::Window { drain, cursor, .. } => estate.set_cursor(*drain, *cursor, None),
        Order::Plan { drain, start, end, notice, .. } => {
            estate.set_cursor(*drain, *start, Some((*end, notice.clone())));
        }
        _ => {}
    }
}

async fn take(
    order: Order,
    board: &watch::Sender<Board>,
    boxes: &[mpsc::Sender<Order>],
    seen: &[Arc<AtomicU64>],
) {
    match order {
        Order::Segment { start, place } => {
            // No news by itself: the head that follows is.
            let all_know = seen.iter().map(|seen| seen.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
            board.send_if_modified(|board| {
                board.segments.retain(|(start, _)| *start >= all_know);
                board.segments.push((start, place));
                false
            });
        }
        Order::Head(head) => board.send_modify(|board| board.head = head),
        Order::Hurry(left) => {
            let deadline = Instant::now() + Duration::from_millis(left);
            board.send_modify(|board| board.deadline = Some(deadline));
        }
        Order::Calm => pending::forget(),
        Order::Finish => board.send_modify(|board| board.finish = true),
        Order::Window { drain, .. } | Order::Plan { drain, .. } => {
            if let Some(outlet) = boxes.get(drain) {
                // One order answers one word, so there is room; an outlet that has ended needs none.
                let _or_ended = outlet.send(order).await;
            }
        }
    }
}
