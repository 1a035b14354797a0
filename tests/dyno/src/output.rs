//! What the dyno prints: shown line by line, and counted as the agent counts.

use crate::console::{Console, Source};
use crate::ledger::OutputCounts;
use crate::logplex::{LineCutter, Logplex};
use std::sync::Arc;
use std::time::Duration;
use tailrace::line::{Piece, Splitter};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Bytes per read.
const BUFFER: usize = 64 << 10;
/// A line that stands still for so long may fill a frame more: the agent sends what it has after 1 s.
const STILL: Duration = Duration::from_millis(500);
/// How the agent's own lines on standard error begin. They are no lines of the app.
const OWN: &[u8] = b"tailrace at=";

/// What a dyno's shell prints before its command begins. It ends with a mark, which nobody else sees.
#[derive(Debug)]
struct MarkerScanner<'a> {
    mark: &'a [u8],
    /// What may be the begin of the mark.
    kept: Vec<u8>,
}

impl MarkerScanner<'_> {
    /// Takes bytes; returns those before the mark, and those behind it once it is there.
    fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        self.kept.extend_from_slice(bytes);
        if let Some(at) = self.kept.windows(self.mark.len()).position(|part| part == self.mark) {
            let rest = self.kept.split_off(at + self.mark.len());
            self.kept.truncate(at);
            return (std::mem::take(&mut self.kept), Some(rest));
        }
        let begun = (1..self.mark.len()).rev().find(|length| self.kept.ends_with(&self.mark[..*length]));
        let rest = self.kept.split_off(self.kept.len() - begun.unwrap_or_default());
        (std::mem::replace(&mut self.kept, rest), None)
    }
}

/// Who gets what a dyno prints.
#[derive(Clone, Debug)]
pub struct OutputSinks {
    /// The dyno.
    pub dyno: String,
    /// People; nobody for a dyno that only runs to compare with.
    pub screen: Option<Console>,
    /// The platform's own drain.
    pub logplex: Option<Arc<Logplex>>,
}

/// Reads one stream of the dyno to its end. `max_line` is `TAILRACE_MAX_LINE`; `mark` ends what comes before the
/// command, if anything may.
pub async fn read(
    mut pipe: impl AsyncRead + Unpin,
    max_line: usize,
    mark: Option<&str>,
    readers: OutputSinks,
) -> OutputCounts {
    let mut preface = mark.map(|mark| MarkerScanner { mark: mark.as_bytes(), kept: Vec::new() });
    let mut reading = StreamCounter::new(max_line, &readers);
    let mut early = None;
    let mut buffer = vec![0; BUFFER];
    let mut stands = false;
    loop {
        let got = match timeout(STILL, pipe.read(&mut buffer)).await {
            Err(_) => {
                reading.printed.stalls += u64::from(reading.splitter.mid_line() && !stands);
                stands = true;
                continue;
            }
            Ok(got) => got.unwrap_or(0),
        };
        stands = false;
        match &mut preface {
            Some(open) if got > 0 => {
                let (before, behind) = open.push(&buffer[..got]);
                reading.take(&before);
                if let Some(behind) = behind {
                    preface = None;
                    early = Some(reading.begin().lines);
                    reading.take(&behind);
                }
            }
            Some(open) => reading.take(&std::mem::take(&mut open.kept)),
            None => reading.take(&buffer[..got]),
        }
        if got == 0 {
            reading.finish();
        }
        reading.show().await;
        if got == 0 {
            // Without the mark it cannot be told what came before the command.
            return OutputCounts { early: early.unwrap_or_default(), ..reading.printed };
        }
    }
}

/// One stream, as it is cut into lines.
struct StreamCounter<'a> {
    max_line: usize,
    readers: &'a OutputSinks,
    splitter: Splitter,
    cutter: LineCutter,
    printed: OutputCounts,
    /// What is to be shown.
    text: String,
}

