//! The other end of the model: the drains, what they got, and what the agents wrote.

use crate::frame::{Frame, PRI_NOTICE, parse_all};
use crate::line::Stream;
use crate::spool::DrainId;
use std::collections::{BTreeSet, HashMap};

/// How a drain answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx.
    Accept,
    /// It takes the batch, and the answer is lost.
    AcceptUnheard,
    /// 503, or no connection.
    Fail,
    /// 400.
    Reject,
    /// 413.
    TooLarge,
}

/// A drain: each of its batches, and the frames in them by their numbers.
#[derive(Debug)]
pub(super) struct Drain {
    /// How it answers from now on.
    pub(super) answer: Answer,
    /// Agents adopt what was written before, in its order. Not where a spool could not be adopted by the next agent.
    pub(super) is_ordered: bool,
    /// Nothing is checked but the form of the requests.
    pub(super) takes_anything: bool,
    /// The bodies of all attempts, by frame id.
    attempts: HashMap<String, Vec<u8>>,
    accepted: BTreeSet<String>,
    last_accepted: String,
    got: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// Lines that the notices announced.
    announced: u64,
}

impl Drain {
    fn new() -> Self {
        Self {
            answer: Answer::Accept,
            is_ordered: true,
            takes_anything: false,
            attempts: HashMap::new(),
            accepted: BTreeSet::new(),
            last_accepted: String::new(),
            got: BTreeSet::new(),
            refused: BTreeSet::new(),
            announced: 0,
        }
    }

    /// A request of `frames` frames. Returns what the shipper hears.
    pub(super) fn post(&mut self, id: &str, body: &[u8], frames: u64) -> Answer {
        let parsed = parse_all(body).expect("whole frames");
        assert_eq!(parsed.len() as u64, frames, "the number of frames in the header is right");
        if self.takes_anything {
            return self.answer;
        }
        let before = self.attempts.entry(id.to_owned()).or_insert_with(|| body.to_vec());
        assert!(before == body, "one id stands for one body");
        let is_repeat = self.accepted.contains(id);
        let answer = match self.answer {
            Answer::Reject | Answer::TooLarge if is_repeat => Answer::Accept,
            answer => answer,
        };
        match answer {
            Answer::Accept | Answer::AcceptUnheard if is_repeat => {
                let is_last = self.last_accepted == id;
                assert!(is_last || !self.is_ordered, "what was acknowledged before is not sent again");
            }
            Answer::Accept | Answer::AcceptUnheard => {
                for number in numbers(&parsed) {
                    let last = self.got.last();
                    assert!(
                        !self.is_ordered || last.is_none_or(|last| *last < number),
                        "{number} after {last:?}"
                    );
                    assert!(self.got.insert(number), "{number} twice");
                }
                let notices = parsed.iter().filter(|frame| frame.pri == PRI_NOTICE);
                let announced = |text: &str| text.split(' ').nth(5).and_then(|n| n.parse::<u64>().ok());
                self.announced += notices.map(|notice| announced(notice.msg).expect("a number")).sum::<u64>();
                self.accepted.insert(id.to_owned());
                id.clone_into(&mut self.last_accepted);
            }
            Answer::Reject | Answer::Fail | Answer::TooLarge => {}
        }
        answer
    }

    /// These frames will not be sent again.
    pub(super) fn refuse(&mut self, frames: &[u8]) {
        self.refused.extend(numbers(&parse_all(frames).expect("whole frames")));
    }

    /// Whether it got every one of these frames.
    pub(super) fn has_all(&self, frames: &[u64]) -> bool {
        frames.iter().all(|frame| self.got.contains(frame))
    }
}

/// The numbers of the frames that an agent wrote.
fn numbers(frames: &[Frame<'_>]) -> impl Iterator<Item = u64> {
    let written = frames.iter().filter(|frame| frame.pri != PRI_NOTICE);
    written.map(|frame| frame.msg.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"))
}

/// A line of an app.
#[derive(Debug)]
pub(super) struct Line {
    /// The numbers of its frames.
    pub(super) frames: Vec<u64>,
    /// Its last frame is written.
    pub(super) is_ended: bool,
    /// The number of the agent that captured it.
    pub(super) agent: usize,
}

/// What all agents wrote, and the drains.
#[derive(Debug)]
pub(super) struct World {
    pub(super) drains: Vec<Drain>,
    pub(super) lines: Vec<Line>,
    /// Per frame number: the line it is of, if any, and whether its append returned.
    frames: Vec<Written>,
    /// The line under way of each stream.
    pub(super) open: [Option<usize>; 2],
    /// An agent died between two checkpoints that a loss moves from and to.
    pub(super) may_announce_twice: bool,
}

/// A frame that an agent wrote.
#[derive(Clone, Copy, Debug)]
struct Written {
    is_of_app: bool,
    is_booked: bool,
}

impl World {
    pub(super) fn new(drains: usize) -> Self {
        let drains = std::iter::repeat_with(Drain::new).take(drains).collect();
        Self { drains, lines: Vec::new(), frames: Vec::new(), open: [None; 2], may_announce_twice: false }
    }

    /// The drains as the agents know them.
    pub(super) fn drain_ids(&self) -> Vec<DrainId> {
        (0..self.drains.len()).map(|number| DrainId::of_test(&format!("d.{number}"))).collect()
    }

    /// A frame that is about to be written: of a line on `stream`, or of the agent itself. Returns its number.
    pub(super) fn add_frame(&mut self, stream: Option<Stream>, agent: usize, is_last: bool) -> u64 {
        let number = self.frames.len() as u64;
        self.frames.push(Written { is_of_app: stream.is_some(), is_booked: false });
        if let Some(stream) = stream {
            let open = &mut self.open[stream as usize];
            let index = open.unwrap_or(self.lines.len());
            if index == self.lines.len() {
                self.lines.push(Line { frames: Vec::new(), is_ended: false, agent });
            }
            self.lines[index].frames.push(number);
            self.lines[index].is_ended = is_last;
            *open = (!is_last).then_some(index);
        }
        number
    }

    /// The last `count` frames are booked.
    pub(super) fn book(&mut self, count: usize) {
        for frame in self.frames.iter_mut().rev().take(count) {
            frame.is_booked = true;
        }
    }

    /// The lines of one agent.
    pub(super) fn lines_of(&self, agent: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.agent == agent)
    }

    /// Nothing is held any more: what a drain did not get is announced to it, to the line.
    pub(super) fn check_end(&self) {
        for (index, drain) in self.drains.iter().enumerate() {
            let is_missing = |number: &u64| !drain.got.contains(number) && !drain.refused.contains(number);
            let is_booked = |number: &u64| self.frames[*number as usize].is_booked;
            let is_lost = |line: &&Line| {
                let is_refused = line.frames.iter().any(|number| drain.refused.contains(number));
                // A dead agent's line counts where its last frame is, and without that not at all.
                let last = line.frames.last().filter(|_| line.is_ended && !is_refused);
                last.is_some_and(|number| is_missing(number) && is_booked(number))
            };
            let least = self.lines.iter().filter(is_lost).count() as u64;
            // Parts of a dead agent's lines count as lines, and what it was writing when it died may count.
            let of_app = |number: &u64| self.frames[*number as usize].is_of_app;
            let most = (0..self.frames.len() as u64).filter(|n| of_app(n) && is_missing(n)).count() as u64;
            let announced = drain.announced;
            let most = if self.may_announce_twice { u64::MAX } else { most };
            assert!(
                (least..=most).contains(&announced),
                "drain {index}: {announced} lines are announced, {least} to {most} are missing"
            );
        }
    }
}
