//! The live tail: an event stream of the lines that pass a filter, and a tick each second.

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
const BATCH: Duration = Duration::from_millis(250);
/// Batches per tick.
const TICK: u32 = 4;
/// Most lines per batch; of more, the youngest. What is left out is counted.
const MOST: usize = 250;
/// Lines that are looked at for a batch: a filter that little passes does not eat the processor.
const LOOKED_AT: u64 = 50_000;
/// Lines from before the stream was opened; and where it goes on, as many as the page shows.
const BACKLOG: usize = 500;
const GOING_ON: usize = 2000;

/// A line's place: numbers mean nothing beyond a reset, or in another drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    epoch: u64,
    next: u64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (epoch, next) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, next: next.parse().ok()? })
    }
}

/// Which lines a stream is to bring.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Only the tick.
    is_silent: bool,
    search: Option<Regex>,
    filter: Filter,
    level: Option<u8>,
    /// What came before this is known.
    from: Option<Place>,
}

impl Wanted {
    /// `last` is what a stream that broke off had come to.
    pub(crate) fn read(query: &str, last: Option<&str>) -> Self {
        let search = parameter(query, "search");
        let regex = RegexBuilder::new(&regex::escape(&search)).case_insensitive(true).build();
        Self {
            is_silent: parameter(query, "lines") == "off",
            search: regex.ok().filter(|_| !search.is_empty()),
            filter: filter(query),
            level: parameter(query, "level").parse().ok(),
            from: Place::read(last.unwrap_or(&parameter(query, "from"))),
        }
    }

    fn passes(&self, token: &str, frame: &Frame<'_>) -> bool {
        self.filter.takes(token)
            && self.filter.passes(frame)
            && self.level.is_none_or(|level| frame.pri & 7 <= level)
            && self.search.as_ref().is_none_or(|search| search.is_match(&ansi::plain(frame.msg)))
    }
}

/// A line as the page gets it.
#[derive(Debug, Serialize)]
struct Shown {
    n: u64,
    at: u64,
    time: String,
    app: String,
    proc: String,
    token: String,
    pri: u8,
    text: String,
}

#[derive(Debug, Default, Serialize)]
struct Selection {
    lines: Vec<Shown>,
    /// Lines that passed, or were not looked at, and are not among them.
    skipped: u64,
    /// Whether what is on the page is to go.
    fresh: bool,
    epoch: u64,
}

/// The last `most` of the lines from number `from` on that pass, from old to new; of the others the number.
fn select(chunks: &[Arc<Chunk>], from: u64, wanted: &Wanted, most: usize, look_at: u64) -> Selection {
    let mut found = Selection::default();
    let total: u64 = chunks.iter().map(|chunk| chunk.end() - chunk.first.max(from)).sum();
    let mut looked_at = 0;
    let all = chunks
        .iter()
        .rev()
        .flat_map(|chunk| (chunk.first.max(from)..chunk.end()).rev().map(move |line| (chunk, line)));
    for (chunk, line) in all {
        if looked_at == look_at {
            break;
        }
        looked_at += 1;
        let Some((frame, _)) = chunk.get(line) else { continue };
        if !wanted.passes(&chunk.token, &frame) {
            continue;
        }
        if found.lines.len() == most {
            found.skipped += 1;
            continue;
        }
        found.lines.push(Shown {
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
    found.skipped += total - looked_at;
    found.lines.reverse();
    found
}

/// Opens a stream; it ends when the browser does.
pub(crate) fn stream(shared: Arc<Shared>, wanted: Wanted) -> Channel<Bytes, Infallible> {
    let (sender, body) = Channel::new(4);
    drop(tokio::spawn(send(shared, wanted, sender)));
    body
}

async fn send(shared: Arc<Shared>, wanted: Wanted, mut sender: Sender<Bytes, Infallible>) {
    let mut timer = interval(BATCH);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut place = wanted.from;
    let mut is_first = true;
    let mut rate = Rate::default();
    let mut known = Value::Null;
    for round in 0u32.. {
        timer.tick().await;
        let (chunks, from, gone, now) = {
            let stats = shared.stats();
            let kept = stats.kept();
            let now = Place { epoch: stats.epoch(), next: kept.next() };
            let last = place.filter(|place| place.epoch == now.epoch && place.next <= now.next);
            let from = last.map_or(0, |place| place.next).max(kept.first());
            let gone = last.map(|place| from - place.next);
            (kept.since(from), from, gone, now)
        };
        if !wanted.is_silent && (gone.is_none() || now.next > from) {
            let (most, look_at) = match gone {
                None => (BACKLOG, u64::MAX),
                Some(_) if is_first => (GOING_ON, u64::MAX),
                Some(_) => (MOST, LOOKED_AT),
            };
            let mut lines = select(&chunks, from, &wanted, most, look_at);
            lines.skipped = gone.map_or(0, |gone| gone + lines.skipped);
            lines.fresh = gone.is_none();
            lines.epoch = now.epoch;
            if lines.fresh || !lines.lines.is_empty() || lines.skipped > 0 {
                let id = format!("{}.{}", now.epoch, now.next);
                if event(&mut sender, "lines", Some(&id), &lines).await.is_none() {
                    return;
                }
            }
            is_first = false;
        }
        place = Some(now);
        if round % TICK == 0 {
            let tick = tick(&shared, &mut rate);
            let names = names(&shared);
            let is_news = names != known;
            if is_news && event(&mut sender, "names", None, &names).await.is_none() {
                return;
            }
            known = names;
            if event(&mut sender, "model", None, &tick).await.is_none() {
                return;
            }
        }
    }
}

async fn event(
    sender: &mut Sender<Bytes, Infallible>,
    name: &str,
    id: Option<&str>,
    data: &impl Serialize,
) -> Option<()> {
    let data = serde_json::to_string(data).ok()?; // one line: JSON has no bare line feeds
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    sender.send_data(Bytes::from(format!("event: {name}\n{id}data: {data}\n\n"))).await.ok()
}

/// Frames per second, since the tick before.
#[derive(Debug, Default)]
struct Rate(Option<(u64, u64)>);

impl Rate {
    fn now(&mut self, frames: u64) -> f64 {
        let now = Timestamp::now().as_micros();
        let before = self.0.replace((now, frames));
        before.map_or(0.0, |(then, had)| {
            frames.saturating_sub(had) as f64 / (now.saturating_sub(then).max(1) as f64 / 1e6)
        })
    }
}

fn tick(shared: &Shared, rate: &mut Rate) -> Value {
    let stats = shared.stats();
    let (frames, kept) = (stats.streams().frames(), stats.kept());
    json!({
        "frames": frames,
        "rate": rate.now(frames),
        "held": kept.next() - kept.first(),
        "most": kept.most(),
        "bytes": kept.bytes(),
        "most_bytes": MAX_BYTES,
    })
}

/// The names that lines can be chosen by: those of all that came.
fn names(shared: &Shared) -> Value {
    let stats = shared.stats();
    let streams = stats.streams();
    let tokens =
        streams.tokens().map(|token| json!([name_of(token), label(token, stats.is_platform(token))]));
    let plain = |name: &str| json!([name, name]);
    json!({
        "app": streams.apps().iter().map(|name| plain(name)).collect::<Vec<_>>(),
        "proc": streams.procs().into_iter().map(plain).collect::<Vec<_>>(),
        "token": tokens.collect::<Vec<_>>(),
    })
}
