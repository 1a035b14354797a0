//! The live tail: an event stream (HTML standard, server-sent events) of the lines that match a query, and a tick each
//! second.

use super::{filter, parameter};
use crate::ansi;
use crate::filter::{Filter, name_of};
use crate::history::{Chunk, MAX_BYTES};
use crate::model::delivery::label;
use crate::server::Shared;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tailrace::frame::{Frame, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

/// Time between batches of lines.
const BATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Batches per tick.
const BATCHES_PER_TICK: u32 = 4;
/// Maximum number of lines in a batch: the newest. The others are counted as skipped.
const MAX_LINES: usize = 250;
/// Maximum number of lines examined for a batch: limits the CPU time of a query that few lines match.
const MAX_EXAMINED: u64 = 50_000;
/// Maximum number of older lines in the first batch of a new stream.
const BACKLOG: usize = 500;
/// Maximum number of lines in the first batch of a resumed stream: as many as the page shows.
const MAX_RESUMED: usize = 2000;

/// A position in the history. Line numbers are valid only within an epoch, which ends with a reset or a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    epoch: u64,
    next: u64,
}

impl Position {
    /// Parses `EPOCH.NEXT`, the id of an event.
    fn parse(text: &str) -> Option<Self> {
        let (epoch, next) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, next: next.parse().ok()? })
    }
}

/// Which lines a stream sends.
#[derive(Debug, Default)]
pub(crate) struct TailQuery {
    /// Sends ticks only, no lines.
    ticks_only: bool,
    search: Option<Regex>,
    filter: Filter,
    level: Option<u8>,
    /// The client already has the lines before this position.
    from: Option<Position>,
}

impl TailQuery {
    /// `last` is the header `Last-Event-ID` of a client that reconnects; it overrides the parameter `from`.
    pub(crate) fn parse(query: &str, last: Option<&str>) -> Self {
        let search = parameter(query, "search");
        let regex = RegexBuilder::new(&regex::escape(&search)).case_insensitive(true).build();
        Self {
            ticks_only: parameter(query, "lines") == "off",
            search: regex.ok().filter(|_| !search.is_empty()),
            filter: filter(query),
            level: parameter(query, "level").parse().ok(),
            from: Position::parse(last.unwrap_or(&parameter(query, "from"))),
        }
    }

    fn matches(&self, token: &str, frame: &Frame<'_>) -> bool {
        self.filter.passes_token(token)
            && self.filter.passes_frame(frame)
            && self.level.is_none_or(|level| frame.pri & 7 <= level)
            && self.search.as_ref().is_none_or(|search| search.is_match(&ansi::plain(frame.msg)))
    }
}

/// A line in the event `lines`.
#[derive(Debug, Serialize)]
struct TailLine {
    n: u64,
    at: u64,
    time: String,
    app: String,
    proc: String,
    token: String,
    pri: u8,
    text: String,
}

/// The event `lines`.
#[derive(Debug, Default, Serialize)]
struct LineBatch {
    lines: Vec<TailLine>,
    /// Lines that match but exceed the limit, and lines that were not examined.
    skipped: u64,
    /// The page must remove its rows.
    fresh: bool,
    epoch: u64,
}

/// Limits of a batch.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Lines that are returned.
    lines: usize,
    examined: u64,
}

/// The newest lines that match, from number `from` on, in ascending order. Counts the others.
fn select_lines(chunks: &[Arc<Chunk>], from: u64, query: &TailQuery, limits: Limits) -> LineBatch {
    let mut batch = LineBatch::default();
    let total: u64 = chunks.iter().map(|chunk| chunk.end() - chunk.first.max(from)).sum();
    let mut examined = 0;
    let all = chunks
        .iter()
        .rev()
        .flat_map(|chunk| (chunk.first.max(from)..chunk.end()).rev().map(move |line| (chunk, line)));
    for (chunk, line) in all {
        if examined == limits.examined {
            break;
        }
        examined += 1;
        let Some((frame, _)) = chunk.get(line) else { continue };
        if !query.matches(&chunk.token, &frame) {
            continue;
        }
        if batch.lines.len() == limits.lines {
            batch.skipped += 1;
            continue;
        }
        batch.lines.push(TailLine {
            n: line,
            at: chunk.at,
            time: frame.time.to_owned(),
            app: frame.app.to_owned(),
            proc: frame.proc_id.to_owned(),
            token: name_of(&chunk.token).to_owned(),
            pri: frame.pri,
            text: frame.msg.to_owned(),
        });
    }
    batch.skipped += total - examined;
    batch.lines.reverse();
    batch
}