impl<'a> StreamCounter<'a> {
    fn new(max_line: usize, readers: &'a OutputSinks) -> Self {
        Self {
            max_line,
            readers,
            splitter: Splitter::new(max_line),
            cutter: LineCutter::default(),
            printed: OutputCounts::default(),
            text: String::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let Self { readers, printed, text, .. } = self;
        self.splitter.push(bytes, &mut |message: &[u8], piece| count(readers, printed, text, message, piece));
        if let Some(logplex) = &self.readers.logplex {
            self.cutter.push(bytes, false, |line| logplex.app(&self.readers.dyno, line));
        }
    }

    fn finish(&mut self) {
        self.end_line();
        if let Some(logplex) = &self.readers.logplex {
            self.cutter.push(&[], true, |line| logplex.app(&self.readers.dyno, line));
        }
    }

    fn end_line(&mut self) {
        let Self { readers, printed, text, .. } = self;
        self.splitter.finish(&mut |message: &[u8], piece| count(readers, printed, text, message, piece));
    }

    /// The command begins: returns what was printed until now, and counts anew.
    fn begin(&mut self) -> OutputCounts {
        self.end_line();
        self.splitter = Splitter::new(self.max_line);
        std::mem::take(&mut self.printed)
    }

    async fn show(&mut self) {
        if let Some(screen) = self.readers.screen.as_ref().filter(|_| !self.text.is_empty()) {
            screen.text(std::mem::take(&mut self.text)).await;
        }
    }
}

/// Counts a message, and appends it to what is to be shown.
fn count(readers: &OutputSinks, printed: &mut OutputCounts, text: &mut String, message: &[u8], piece: Piece) {
    let shown = String::from_utf8_lossy(message);
    if let Some(screen) = readers.screen.as_ref().filter(|_| piece != Piece::Void) {
        screen.append(text, Source::app(&readers.dyno), &shown);
    }
    if piece != Piece::Whole || !message.starts_with(OWN) {
        printed.lines += u64::from(piece != Piece::Part);
        if piece != Piece::Void {
            printed.frames += 1;
            printed.text.add(&shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::blank;
    use crate::ledger::Digest;
    use tokio::io::AsyncWriteExt as _;

    fn readers(screen: Console) -> OutputSinks {
        OutputSinks { dyno: "web.1".to_owned(), screen: Some(screen), logplex: None }
    }

    /// What is counted and what is shown, without stamps.
    async fn counted(bytes: &[u8]) -> (OutputCounts, Vec<String>) {
        let (screen, mut texts) = blank(false);
        let printed = read(bytes, 256, None, readers(screen)).await;
        let mut shown = Vec::new();
        while let Ok(text) = texts.try_recv() {
            shown.extend(text.lines().map(|line| line[32..].to_owned()));
        }
        (printed, shown)
    }

    fn text(messages: &[&str]) -> Digest {
        let mut digest = Digest::default();
        for message in messages {
            digest.add(message);
        }
        digest
    }

    #[tokio::test]
    async fn lines_and_frames_are_counted() {
        let long = "x".repeat(600);
        let (printed, shown) = counted(format!("one\n\n{long}\nlast").as_bytes()).await;
        let expected = text(&["one", "", &long[..256], &long[..256], &long[..88], "last"]);
        assert_eq!(printed, OutputCounts { lines: 4, frames: 6, text: expected, ..OutputCounts::default() });
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[0], " app[web.1]: one");
    }

    #[tokio::test]
    async fn lines_of_the_agent_are_shown_but_not_counted() {
        let (printed, shown) = counted(b"tailrace at=drain-refused status=401\ntailrace\n").await;
        assert_eq!((printed.lines, printed.text), (1, text(&["tailrace"])));
        assert_eq!(shown.len(), 2);
    }

    /// What is counted, what the platform takes and what is shown of parts that come one after the other.
    async fn marked(parts: &[&str]) -> (OutputCounts, u64, Vec<String>) {
        let (screen, mut texts) = blank(false);
        let logplex = Arc::new(Logplex::default());
        let readers = OutputSinks { logplex: Some(Arc::clone(&logplex)), ..readers(screen) };
        let (mut writer, reader) = tokio::io::duplex(1 << 10);
        let task = tokio::spawn(read(reader, 256, Some("<mark>\n"), readers));
        for part in parts {
            writer.write_all(part.as_bytes()).await.expect("is read");
            tokio::task::yield_now().await;
        }
        drop(writer);
        let printed = task.await.expect("ends");
        let mut shown = Vec::new();
        while let Ok(text) = texts.try_recv() {
            shown.extend(text.lines().map(|line| line[45..].to_owned()));
        }
        (printed, logplex.taken().get("web.1").map_or(0, |taken| taken.app), shown)
    }

    #[tokio::test]
    async fn what_comes_before_the_command_is_told_apart() {
        for (parts, early, late) in [
            (&["<mark>\none\n"][..], &[][..], &["one"][..]),
            (&["a\nb\n<mark>\none\n"], &["a", "b"], &["one"]),
            (&["a\n<ma", "rk>", "\none\n"], &["a"], &["one"]),
            (&["<<mark", ">\n"], &["<"], &[]),
            (&["half<mark>\n", "one"], &["half"], &["one"]),
            // It never came: nobody knows.
            (&["a\n<mar", "k\n"], &[], &["a", "<mark"]),
        ] {
            let (printed, taken, shown) = marked(parts).await;
            assert_eq!((printed.early, printed.lines), (early.len() as u64, late.len() as u64), "{parts:?}");
            assert_eq!(printed.text, text(late), "{parts:?}");
            assert_eq!(shown, [early, late].concat(), "{parts:?}");
            // It knows of no command: what is half a line goes on.
            let half = u64::from(parts[0].starts_with("half"));
            assert_eq!(taken, shown.len() as u64 - half, "{parts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_stands_still_is_noted_once() {
        let (screen, _texts) = blank(false);
        let (mut writer, reader) = tokio::io::duplex(64);
        let task = tokio::spawn(read(reader, 256, None, readers(screen)));
        for part in ["whole\n", "half", " line\n"] {
            writer.write_all(part.as_bytes()).await.expect("is read");
            tokio::time::sleep(STILL * 5).await;
        }
        drop(writer);
        let printed = task.await.expect("ends");
        assert_eq!((printed.lines, printed.frames, printed.stalls), (2, 2, 1));
    }
}
