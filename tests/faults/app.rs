//! The app of the schedules: prints numbered lines, as told on standard input, and notes how far it came in a file.

use crate::schedule::Output;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The name of a line, from which each of its frames tells where it belongs: the line is filled with it. Of a line that
/// needs several frames, each has it at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineName {
    pub(crate) run: usize,
    pub(crate) output: Output,
    /// From 1 on, by run and output.
    pub(crate) number: u64,
    /// Bytes of the whole line, without LF.
    pub(crate) len: u64,
}

impl LineName {
    /// The line, with its LF.
    fn append_to(self, text: &mut Vec<u8>) {
        let name = format!("[{}{}{}.{}]", self.run, self.output.letter(), self.number, self.len);
        let end = text.len() + self.len as usize;
        while text.len() + name.len() < end {
            text.extend_from_slice(name.as_bytes());
        }
        text.resize(end - 1, b'-');
        text.extend_from_slice(b";\n");
    }

    /// The line, without its LF.
    pub(crate) fn text(self) -> Vec<u8> {
        let mut text = Vec::new();
        self.append_to(&mut text);
        text.pop();
        text
    }

    /// The first name in a message.
    pub(crate) fn find(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once('[')?;
        let (name, _) = rest.split_once(']')?;
        let (id, len) = name.split_once('.')?;
        let letter = id.find(|c: char| c.is_ascii_alphabetic())?;
        let output = Output::ALL.into_iter().find(|output| *output.letter() == id[letter..=letter])?;
        let (run, number) = (id[..letter].parse().ok()?, id[letter + 1..].parse().ok()?);
        Some(Self { run, output, number, len: len.parse().ok()? })
    }
}

/// How many lines the app of one run wrote to one output. It may be killed at any time: the truth is in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Lines whose write returned.
    pub(crate) done: u64,
    /// Also those of a write that may not have returned.
    pub(crate) begun: u64,
}

/// The file in which the app notes how far it came. It survives any kill: its bytes are in the page cache.
struct Notes(File);

impl Notes {
    fn note(&self, output: Output, written: Written) {
        let numbers = [written.done, written.begun].map(u64::to_le_bytes).concat();
        self.0.write_all_at(&numbers, output as u64 * 16).unwrap();
    }
}

/// Reads the notes of an app, by output.
pub(crate) fn read_notes(path: &Path) -> [Written; 2] {
    let bytes = std::fs::read(path).unwrap_or_default();
    let number = |index: usize| {
        bytes.get(index * 8..index * 8 + 8).map_or(0, |number| u64::from_le_bytes(number.try_into().unwrap()))
    };
    [0, 2].map(|index| Written { done: number(index), begun: number(index + 1) })
}

/// Runs the app: `RUN NOTES`. Each line of standard input is `OUTPUT COUNT LEN BURST PAUSE`: print that many lines of
/// this length, so many in one write, with this pause in µs after each. The end of standard input ends it.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [run, notes] = arguments else { return ExitCode::FAILURE };
    let run = run.parse().unwrap();
    let notes = Notes(OpenOptions::new().write(true).create(true).truncate(true).open(notes).unwrap());
    let mut written = [Written::default(); 2];
    for command in std::io::stdin().lock().lines().map_while(Result::ok) {
        let fields: Vec<&str> = command.split(' ').collect();
        let [letter, numbers @ ..] = &fields[..] else { return ExitCode::FAILURE };
        let output = Output::ALL.into_iter().find(|output| output.letter() == *letter).unwrap();
        let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        let [count, len, burst, pause] = numbers[..] else { return ExitCode::FAILURE };
        let here = &mut written[output as usize];
        let last = here.done + count;
        while here.done < last {
            here.begun = (here.done + burst).min(last);
            let mut text = Vec::new();
            for number in here.done + 1..=here.begun {
                LineName { run, output, number, len }.append_to(&mut text);
            }
            notes.note(output, *here);
            let result = match output {
                Output::Out => {
                    std::io::stdout().lock().write_all(&text).and_then(|()| std::io::stdout().flush())
                }
                Output::Err => std::io::stderr().write_all(&text),
            };
            if result.is_err() {
                return ExitCode::FAILURE; // the supervisor is gone
            }
            here.done = here.begun;
            notes.note(output, *here);
            thread::sleep(Duration::from_micros(pause));
        }
    }
    ExitCode::SUCCESS
}