/// Starts a stream; it ends when the client disconnects.
pub(crate) fn stream(shared: Arc<Shared>, query: TailQuery) -> Channel<Bytes, Infallible> {
    let (sender, body) = Channel::new(4);
    drop(tokio::spawn(send(shared, query, sender)));
    body
}

async fn send(shared: Arc<Shared>, query: TailQuery, mut sender: Sender<Bytes, Infallible>) {
    let mut timer = interval(BATCH_INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut position = query.from;
    let mut is_first = true;
    let mut rate = Rate::default();
    let mut sent_names = Value::Null;
    for round in 0u32.. {
        timer.tick().await;
        let (chunks, from, evicted, end) = {
            let stats = shared.stats();
            let kept = stats.history();
            let end = Position { epoch: stats.epoch(), next: kept.next() };
            let last = position.filter(|last| last.epoch == end.epoch && last.next <= end.next);
            let from = last.map_or(0, |last| last.next).max(kept.first());
            let evicted = last.map(|last| from - last.next);
            (kept.since(from), from, evicted, end)
        };
        if !query.ticks_only && (evicted.is_none() || end.next > from) {
            let limits = match evicted {
                None => Limits { lines: BACKLOG, examined: u64::MAX },
                Some(_) if is_first => Limits { lines: MAX_RESUMED, examined: u64::MAX },
                Some(_) => Limits { lines: MAX_LINES, examined: MAX_EXAMINED },
            };
            let mut batch = select_lines(&chunks, from, &query, limits);
            batch.skipped = evicted.map_or(0, |evicted| evicted + batch.skipped);
            batch.fresh = evicted.is_none();
            batch.epoch = end.epoch;
            if batch.fresh || !batch.lines.is_empty() || batch.skipped > 0 {
                let id = format!("{}.{}", end.epoch, end.next);
                if event(&mut sender, "lines", Some(&id), &batch).await.is_none() {
                    return;
                }
            }
            is_first = false;
        }
        position = Some(end);
        if round % BATCHES_PER_TICK == 0 {
            let tick = tick(&shared, &mut rate);
            let names = names(&shared);
            let has_changed = names != sent_names;
            if has_changed && event(&mut sender, "names", None, &names).await.is_none() {
                return;
            }
            sent_names = names;
            if event(&mut sender, "model", None, &tick).await.is_none() {
                return;
            }
        }
    }
}

/// Sends an event; `None` if the client has disconnected.
async fn event(
    sender: &mut Sender<Bytes, Infallible>,
    name: &str,
    id: Option<&str>,
    data: &impl Serialize,
) -> Option<()> {
    let data = serde_json::to_string(data).ok()?; // one line: JSON escapes line feeds
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    sender.send_data(Bytes::from(format!("event: {name}\n{id}data: {data}\n\n"))).await.ok()
}

/// Frames per second since the previous tick.
#[derive(Debug, Default)]
struct Rate {
    /// Time of the previous tick in µs since the Unix epoch, and the number of frames.
    previous: Option<(u64, u64)>,
}

impl Rate {
    fn update(&mut self, frames: u64) -> f64 {
        let now = Timestamp::now().as_micros();
        let previous = self.previous.replace((now, frames));
        previous.map_or(0.0, |(time, count)| {
            frames.saturating_sub(count) as f64 / (now.saturating_sub(time).max(1) as f64 / 1e6)
        })
    }
}

/// The event `model`.
fn tick(shared: &Shared, rate: &mut Rate) -> Value {
    let stats = shared.stats();
    let (frames, kept) = (stats.streams().frames(), stats.history());
    json!({
        "frames": frames,
        "rate": rate.update(frames),
        "held": kept.next() - kept.first(),
        "most": kept.max_lines(),
        "bytes": kept.bytes(),
        "most_bytes": MAX_BYTES,
    })
}

/// The event `names`: the options of the filter, from all frames received.
fn names(shared: &Shared) -> Value {
    let stats = shared.stats();
    let streams = stats.streams();
    let tokens = streams.tokens().map(|token| json!([name_of(token), label(token, stats.drain_kind(token))]));
    let unlabelled = |name: &str| json!([name, name]);
    json!({
        "app": streams.apps().iter().map(|name| unlabelled(name)).collect::<Vec<_>>(),
        "proc": streams.procs().into_iter().map(unlabelled).collect::<Vec<_>>(),
        "token": tokens.collect::<Vec<_>>(),
    })
}
