//! The live tail: an event stream of the lines that pass a filter, and a tick each second.

use super::parameter;
use crate::kept::Chunk;
use crate::server::Shared;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tailrace::frame::{Frame, now_micros};
use tokio::time::{MissedTickBehavior, interval};

/// Time between batches of lines.
const BATCH: Duration = Duration::from_millis(250);
/// Batches per tick.
const TICK: u32 = 4;
/// Most lines per batch; of more, the youngest. What is left out is counted.
const MOST: usize = 250;
/// Lines that are looked at for a batch: a filter that little passes does not eat the processor.
const LOOKED_AT: u64 = 50_000;
/// Lines that are looked at for what came before: all that are held.
const BEFORE: u64 = u64::MAX;
/// Lines from before the stream was opened.
const BACKLOG: usize = 500;

/// Which lines.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Only the tick is wanted.
    is_silent: bool,
    search: Option<Regex>,
    app: String,
    proc_id: String,
    token: String,
    level: Option<u8>,
}

impl Filter {
    pub(crate) fn read(query: &str) -> Self {
        let search = parameter(query, "search");
        let regex = RegexBuilder::new(&regex::escape(&search)).case_insensitive(true).build();
        Self {
            is_silent: parameter(query, "lines") == "off",
            search: regex.ok().filter(|_| !search.is_empty()),
            app: parameter(query, "app"),
            proc_id: parameter(query, "proc"),
            token: parameter(query, "token"),
            level: parameter(query, "level").parse().ok(),
        }
    }

    fn passes(&self, token: &str, frame: &Frame<'_>) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(&self.app, frame.app)
            && fits(&self.proc_id, frame.proc_id)
            && fits(&self.token, token)
            && self.level.is_none_or(|level| frame.pri & 7 <= level)
            && self.search.as_ref().is_none_or(|search| search.is_match(frame.msg))
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
    level: u8,
    text: String,
}

#[derive(Debug, Default, Serialize)]
struct Selection {
    lines: Vec<Shown>,
    /// Lines that passed, or were not looked at, and are not among them.
    skipped: u64,
    /// Whether what is on the page is to go.
    fresh: bool,
}

/// The last `most` of the lines from number `from` on that pass, from old to new.
fn select(chunks: &[Arc<Chunk>], from: u64, filter: &Filter, most: usize, look_at: u64) -> Selection {
    let mut found = Selection::default();
    let total: u64 = chunks.iter().map(|chunk| chunk.end() - chunk.first.max(from)).sum();
    let mut looked_at = 0;
    let all = chunks
        .iter()
        .rev()
        .flat_map(|chunk| (chunk.first.max(from)..chunk.end()).rev().map(move |line| (chunk, line)));
    for (chunk, line) in all {
        if looked_at == look_at || found.lines.len() == most {
            break;
        }
        looked_at += 1;
        let Some((frame, _)) = chunk.get(line) else { continue };
        if filter.passes(&chunk.token, &frame) {
            found.lines.push(Shown {
                n: line,
                at: chunk.at,
                time: frame.time.to_owned(),
                app: frame.app.to_owned(),
                proc: frame.proc_id.to_owned(),
                token: chunk.token.clone(),
                level: frame.pri & 7,
                text: frame.msg.to_owned(),
            });
        }
    }
    found.skipped = total - looked_at;
    found.lines.reverse();
    found
}

/// Opens a stream; it ends when the browser does.
pub(crate) fn stream(shared: Arc<Shared>, filter: Filter) -> Channel<Bytes, Infallible> {
    let (sender, body) = Channel::new(4);
    drop(tokio::spawn(send(shared, filter, sender)));
    body
}

async fn send(shared: Arc<Shared>, filter: Filter, mut sender: Sender<Bytes, Infallible>) {
    let mut timer = interval(BATCH);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursor = None;
    let mut rate = Rate::default();
    for round in 0u32.. {
        timer.tick().await;
        let (chunks, from, next) = {
            let tally = shared.tally();
            let kept = tally.kept();
            // Numbers that went back: somebody reset the drain.
            let from = cursor.filter(|cursor| *cursor <= kept.next()).unwrap_or(0).max(kept.first());
            (kept.since(from), from, kept.next())
        };
        let is_fresh = cursor.is_none_or(|cursor| cursor > next);
        if !filter.is_silent && (is_fresh || next > from) {
            let (most, look_at) = if is_fresh { (BACKLOG, BEFORE) } else { (MOST, LOOKED_AT) };
            let mut lines = select(&chunks, from, &filter, most, look_at);
            lines.fresh = is_fresh;
            if is_fresh {
                lines.skipped = 0;
            }
            if event(&mut sender, "lines", &lines).await.is_none() {
                return;
            }
        }
        cursor = Some(next);
        if round % TICK == 0 {
            let tick = tick(&shared, &mut rate);
            if event(&mut sender, "model", &tick).await.is_none() {
                return;
            }
        }
    }
}

async fn event(sender: &mut Sender<Bytes, Infallible>, name: &str, data: &impl Serialize) -> Option<()> {
    let data = serde_json::to_string(data).ok()?; // one line: JSON has no bare line feeds
    sender.send_data(Bytes::from(format!("event: {name}\ndata: {data}\n\n"))).await.ok()
}

/// Frames per second, since the tick before.
#[derive(Debug, Default)]
struct Rate(Option<(u64, u64)>);

impl Rate {
    fn now(&mut self, frames: u64) -> f64 {
        let now = now_micros();
        let before = self.0.replace((now, frames));
        before.map_or(0.0, |(then, had)| {
            frames.saturating_sub(had) as f64 / (now.saturating_sub(then).max(1) as f64 / 1e6)
        })
    }
}

fn tick(shared: &Shared, rate: &mut Rate) -> serde_json::Value {
    let tally = shared.tally();
    let frames = tally.frame_count();
    let model = tally.model();
    json!({
        "frames": frames,
        "rate": rate.now(frames),
        "held": tally.kept().next() - tally.kept().first(),
        "held_bytes": tally.kept().bytes(),
        "app": model.map(|model| model.apps.keys().collect::<Vec<_>>()),
        "proc": model.map(|model| model.procs.keys().collect::<Vec<_>>()),
        "token": model.map(|model| model.delivery.tokens.keys().collect::<Vec<_>>()),
    })
}
