//! What the dyno prints: shown line by line, and counted as the agent counts.

use crate::account::Printed;
use crate::logplex::{Cutter, Logplex};
use crate::screen::{Screen, Source};
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

/// Who gets what a dyno prints.
#[derive(Clone, Debug)]
pub struct Readers {
    /// The dyno.
    pub dyno: String,
    /// People; nobody for a dyno that only runs to compare with.
    pub screen: Option<Screen>,
    /// The platform's own drain.
    pub logplex: Option<Arc<Logplex>>,
}

/// Reads one stream of the dyno to its end. `max_line` is `TAILRACE_MAX_LINE`.
pub async fn read(mut pipe: impl AsyncRead + Unpin, max_line: usize, readers: Readers) -> Printed {
    let mut splitter = Splitter::new(max_line);
    let mut cutter = Cutter::default();
    let mut printed = Printed::default();
    let mut buffer = vec![0; BUFFER];
    let mut stands = false;
    loop {
        let got = match timeout(STILL, pipe.read(&mut buffer)).await {
            Err(_) => {
                printed.stalls += u64::from(splitter.mid_line() && !stands);
                stands = true;
                continue;
            }
            Ok(got) => got.unwrap_or(0),
        };
        stands = false;
        let mut text = String::new();
        let mut take = |message: &[u8], piece| {
            let shown = String::from_utf8_lossy(message);
            if let Some(screen) = readers.screen.as_ref().filter(|_| piece != Piece::Void) {
                screen.append(&mut text, Source::app(&readers.dyno), &shown);
            }
            if piece != Piece::Whole || !message.starts_with(OWN) {
                printed.lines += u64::from(piece != Piece::Part);
                if piece != Piece::Void {
                    printed.frames += 1;
                    printed.text.add(&shown);
                }
            }
        };
        if let Some(logplex) = &readers.logplex {
            cutter.push(&buffer[..got], got == 0, |line| logplex.app(&readers.dyno, line));
        }
        if got == 0 {
            splitter.finish(&mut take);
        } else {
            splitter.push(&buffer[..got], &mut take);
        }
        if let Some(screen) = readers.screen.as_ref().filter(|_| !text.is_empty()) {
            screen.text(text).await;
        }
        if got == 0 {
            return printed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Digest;
    use crate::screen::tests::blank;
    use tokio::io::AsyncWriteExt as _;

    fn readers(screen: Screen) -> Readers {
        Readers { dyno: "web.1".to_owned(), screen: Some(screen), logplex: None }
    }

    /// What is counted and what is shown, without stamps.
    async fn counted(bytes: &[u8]) -> (Printed, Vec<String>) {
        let (screen, mut texts) = blank(false);
        let printed = read(bytes, 256, readers(screen)).await;
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
        assert_eq!(printed, Printed { lines: 4, frames: 6, stalls: 0, text: expected });
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[0], " app[web.1]: one");
    }

    #[tokio::test]
    async fn lines_of_the_agent_are_shown_but_not_counted() {
        let (printed, shown) = counted(b"tailrace at=drain-refused status=401\ntailrace\n").await;
        assert_eq!((printed.lines, printed.text), (1, text(&["tailrace"])));
        assert_eq!(shown.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_stands_still_is_noted_once() {
        let (screen, _texts) = blank(false);
        let (mut writer, reader) = tokio::io::duplex(64);
        let task = tokio::spawn(read(reader, 256, readers(screen)));
        for part in ["whole\n", "half", " line\n"] {
            writer.write_all(part.as_bytes()).await.expect("is read");
            tokio::time::sleep(STILL * 5).await;
        }
        drop(writer);
        let printed = task.await.expect("ends");
        assert_eq!((printed.lines, printed.frames, printed.stalls), (2, 2, 1));
    }
}
