//! Reads a dyno's output: prints it line by line, counts it as the agent does, and passes it to the platform's drain.

use crate::console::{Console, Source};
use crate::ledger::OutputCounts;
use crate::logplex::{LineCutter, Logplex};
use std::sync::Arc;
use std::time::Duration;
use tailrace::line::{Fragment, Splitter};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Bytes per read.
const BUFFER_BYTES: usize = 64 << 10;
/// After a pause of this length within a line, the line may fill one more frame: the agent sends an incomplete line
/// after 1 s.
const STALL_AFTER: Duration = Duration::from_millis(500);
/// Prefix of the agent's lines on standard error. They are not lines of the app.
const AGENT_LINE_PREFIX: &[u8] = b"tailrace at=";

/// Finds the marker that a dyno's shell prints between the app's profile and the command.
#[derive(Debug)]
struct MarkerScanner<'a> {
    marker: &'a [u8],
    /// The end of the input, if it may be the beginning of the marker.
    pending: Vec<u8>,
}

/// What a [`MarkerScanner`] found.
struct Scanned {
    /// Bytes before the marker.
    before: Vec<u8>,
    /// Bytes after the marker, once it has been found.
    after: Option<Vec<u8>>,
}

impl MarkerScanner<'_> {
    fn push(&mut self, bytes: &[u8]) -> Scanned {
        self.pending.extend_from_slice(bytes);
        if let Some(at) = self.pending.windows(self.marker.len()).position(|part| part == self.marker) {
            let after = self.pending.split_off(at + self.marker.len());
            self.pending.truncate(at);
            return Scanned { before: std::mem::take(&mut self.pending), after: Some(after) };
        }
        let partial =
            (1..self.marker.len()).rev().find(|length| self.pending.ends_with(&self.marker[..*length]));
        let pending = self.pending.split_off(self.pending.len() - partial.unwrap_or_default());
        Scanned { before: std::mem::replace(&mut self.pending, pending), after: None }
    }
}

/// Where a dyno's output goes.
#[derive(Clone, Debug)]
pub struct OutputSinks {
    /// The dyno's name.
    pub dyno: String,
    /// Prints it; `None` for the baseline dyno.
    pub console: Option<Console>,
    /// The platform's own drain.
    pub logplex: Option<Arc<Logplex>>,
}

/// Reads one output stream of a dyno to its end. `max_line` is `TAILRACE_MAX_LINE`; `marker` separates the output of
/// the app's profile from the command's, where there is a profile.
pub async fn read(
    mut pipe: impl AsyncRead + Unpin,
    max_line: usize,
    marker: Option<&str>,
    sinks: OutputSinks,
) -> OutputCounts {
    let mut scanner = marker.map(|marker| MarkerScanner { marker: marker.as_bytes(), pending: Vec::new() });
    let mut counter = StreamCounter::new(max_line, &sinks);
    let mut early_lines = None;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut is_stalled = false;
    loop {
        let length = match timeout(STALL_AFTER, pipe.read(&mut buffer)).await {
            Err(_) => {
                counter.counts.stalls += u64::from(counter.splitter.mid_line() && !is_stalled);
                is_stalled = true;
                continue;
            }
            Ok(length) => length.unwrap_or(0),
        };
        is_stalled = false;
        match &mut scanner {
            Some(open) if length > 0 => {
                let Scanned { before, after } = open.push(&buffer[..length]);
                counter.push(&before);
                if let Some(after) = after {
                    scanner = None;
                    early_lines = Some(counter.restart().lines);
                    counter.push(&after);
                }
            }
            Some(open) => counter.push(&std::mem::take(&mut open.pending)),
            None => counter.push(&buffer[..length]),
        }
        if length == 0 {
            counter.finish();
        }
        counter.print().await;
        if length == 0 {
            // Without the marker the profile's output cannot be told from the command's: all lines count.
            return OutputCounts { early: early_lines.unwrap_or_default(), ..counter.counts };
        }
    }
}

/// Splits one output stream into lines, and counts them.
struct StreamCounter<'a> {
    max_line: usize,
    sinks: &'a OutputSinks,
    splitter: Splitter,
    cutter: LineCutter,
    counts: OutputCounts,
    /// Text to print.
    text: String,
}

