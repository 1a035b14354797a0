//! What the simulation prints: the stream as `heroku logs --tail` prints it, then the report. A thread writes, so that
//! a terminal that stands still stops the dyno's output, but never a Ctrl-C.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use tailrace::frame::{StampText, now_micros};
use tokio::sync::{mpsc, oneshot};

/// Texts that wait for the terminal.
const ROOM: usize = 256;
/// ANSI colours (ECMA-48 section 8.3.117, and the bright ones), in the order in which `heroku logs` gives its own.
const COLOURS: [&str; 10] = [
    "\x1b[33m", "\x1b[32m", "\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[95m", "\x1b[93m",
    "\x1b[92m", "\x1b[94m",
];
/// Who has one before anybody speaks (heroku/cli 11.10, `src/lib/run/colorize.ts`).
const KNOWN: [&str; 5] = ["run", "router", "web", "postgres", "heroku-postgres"];
const PLAIN: &str = "\x1b[0m";

/// Who speaks: `app[web.1]`, `heroku[router]`, `tailrace[web.1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// `app`, `heroku`, or `tailrace` for what the agent says at the drain.
    pub app: &'a str,
    /// A dyno, or a part of the platform.
    pub proc_id: &'a str,
}

impl<'a> Source<'a> {
    /// A dyno's app.
    pub fn app(proc_id: &'a str) -> Self {
        Self { app: "app", proc_id }
    }

    /// The platform.
    pub fn platform(proc_id: &'a str) -> Self {
        Self { app: "heroku", proc_id }
    }
}

/// A colour for each process type in the order in which they are seen, as `heroku logs` has it.
#[derive(Debug)]
struct Palette(Vec<String>);

impl Palette {
    fn new() -> Self {
        Self(KNOWN.map(str::to_owned).to_vec())
    }

    fn colour(&mut self, proc_id: &str) -> &'static str {
        let name = proc_id.split('.').next().unwrap_or_default();
        let at = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        COLOURS[at % COLOURS.len()]
    }
}

/// Where it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Takes texts; clones share the thread.
#[derive(Clone, Debug)]
pub struct Console {
    sender: mpsc::Sender<String>,
    palette: Option<Arc<Mutex<Palette>>>,
}

/// Resolves when everything is written and every [`Console`] is gone.
pub type Written = oneshot::Receiver<()>;

impl Console {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(target: Target) -> io::Result<(Self, Written)> {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_terminal = match target {
            Target::Out => io::stdout().is_terminal(),
            Target::Err => io::stderr().is_terminal(),
        };
        let (sender, mut texts) = mpsc::channel::<String>(ROOM);
        let (written, done) = oneshot::channel();
        std::thread::Builder::new().name("screen".to_owned()).spawn(move || {
            while let Some(text) = texts.blocking_recv() {
                let put = match target {
                    Target::Out => {
                        io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
                    }
                    Target::Err => io::stderr().write_all(text.as_bytes()),
                };
                if put.is_err() {
                    break; // nobody reads: `gone` tells
                }
            }
            drop(written);
        })?;
        Ok((Self::of(sender, is_terminal && !no_colour), done))
    }

    fn of(sender: mpsc::Sender<String>, has_colour: bool) -> Self {
        Self { sender, palette: has_colour.then(|| Arc::new(Mutex::new(Palette::new()))) }
    }

    /// Prints text as it is.
    pub async fn text(&self, text: String) {
        drop(self.sender.send(text).await); // nobody reads: `gone` tells
    }

    /// Prints a line of the stream, stamped now.
    pub async fn line(&self, source: Source<'_>, message: &str) {
        let mut text = String::new();
        self.append(&mut text, source, message);
        self.text(text).await;
    }

    /// Prints a line of the stream, stamped now, when there is room for it at once.
    pub fn try_line(&self, source: Source<'_>, message: &str) {
        let mut text = String::new();
        self.append(&mut text, source, message);
        drop(self.sender.try_send(text));
    }

    /// Appends a line of the stream, stamped now.
    pub fn append(&self, text: &mut String, source: Source<'_>, message: &str) {
        let stamp = StampText::of(now_micros());
        let Source { app, proc_id } = source;
        let colour =
            |palette: &Mutex<Palette>| palette.lock().unwrap_or_else(PoisonError::into_inner).colour(proc_id);
        let (on, off) = self.palette.as_deref().map_or(("", ""), |palette| (colour(palette), PLAIN));
        let _infallible = writeln!(text, "{on}{stamp} {app}[{proc_id}]:{off} {message}");
    }

    /// Resolves when nobody reads what is printed.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A screen that nobody looks at, and what was put on it.
    pub(crate) fn blank(has_colour: bool) -> (Console, mpsc::Receiver<String>) {
        let (sender, texts) = mpsc::channel(1 << 10);
        (Console::of(sender, has_colour), texts)
    }

    #[tokio::test]
    async fn lines_look_as_heroku_prints_them() {
        let (screen, mut texts) = blank(false);
        screen.line(Source::app("web.1"), "hello").await;
        screen.line(Source::platform("router"), "at=info").await;
        let text = texts.recv().await.expect("was printed");
        let (stamp, rest) = text.split_at(32);
        assert_eq!(rest, " app[web.1]: hello\n");
        assert!(stamp.ends_with("+00:00") && stamp.as_bytes()[10] == b'T', "{stamp}");
        let text = texts.recv().await.expect("was printed");
        assert_eq!(&text[32..], " heroku[router]: at=info\n");
    }

    #[tokio::test]
    async fn colour_ends_before_the_message() {
        let (screen, mut texts) = blank(true);
        screen.line(Source::platform("web.1"), "State changed").await;
        let text = texts.recv().await.expect("was printed");
        assert!(
            text.starts_with("\x1b[") && text.ends_with(" heroku[web.1]:\x1b[0m State changed\n"),
            "{text:?}"
        );
    }

    #[test]
    fn every_process_type_has_a_colour_of_its_own() {
        let mut palette = Palette::new();
        let names = ["worker.1", "web.1", "router", "run.4711", "clock.1", "api", "web.2", "mailer.1"];
        let colours: Vec<&str> = names.iter().map(|name| palette.colour(name)).collect();
        assert_eq!((colours[1], colours[2], colours[3]), (COLOURS[2], COLOURS[1], COLOURS[0]));
        assert_eq!(colours[6], colours[1], "all web dynos have the same");
        let unlike: BTreeSet<&str> = colours.iter().copied().collect();
        assert_eq!(unlike.len(), names.len() - 1, "{colours:?}");
        assert_eq!(palette.colour("worker.7"), colours[0]);
    }
}
