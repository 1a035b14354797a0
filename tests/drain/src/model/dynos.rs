//! What the platform says of its dynos: states, exits, restarts, scaling.

use super::application::{Change, Changes};
use crate::measure::{Merge, Names, Series};
use serde::Serialize;

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
    /// Its state.
    pub state: String,
    /// The time of the line that told the state.
    pub since: String,
    /// Last exit status.
    pub exit: Option<String>,
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
    /// `Scaled to …`.
    pub scaling: Changes,
}

impl Dynos {
    pub(crate) fn state(&mut self, time: &str, name: &str, message: &str, second: u64) {
        let Some((_, state)) = message.rsplit_once(" to ") else { return };
        let mut one = Launches::default();
        match state {
            "up" => one.up = 1,
            "complete" => one.completed = 1,
            "crashed" => one.crashed = 1,
            "down" => one.stopped = 1,
            _ => {}
        }
        let dyno = self.by_dyno.of(name);
        state.clone_into(&mut dyno.state);
        time.clone_into(&mut dyno.since);
        self.launch(name, one, second);
    }

    fn launch(&mut self, name: &str, one: Launches, second: u64) {
        self.by_dyno.of(name).launches.absorb(one);
        self.all.absorb(one);
        self.over_time.at(second).absorb(one);
    }

    pub(crate) fn exit(&mut self, name: &str, message: &str) {
        let status = message.rsplit(' ').next().unwrap_or_default();
        *self.exits.of(status) += 1;
        self.by_dyno.of(name).exit = Some(status.to_owned());
    }

    /// Any other line of the platform: maybe the start of a restart.
    pub(crate) fn platform(&mut self, name: &str, message: &str, second: u64) {
        if message.starts_with("Restarting") || message.starts_with("Cycling") {
            self.launch(name, Launches { restarts: 1, ..Launches::default() }, second);
        }
    }

    pub(crate) fn scaled(&mut self, time: &str, message: &str, second: u64) {
        self.scaling.add(&Change::read(time, message), second);
    }
}