impl<'a> StreamCounter<'a> {
    fn new(max_line: usize, sinks: &'a OutputSinks) -> Self {
        Self {
            max_line,
            sinks,
            splitter: Splitter::new(max_line),
            cutter: LineCutter::default(),
            counts: OutputCounts::default(),
            text: String::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let Self { sinks, counts, text, .. } = self;
        self.splitter.push(bytes, &mut |message: &[u8], piece| count(sinks, counts, text, message, piece));
        if let Some(logplex) = &self.sinks.logplex {
            self.cutter.push(bytes, |line| logplex.add_app_line(&self.sinks.dyno, line));
        }
    }

    fn finish(&mut self) {
        self.end_line();
        if let Some(logplex) = &self.sinks.logplex {
            self.cutter.finish(|line| logplex.add_app_line(&self.sinks.dyno, line));
        }
    }

    fn end_line(&mut self) {
        let Self { sinks, counts, text, .. } = self;
        self.splitter.finish(&mut |message: &[u8], piece| count(sinks, counts, text, message, piece));
    }

    /// Starts counting again at zero; returns the counts so far.
    fn restart(&mut self) -> OutputCounts {
        self.end_line();
        self.splitter = Splitter::new(self.max_line);
        std::mem::take(&mut self.counts)
    }

    async fn print(&mut self) {
        if let Some(console) = self.sinks.console.as_ref().filter(|_| !self.text.is_empty()) {
            console.print(std::mem::take(&mut self.text)).await;
        }
    }
}

/// Counts a message, and appends it to the text to print.
fn count(sinks: &OutputSinks, counts: &mut OutputCounts, text: &mut String, message: &[u8], piece: Fragment) {
    let shown = String::from_utf8_lossy(message);
    if let Some(console) = sinks.console.as_ref().filter(|_| piece != Fragment::EmptyFinal) {
        console.append_log_line(text, Source::app(&sinks.dyno), &shown);
    }
    if piece != Fragment::Full || !message.starts_with(AGENT_LINE_PREFIX) {
        counts.lines += u64::from(piece != Fragment::Partial);
        if piece != Fragment::EmptyFinal {
            counts.frames += 1;
            counts.text.add(&shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::captured;
    use crate::ledger::Digest;
    use tokio::io::AsyncWriteExt as _;

    fn sinks(console: Console) -> OutputSinks {
        OutputSinks { dyno: "web.1".to_owned(), console: Some(console), logplex: None }
    }

    /// The counts, and the printed lines without their times.
    async fn read_all(bytes: &[u8]) -> (OutputCounts, Vec<String>) {
        let (console, mut texts) = captured();
        let counts = read(bytes, 256, None, sinks(console)).await;
        let mut printed = Vec::new();
        while let Ok(text) = texts.try_recv() {
            printed.extend(text.lines().map(|line| line[32..].to_owned()));
        }
        (counts, printed)
    }

    fn digest(messages: &[&str]) -> Digest {
        let mut digest = Digest::default();
        for message in messages {
            digest.add(message);
        }
        digest
    }

    #[tokio::test]
    async fn lines_and_frames_are_counted() {
        let long = "x".repeat(600);
        let (counts, printed) = read_all(format!("one\n\n{long}\nlast").as_bytes()).await;
        let expected = digest(&["one", "", &long[..256], &long[..256], &long[..88], "last"]);
        assert_eq!(counts, OutputCounts { lines: 4, frames: 6, text: expected, ..OutputCounts::default() });
        assert_eq!(printed.len(), 6);
        assert_eq!(printed[0], " app[web.1]: one");
    }

    #[tokio::test]
    async fn agent_lines_are_printed_but_not_counted() {
        let (counts, printed) = read_all(b"tailrace at=drain-refused status=401\ntailrace\n").await;
        assert_eq!((counts.lines, counts.text), (1, digest(&["tailrace"])));
        assert_eq!(printed.len(), 2);
    }

    /// What became of output with a marker.
    struct Marked {
        counts: OutputCounts,
        /// Messages that the platform's drain accepted.
        platform_messages: u64,
        printed: Vec<String>,
    }

    /// Reads output that arrives in parts.
    async fn read_marked(parts: &[&str]) -> Marked {
        let (console, mut texts) = captured();
        let logplex = Arc::new(Logplex::default());
        let sinks = OutputSinks { logplex: Some(Arc::clone(&logplex)), ..sinks(console) };
        let (mut writer, reader) = tokio::io::duplex(1 << 10);
        let task = tokio::spawn(read(reader, 256, Some("<mark>\n"), sinks));
        for part in parts {
            writer.write_all(part.as_bytes()).await.expect("is read");
            tokio::task::yield_now().await;
        }
        drop(writer);
        let counts = task.await.expect("ends");
        let mut printed = Vec::new();
        while let Ok(text) = texts.try_recv() {
            printed.extend(text.lines().map(|line| line[45..].to_owned()));
        }
        let platform_messages = logplex.message_counts().get("web.1").map_or(0, |counts| counts.app);
        Marked { counts, platform_messages, printed }
    }

    #[tokio::test]
    async fn lines_before_the_marker_are_counted_as_early() {
        for (parts, early, late) in [
            (&["<mark>\none\n"][..], &[][..], &["one"][..]),
            (&["a\nb\n<mark>\none\n"], &["a", "b"], &["one"]),
            (&["a\n<ma", "rk>", "\none\n"], &["a"], &["one"]),
            (&["<<mark", ">\n"], &["<"], &[]),
            (&["half<mark>\n", "one"], &["half"], &["one"]),
            // The marker is missing.
            (&["a\n<mar", "k\n"], &[], &["a", "<mark"]),
        ] {
            let Marked { counts, platform_messages, printed } = read_marked(parts).await;
            assert_eq!((counts.early, counts.lines), (early.len() as u64, late.len() as u64), "{parts:?}");
            assert_eq!(counts.text, digest(late), "{parts:?}");
            assert_eq!(printed, [early, late].concat(), "{parts:?}");
            // The platform's drain does not split lines at the marker.
            let joined = u64::from(parts[0].starts_with("half"));
            assert_eq!(platform_messages, printed.len() as u64 - joined, "{parts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_within_a_line_counts_once() {
        let (console, _texts) = captured();
        let (mut writer, reader) = tokio::io::duplex(64);
        let task = tokio::spawn(read(reader, 256, None, sinks(console)));
        for part in ["whole\n", "half", " line\n"] {
            writer.write_all(part.as_bytes()).await.expect("is read");
            tokio::time::sleep(STALL_AFTER * 5).await;
        }
        drop(writer);
        let counts = task.await.expect("ends");
        assert_eq!((counts.lines, counts.frames, counts.stalls), (2, 2, 1));
    }
}
