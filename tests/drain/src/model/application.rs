//! What the platform says of the app: builds, deploys, releases, config vars.

use super::kind::Kind;
use crate::measure::{Merge, Names, Series};
use serde::Serialize;
use std::collections::VecDeque;

/// Changes that are kept.
const LATEST: usize = 50;

/// One change.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Change {
    /// Time of the line.
    pub time: String,
    /// The words.
    pub text: String,
    /// `by user …`.
    pub user: String,
}

impl Change {
    /// Reads `Deploy 7d2ed6b9 by user dev@example.com` and the like.
    pub(crate) fn read(time: &str, message: &str) -> Self {
        let (text, user) = message.split_once(" by user ").unwrap_or((message, ""));
        let text = text.strip_suffix(" created").unwrap_or(text);
        Self { time: time.to_owned(), text: text.to_owned(), user: user.to_owned() }
    }
}

/// Changes of one user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ByUser {
    /// How many.
    pub count: u64,
    /// The last one.
    pub last: String,
}

/// Changes of one sort.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// How many.
    pub count: u64,
    /// By user.
    pub by_user: Names<ByUser>,
    /// Over time, by user.
    pub over_time: Series<Names<u64, 20>>,
}

impl Changes {
    pub(crate) fn add(&mut self, change: &Change, second: u64) {
        self.count += 1;
        let user = if change.user.is_empty() { "(nobody)" } else { &change.user };
        let by_user = self.by_user.of(user);
        by_user.count += 1;
        change.text.clone_into(&mut by_user.last);
        *self.over_time.at(second).of(user) += 1;
    }
}

/// Builds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Builds {
    /// Those that came to an end.
    pub total: u64,
    /// `Build started`.
    pub started: u64,
    /// `Build succeeded`.
    pub succeeded: u64,
    /// `Build failed`.
    pub failed: u64,
}

impl Merge for Builds {
    fn absorb(&mut self, other: Self) {
        self.total += other.total;
        self.started += other.started;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
    }
}

/// The application.
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
    /// All of them, and changes of scale and of config vars: the last so many.
    pub latest: VecDeque<Change>,
}

impl Application {
    pub(crate) fn add(&mut self, kind: Kind, time: &str, message: &str, second: u64) {
        let change = Change::read(time, message);
        match kind {
            Kind::Build => {
                let [started, succeeded, failed] =
                    ["started", "succeeded", "failed"].map(|word| u64::from(message[6..].starts_with(word)));
                let one = Builds { total: succeeded + failed, started, succeeded, failed };
                self.builds.absorb(one);
                self.builds_over_time.at(second).absorb(one);
            }
            Kind::Deploy => self.deploys.add(&change, second),
            Kind::Release => self.releases.add(&change, second),
            _ => {}
        }
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(change);
    }
}
