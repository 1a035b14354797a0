//! What the platform says of its dynos: states, exits, restarts, scaling, releases.

use super::measure::{Merge, Names, Series};
use serde::Serialize;
use std::collections::VecDeque;

/// Events that are kept.
const EVENTS: usize = 50;

/// Launches and ends.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Launches {
    /// `to up`.
    pub up: u64,
    /// `to complete`.
    pub completed: u64,
    /// `to crashed`.
    pub crashed: u64,
    /// `to down`.
    pub stopped: u64,
    /// `Restarting`, `Cycling`.
    pub restarts: u64,
}

impl Merge for Launches {
    fn absorb(&mut self, other: Self) {
        self.up += other.up;
        self.completed += other.completed;
        self.crashed += other.crashed;
        self.stopped += other.stopped;
        self.restarts += other.restarts;
    }
}

/// One dyno.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dyno {
    /// Its launches and ends.
    pub launches: Launches,
    /// Its state, and since when.
    pub state: String,
    /// The time of the line that told the state.
    pub since: String,
    /// Last exit status.
    pub exit: Option<String>,
}

/// A deploy, a release, a change of scale.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Event {
    /// Time of the line.
    pub time: String,
    /// The words.
    pub text: String,
    /// `by user …`.
    pub user: String,
}

/// All dynos.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dynos {
    /// All together.
    pub all: Launches,
    /// By dyno.
    pub by_dyno: Names<Dyno>,
    /// Exit codes.
    pub exits: Names<u64, 64>,
    /// Over time.
    pub over_time: Series<Launches>,
    /// Deploys, releases and scaling, by kind.
    pub by_event: Names<u64, 8>,
    /// The same by user.
    pub by_user: Names<u64>,
    /// The last of them.
    pub events: VecDeque<Event>,
}

impl Dynos {
    pub(crate) fn state(&mut self, time: &str, dyno: &str, message: &str, second: u64) {
        let Some((_, state)) = message.rsplit_once(" to ") else { return };
        let mut one = Launches::default();
        match state {
            "up" => one.up = 1,
            "complete" => one.completed = 1,
            "crashed" => one.crashed = 1,
            "down" => one.stopped = 1,
            _ => {}
        }
        let dyno = self.by_dyno.of(dyno);
        state.clone_into(&mut dyno.state);
        time.clone_into(&mut dyno.since);
        dyno.launches.absorb(one);
        self.all.absorb(one);
        self.over_time.at(second).absorb(one);
    }

    pub(crate) fn exit(&mut self, dyno: &str, message: &str) {
        let status = message.rsplit(' ').next().unwrap_or_default();
        *self.exits.of(status) += 1;
        self.by_dyno.of(dyno).exit = Some(status.to_owned());
    }

    /// Any other line of the platform: maybe the start of a restart.
    pub(crate) fn platform(&mut self, dyno: &str, message: &str, second: u64) {
        if message.starts_with("Restarting") || message.starts_with("Cycling") {
            let one = Launches { restarts: 1, ..Launches::default() };
            self.by_dyno.of(dyno).launches.absorb(one);
            self.all.absorb(one);
            self.over_time.at(second).absorb(one);
        }
    }

    pub(crate) fn event(&mut self, time: &str, kind: &str, message: &str) {
        let (text, user) = message.split_once(" by user ").unwrap_or((message, ""));
        let text = text.strip_suffix(" created").unwrap_or(text);
        *self.by_event.of(kind) += 1;
        *self.by_user.of(user) += 1;
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { time: time.to_owned(), text: text.to_owned(), user: user.to_owned() });
    }
}
