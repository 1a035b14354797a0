//! Lines of the platform about the app: builds, deploys, releases, config vars.

use super::kind::LineKind;
use crate::measure::{BoundedMap, Merge, Series};
use serde::Serialize;
use std::collections::VecDeque;

/// Most changes that are shown.
const MAX_LATEST: usize = 50;

/// One change.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Change {
    /// Timestamp of the line.
    pub time: String,
    /// The message without the user.
    pub text: String,
    /// The user of `by user …`.
    pub user: String,
}

impl Change {
    /// Parses messages such as `Deploy 7d2ed6b9 by user dev@example.com`.
    pub(crate) fn parse(time: &str, message: &str) -> Self {
        let (text, user) = message.split_once(" by user ").unwrap_or((message, ""));
        let text = text.strip_suffix(" created").unwrap_or(text);
        Self { time: time.to_owned(), text: text.to_owned(), user: user.to_owned() }
    }
}

/// The changes of one user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ByUser {
    /// Number of changes.
    pub count: u64,
    /// The text of the last one.
    pub last: String,
}

/// The changes of one type.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Number of changes.
    pub count: u64,
    /// By user.
    pub by_user: BoundedMap<ByUser>,
    /// Over time, by user.
    pub over_time: Series<BoundedMap<u64, 20>>,
}

impl Changes {
    pub(crate) fn add(&mut self, change: &Change, second: u64) {
        self.count += 1;
        let user = if change.user.is_empty() { "(nobody)" } else { &change.user };
        let by_user = self.by_user.entry(user);
        by_user.count += 1;
        change.text.clone_into(&mut by_user.last);
        *self.over_time.at(second).entry(user) += 1;
    }
}

/// Builds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Builds {
    /// Builds that ended.
    pub total: u64,
    /// `Build started`.
    pub started: u64,
    /// `Build succeeded`.
    pub succeeded: u64,
    /// `Build failed`.
    pub failed: u64,
}

impl Merge for Builds {
    fn merge(&mut self, other: Self) {
        self.total += other.total;
        self.started += other.started;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
    }
}

/// The counts of the app.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Application {
    /// Builds.
    pub builds: Builds,
    /// Builds over time.
    pub builds_over_time: Series<Builds>,
    /// `Deploy …`.
    pub deploys: Changes,
    /// `Release v…`.
    pub releases: Changes,
    /// The last changes of any type, also of scale and config vars.
    pub latest: VecDeque<Change>,
}

impl Application {
    pub(crate) fn add(&mut self, kind: LineKind, time: &str, message: &str, second: u64) {
        let change = Change::parse(time, message);
        match kind {
            LineKind::Build => {
                let [started, succeeded, failed] = ["started", "succeeded", "failed"]
                    .map(|result| u64::from(message[6..].starts_with(result)));
                let one = Builds { total: succeeded + failed, started, succeeded, failed };
                self.builds.merge(one);
                self.builds_over_time.at(second).merge(one);
            }
            LineKind::Deploy => self.deploys.add(&change, second),
            LineKind::Release => self.releases.add(&change, second),
            _ => {}
        }
        if self.latest.len() == MAX_LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(change);
    }
}
