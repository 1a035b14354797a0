//! Lines of the platform about dynos: states, exits, restarts, scaling.

use super::application::{Change, Changes};
use crate::measure::{BoundedMap, Merge, Series};
use serde::Serialize;

/// Counts of state changes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StateChanges {
    /// Changes `to up`.
    pub up: u64,
    /// Changes `to complete`.
    pub completed: u64,
    /// Changes `to crashed`.
    pub crashed: u64,
    /// Changes `to down`.
    pub stopped: u64,
    /// Lines that start with `Restarting` or `Cycling`.
    pub restarts: u64,
}

impl Merge for StateChanges {
    fn merge(&mut self, other: Self) {
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
    /// Its state changes.
    pub launches: StateChanges,
    /// The last state.
    pub state: String,
    /// Timestamp of the line with this state.
    pub since: String,
    /// The last exit status.
    pub exit: Option<String>,
}

/// All dynos.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dynos {
    /// State changes of all dynos.
    pub all: StateChanges,
    /// By dyno.
    pub by_dyno: BoundedMap<Dyno>,
    /// Exit statuses.
    pub exits: BoundedMap<u64, 64>,
    /// State changes over time.
    pub over_time: Series<StateChanges>,
    /// `Scaled to …`.
    pub scaling: Changes,
}

impl Dynos {
    pub(crate) fn state(&mut self, time: &str, name: &str, message: &str, second: u64) {
        let Some((_, state)) = message.rsplit_once(" to ") else { return };
        let mut one = StateChanges::default();
        match state {
            "up" => one.up = 1,
            "complete" => one.completed = 1,
            "crashed" => one.crashed = 1,
            "down" => one.stopped = 1,
            _ => {}
        }
        let dyno = self.by_dyno.entry(name);
        state.clone_into(&mut dyno.state);
        time.clone_into(&mut dyno.since);
        self.launch(name, one, second);
    }

    fn launch(&mut self, name: &str, one: StateChanges, second: u64) {
        self.by_dyno.entry(name).launches.merge(one);
        self.all.merge(one);
        self.over_time.at(second).merge(one);
    }

    pub(crate) fn exit(&mut self, name: &str, message: &str) {
        let status = message.rsplit(' ').next().unwrap_or_default();
        *self.exits.entry(status) += 1;
        self.by_dyno.entry(name).exit = Some(status.to_owned());
    }

    /// Counts any other line of the platform: it may announce a restart.
    pub(crate) fn platform(&mut self, name: &str, message: &str, second: u64) {
        if message.starts_with("Restarting") || message.starts_with("Cycling") {
            self.launch(name, StateChanges { restarts: 1, ..StateChanges::default() }, second);
        }
    }

    pub(crate) fn scaled(&mut self, time: &str, message: &str, second: u64) {
        self.scaling.add(&Change::parse(time, message), second);
    }
}
