//! What one drain stored: how much of each line arrived, and the losses that were announced.

use crate::app::{LineName, Written};
use crate::schedule::Output;
use std::collections::BTreeMap;
use tailrace_drain::stats::Line;

/// The lines of one run on one output.
#[derive(Clone, Debug, Default)]
struct Lines {
    /// Bytes that arrived, by number (from 1 on, at index 0), and how long each line is.
    bytes: Vec<(u64, u64)>,
}

impl Lines {
    /// Lines that arrived as a whole. Of a line behind number `done` the app may have printed a part only.
    fn whole(&self, done: u64) -> u64 {
        let is_whole = |(number, (got, len)): &(u64, &(u64, u64))| *got > 0 && (got >= len || *number > done);
        (1..).zip(&self.bytes).filter(is_whole).count() as u64
    }
}

/// How the message of a loss notice begins.
const LOSS_NOTICE: &str = "Error L10 (output buffer overflow): ";
/// Runs of a schedule at most.
const MAX_RUNS: usize = 4;

/// What one drain stored, repeated batches left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    lines: BTreeMap<(usize, Output), Lines>,
    /// Announced losses, by reason.
    pub(crate) announced: BTreeMap<String, u64>,
    /// Lines that arrived again, under another frame id.
    pub(crate) twice: Vec<LineName>,
    /// Parts of lines behind a later line, in words: out of order, or again, where another part of the line is missing.
    pub(crate) behind: Vec<String>,
    /// Frames before the time of the one before of the same process, in words.
    pub(crate) unordered: Vec<String>,
    /// By process: time and message of its last frame.
    last: BTreeMap<String, (String, String)>,
    /// Frames of the agent itself.
    pub(crate) no_lines: u64,
    /// What must never happen, in words.
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    /// Adds the lines of a request.
    pub(crate) fn add(&mut self, lines: &[Line]) {
        for line in lines {
            // Damage is found when it is read, and what an agent had not announced at its end the next one announces in
            // front of all that was left: those notices bear the times of what is missing.
            if line.is_app || !line.message.starts_with(LOSS_NOTICE) {
                self.check_time(line);
            }
            self.no_lines += u64::from(!line.is_app);
            if line.is_app {
                self.add_line(&line.message);
            } else if let Some(rest) = line.message.strip_prefix(LOSS_NOTICE) {
                let count = rest.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                let reason = rest.split_once(" reason=").map_or("", |(_, reason)| reason);
                *self.announced.entry(reason.to_owned()).or_default() += count.unwrap_or(0);
            }
        }
    }

    fn check_time(&mut self, line: &Line) {
        let now = (line.time.clone(), line.message.chars().take(120).collect());
        if let Some(last) = self.last.insert(line.proc_id.clone(), now)
            && line.time < last.0
        {
            self.unordered.push(format!("{} {} behind {} {}", line.time, line.message, last.0, last.1));
        }
    }

    fn add_line(&mut self, message: &str) {
        let name = LineName::find(message).or_else(|| self.continued_by(message));
        let Some(name) = name.or_else(|| self.begun_by(message)) else {
            self.wrong.push(format!("a line that the app did not print: {message:?}"));
            return;
        };
        let LineName { run, output, number, len } = name;
        let bytes = &mut self.lines.entry((run, output)).or_default().bytes;
        let last = bytes.len() as u64;
        if number > last {
            bytes.resize(number as usize, (0, 0));
        }
        let (got, expected) = &mut bytes[number as usize - 1];
        (*got, *expected) = (*got + message.len() as u64, len);
        if *got > len {
            self.twice.push(name);
        } else if number < last {
            self.behind.push(format!("behind number {last}: {name:?}"));
        }
    }

    /// The line that a part without a whole name continues: the agent sends what it has of a line that does not go on.
    fn continued_by(&self, part: &str) -> Option<LineName> {
        let mut last = self.lines.iter().filter_map(|((run, output), lines)| {
            let (got, len) = *lines.bytes.last()?;
            Some((LineName { run: *run, output: *output, number: lines.bytes.len() as u64, len }, got))
        });
        let continues = |(name, got): &(LineName, u64)| {
            name.text().get(*got as usize..).is_some_and(|rest| rest.starts_with(part.as_bytes()))
        };
        last.find(continues).map(|(name, _)| name)
    }

    /// The line that begins with a part of its name: the app was killed while it wrote it.
    fn begun_by(&self, part: &str) -> Option<LineName> {
        let outputs = Output::ALL.into_iter();
        let mut next = outputs.flat_map(|output| (0..MAX_RUNS).map(move |run| (run, output)));
        let (run, output) = next.find(|(run, output)| {
            let name = format!("[{run}{}{}.", output.letter(), self.last(*run, *output) + 1);
            part.strip_prefix(&name).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
                || name.starts_with(part)
        })?;
        let number = self.last(run, output) + 1;
        Some(LineName { run, output, number, len: part.len() as u64 })
    }

    /// Lines of a run that arrived as a whole, of which the app had `done` printed for sure.
    pub(crate) fn whole(&self, run: usize, written: &[Written; 2]) -> u64 {
        let whole = |output: Output| {
            self.lines.get(&(run, output)).map_or(0, |lines| lines.whole(written[output as usize].done))
        };
        Output::ALL.into_iter().map(whole).sum()
    }

    /// The highest number of a run of which something arrived.
    pub(crate) fn last(&self, run: usize, output: Output) -> u64 {
        self.lines.get(&(run, output)).map_or(0, |lines| lines.bytes.len() as u64)
    }

    /// All announced losses.
    pub(crate) fn announced_lines(&self) -> u64 {
        self.announced.values().sum()
    }

    /// The ranges of numbers that did not arrive as a whole, up to `last`, for people.
    pub(crate) fn missing(&self, run: usize, output: Output, last: u64) -> String {
        let empty = Lines::default();
        let lines = self.lines.get(&(run, output)).unwrap_or(&empty);
        let is_whole = |number: u64| {
            lines.bytes.get(number as usize - 1).is_some_and(|(got, len)| *got > 0 && got == len)
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in (1..=last).filter(|number| !is_whole(*number)) {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == number => *end = number,
                _ => ranges.push((number, number)),
            }
        }
        let text: Vec<String> = ranges.iter().take(8).map(|(from, to)| format!("{from}-{to}")).collect();
        format!("{}{}", text.join(" "), if ranges.len() > 8 { " …" } else { "" })
    }
}
