//! Output of the simulation: the log stream in the format of `heroku logs --tail`, then the report. A thread writes it,
//! so that a blocked terminal delays the dynos' output, but never the handling of Ctrl-C.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use tailrace::frame::Timestamp;
use tokio::sync::{mpsc, oneshot};

/// Texts that may wait for the terminal.
const QUEUE_LENGTH: usize = 256;
/// ANSI colours (ECMA-48 section 8.3.117, and the bright ones), in the order in which `heroku logs` assigns them.
const COLOURS: [&str; 10] = [
    "\x1b[33m", "\x1b[32m", "\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[95m", "\x1b[93m",
    "\x1b[92m", "\x1b[94m",
];
/// Names with a fixed colour (heroku/cli 11.10, `src/lib/run/colorize.ts`).
const PREASSIGNED: [&str; 5] = ["run", "router", "web", "postgres", "heroku-postgres"];
const RESET: &str = "\x1b[0m";

/// The source of a log line: `app[web.1]`, `heroku[router]`, `tailrace[web.1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// `app`, `heroku`, or `tailrace` for the agent's lines that the drain received.
    pub app: &'a str,
    /// A dyno, or a part of the platform.
    pub proc_id: &'a str,
}

impl<'a> Source<'a> {
    /// The app in a dyno.
    pub fn app(proc_id: &'a str) -> Self {
        Self { app: "app", proc_id }
    }

    /// The platform.
    pub fn platform(proc_id: &'a str) -> Self {
        Self { app: "heroku", proc_id }
    }
}

/// Assigns colours to process types in order of appearance, as `heroku logs` does.
#[derive(Debug)]
struct Palette(Vec<String>);

impl Palette {
    fn new() -> Self {
        Self(PREASSIGNED.map(str::to_owned).to_vec())
    }

    fn colour(&mut self, proc_id: &str) -> &'static str {
        let name = proc_id.split('.').next().unwrap_or_default();
        let index = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        COLOURS[index % COLOURS.len()]
    }
}

/// Where a console writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Prints texts on a thread of its own; clones share the thread.
#[derive(Clone, Debug)]
pub struct Console {
    sender: mpsc::Sender<String>,
    palette: Option<Arc<Mutex<Palette>>>,
}

/// Resolves, with an error, when every [`Console`] has been dropped and all texts have been written.
pub type Flushed = oneshot::Receiver<()>;

impl Console {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(stream: OutputStream) -> io::Result<(Self, Flushed)> {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = match stream {
            OutputStream::Stdout => io::stdout().is_terminal(),
            OutputStream::Stderr => io::stderr().is_terminal(),
        };
        let (sender, mut texts) = mpsc::channel::<String>(QUEUE_LENGTH);
        let (flushing, flushed) = oneshot::channel();
        std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            while let Some(text) = texts.blocking_recv() {
                let written = match stream {
                    OutputStream::Stdout => {
                        io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
                    }
                    OutputStream::Stderr => io::stderr().write_all(text.as_bytes()),
                };
                if written.is_err() {
                    break; // closes the channel: see `closed`
                }
            }
            drop(flushing);
        })?;
        let palette = if is_terminal && !no_colour { Some(Palette::new()) } else { None };
        Ok((Self::new(sender, palette), flushed))
    }

    fn new(sender: mpsc::Sender<String>, palette: Option<Palette>) -> Self {
        Self { sender, palette: palette.map(|palette| Arc::new(Mutex::new(palette))) }
    }

    /// Prints a text as it is.
    pub async fn print(&self, text: String) {
        self.sender.send(text).await.ok(); // fails when the stream is closed: see `closed`
    }

    /// Prints a log line with the current time.
    pub async fn print_log_line(&self, source: Source<'_>, message: &str) {
        let mut text = String::new();
        self.append_log_line(&mut text, source, message);
        self.print(text).await;
    }

    /// Prints a log line with the current time, unless the queue is full.
    pub fn try_print_log_line(&self, source: Source<'_>, message: &str) {
        let mut text = String::new();
        self.append_log_line(&mut text, source, message);
        self.sender.try_send(text).ok(); // dropped when the queue is full
    }

    /// Appends a log line with the current time to a text.
    pub fn append_log_line(&self, text: &mut String, source: Source<'_>, message: &str) {
        let time = Timestamp::from_micros(Timestamp::now().as_micros());
        let Source { app, proc_id } = source;
        let colour =
            |palette: &Mutex<Palette>| palette.lock().unwrap_or_else(PoisonError::into_inner).colour(proc_id);
        let (on, off) = self.palette.as_deref().map_or(("", ""), |palette| (colour(palette), RESET));
        writeln!(text, "{on}{time} {app}[{proc_id}]:{off} {message}").ok(); // writing to a String cannot fail
    }

    /// Resolves when the stream is closed at its other end, and printing has stopped.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A console without colours whose output is returned by the receiver.
    pub(crate) fn captured() -> (Console, mpsc::Receiver<String>) {
        captured_with(None)
    }

    fn captured_with(palette: Option<Palette>) -> (Console, mpsc::Receiver<String>) {
        let (sender, texts) = mpsc::channel(1 << 10);
        (Console::new(sender, palette), texts)
    }

    #[tokio::test]
    async fn log_lines_have_the_format_of_heroku_logs() {
        let (console, mut texts) = captured();
        console.print_log_line(Source::app("web.1"), "hello").await;
        console.print_log_line(Source::platform("router"), "at=info").await;
        let text = texts.recv().await.expect("was printed");
        let (time, rest) = text.split_at(32);
        assert_eq!(rest, " app[web.1]: hello\n");
        assert!(time.ends_with("+00:00") && time.as_bytes()[10] == b'T', "{time}");
        let text = texts.recv().await.expect("was printed");
        assert_eq!(&text[32..], " heroku[router]: at=info\n");
    }

    #[tokio::test]
    async fn colour_ends_before_the_message() {
        let (console, mut texts) = captured_with(Some(Palette::new()));
        console.print_log_line(Source::platform("web.1"), "State changed").await;
        let text = texts.recv().await.expect("was printed");
        assert!(
            text.starts_with("\x1b[") && text.ends_with(" heroku[web.1]:\x1b[0m State changed\n"),
            "{text:?}"
        );
    }

    #[test]
    fn each_process_type_has_its_own_colour() {
        let mut palette = Palette::new();
        let names = ["worker.1", "web.1", "router", "run.4711", "clock.1", "api", "web.2", "mailer.1"];
        let colours: Vec<&str> = names.iter().map(|name| palette.colour(name)).collect();
        assert_eq!((colours[1], colours[2], colours[3]), (COLOURS[2], COLOURS[1], COLOURS[0]));
        assert_eq!(colours[6], colours[1], "all web dynos have the same colour");
        let distinct: BTreeSet<&str> = colours.iter().copied().collect();
        assert_eq!(distinct.len(), names.len() - 1, "{colours:?}");
        assert_eq!(palette.colour("worker.7"), colours[0]);
    }
}
