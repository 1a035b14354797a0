//! One simulation from its start to its end.

use crate::account::{Digest, Ledger, Printed};
use crate::args::Args;
use crate::dyno::Dyno;
use crate::environment::{self, Site};
use crate::report::Outcome;
use crate::router::{Requests, Router};
use crate::screen::{Screen, Source};
use crate::verdict::{Ending, Evidence};
use crate::{output, port, procfile};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tailrace::config::Config;
use tailrace_drain::{Drain, Options};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What the platform grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What an app may take to listen on `$PORT` (R10; Dev Center, "Error codes").
    pub boot: Duration,
    /// What a dyno may take to end after SIGTERM (R12; Dev Center, "Dyno shutdown behavior").
    pub exit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { boot: Duration::from_mins(1), exit: Duration::from_secs(30) }
    }
}

/// How often it is looked whether the app listens.
const LOOK: Duration = Duration::from_millis(50);
/// What the pipes of a dyno without processes may take to end.
const REST: Duration = Duration::from_secs(5);

/// Why there is no simulation.
#[derive(Debug)]
pub enum Trouble {
    /// There is no Procfile.
    NoProcfile(PathBuf, io::Error),
    /// The Procfile has no `web` entry.
    NoWeb(PathBuf),
    /// A program that is needed is missing.
    NoProgram(PathBuf),
    /// The system refuses something.
    System(&'static str, io::Error),
}

impl Trouble {
    /// The exit status for it: `EX_USAGE`, `EX_UNAVAILABLE` of sysexits(3).
    pub fn status(&self) -> u8 {
        match self {
            Self::NoProcfile(..) | Self::NoWeb(_) => 64,
            Self::NoProgram(_) | Self::System(..) => 69,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcfile(path, error) => {
                write!(f, "{}: {error}: --app expects a directory with a Procfile", path.display())
            }
            Self::NoWeb(path) => {
                write!(f, "{}: no web entry, such as \"web: node web.js\"", path.display())
            }
            Self::NoProgram(path) => {
                write!(f, "{}: not there: build it, or name it with --agent", path.display())
            }
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Trouble {}

fn step<T>(what: &'static str, result: io::Result<T>) -> Result<T, Trouble> {
    result.map_err(|error| Trouble::System(what, error))
}

/// All that a dyno needs; gone without a trace when dropped.
struct Stage {
    // Dropped in this order: who writes into the directory first.
    dyno: Dyno,
    drain: Drain,
    temporary: TempDir,
    port: u16,
    screen: Screen,
    outputs: [JoinHandle<Printed>; 2],
    arrived: Arc<Mutex<Digest>>,
    has_passthrough: bool,
    limits: Limits,
}

/// Runs the app until its time is up, it ends by itself, or `stop` says so.
///
/// # Errors
/// [`Trouble`] when it cannot begin.
pub async fn simulate(
    args: &Args,
    limits: Limits,
    screen: Screen,
    mut stop: watch::Receiver<u32>,
) -> Result<Outcome, Trouble> {
    let begun = Instant::now();
    let app = step("cannot find the app", std::path::absolute(&args.app))?;
    let path = app.join("Procfile");
    let text = std::fs::read_to_string(&path).map_err(|error| Trouble::NoProcfile(path.clone(), error))?;
    let command = procfile::command(&text, "web").ok_or(Trouble::NoWeb(path))?;
    let mut stage = Stage::set(args, limits, &app, command, screen).await?;
    let mut router = Router::new(stage.port, &environment::app_name(&app), stage.screen.clone());
    let ending = stage.play(args.run_for, &mut router, &mut stop).await;
    Ok(stage.strike(ending, router.finish().await, begun).await)
}

impl Stage {
    async fn set(
        args: &Args,
        limits: Limits,
        app: &Path,
        command: &str,
        screen: Screen,
    ) -> Result<Self, Trouble> {
        if !args.slug && !args.agent.is_file() {
            return Err(Trouble::NoProgram(args.agent.clone()));
        }
        let agent = step("cannot find the agent", std::path::absolute(&args.agent))?;
        let agent = (!args.slug).then_some(agent.as_path());
        let path: io::Result<Vec<PathBuf>> = args.path.iter().map(std::path::absolute).collect();
        let temporary = step("cannot make a directory", TempDir::with_prefix("tailrace-dyno-"))?;
        let tmp = temporary.path().join("tmp");
        step("cannot make a directory", std::fs::create_dir(&tmp))?;
        let arrived = Arc::new(Mutex::new(Digest::default()));
        let drain = step("cannot start the drain", start_drain(temporary.path(), &arrived, &screen))?;
        let port = step("cannot find a port", port::free())?;
        let site = Site {
            app,
            tmp: &tmp,
            port,
            path: &step("cannot find a directory of --path", path)?,
            drain_url: &drain.url(),
            ca_file: drain.ca_file(),
            ledger_file: &ledger_file(&temporary),
        };
        let vars = environment::environment(&site, std::env::vars_os());
        let (config, _for_the_agent_to_tell) = Config::from_env(vars.clone());
        let shown = command.replace("$PORT", &port.to_string());
        screen.line(Source::Platform, &format!("Starting process with command `{shown}`")).await;
        let (dyno, out, err) = step("cannot start the dyno", Dyno::start(agent, command, app, vars))?;
        let outputs = [
            tokio::spawn(output::read(out, config.max_line, screen.clone())),
            tokio::spawn(output::read(err, config.max_line, screen.clone())),
        ];
        let has_passthrough = config.passthrough;
        Ok(Self { dyno, drain, temporary, port, screen, outputs, arrived, has_passthrough, limits })
    }

    async fn say(&self, message: &str) {
        self.screen.line(Source::Platform, message).await;
    }

    /// From the start to the end of the dyno.
    async fn play(
        &mut self,
        run_for: Option<Duration>,
        router: &mut Router,
        stop: &mut watch::Receiver<u32>,
    ) -> Ending {
        let (port, screen) = (self.port, self.screen.clone());
        let stopped = async {
            tokio::select! {
                _ = stop.changed() => {}
                () = screen.gone() => {}
            }
        };
        tokio::pin!(stopped);
        tokio::select! {
            status = self.dyno.exited() => return self.crashed("starting", Ending::Died(status)).await,
            () = listening(port) => {}
            () = sleep(self.limits.boot) => {
                self.say(
                    "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch",
                ).await;
                self.say("Stopping process with SIGKILL").await;
                return self.crashed("starting", Ending::BootTimeout).await;
            }
            () = &mut stopped => return self.stop().await,
        }
        self.say("State changed from starting to up").await;
        tokio::select! {
            status = self.dyno.exited() => return self.crashed("up", Ending::Exited(status)).await,
            () = router.run() => {}
            () = sleep(run_for.unwrap_or(Duration::MAX)) => {}
            () = &mut stopped => {}
        }
        self.stop().await
    }

    /// The dyno went down in this state: all of it goes.
    async fn crashed(&mut self, state: &str, ending: Ending) -> Ending {
        self.dyno.kill();
        self.end_of_output().await;
        self.say(&format!("Process exited with status {}", ending.status())).await;
        self.say(&format!("State changed from {state} to crashed")).await;
        ending
    }

    /// Stops the dyno as the platform does.
    async fn stop(&mut self) -> Ending {
        self.say("Stopping all processes with SIGTERM").await;
        self.dyno.terminate();
        let ending = if let Ok(status) = timeout(self.limits.exit, self.dyno.empty()).await {
            Ending::Stopped(status)
        } else {
            self.say(
                "Error R12 (Exit timeout) -> At least one process failed to exit within 30 seconds of SIGTERM",
            )
            .await;
            self.say("Stopping remaining processes with SIGKILL").await;
            self.dyno.kill();
            Ending::ExitTimeout
        };
        self.end_of_output().await;
        self.say(&format!("Process exited with status {}", ending.status())).await;
        ending
    }

    /// Waits until what the dyno printed last is on the screen.
    async fn end_of_output(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < REST && !self.outputs.iter().all(JoinHandle::is_finished) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Collects the evidence, and takes all away.
    async fn strike(self, ending: Ending, requests: Requests, begun: Instant) -> Outcome {
        let Self { dyno, drain, temporary, outputs, arrived, has_passthrough, screen, .. } = self;
        drop(dyno);
        let mut printed = Some(Printed::default());
        for output in outputs {
            output.abort(); // no-op when it has ended
            let one = output.await.ok();
            printed = printed.zip(one).map(|(all, one)| all.and(one));
        }
        let evidence = Evidence {
            ending,
            ledger: read_ledger(&ledger_file(&temporary)),
            drain: drain.report(),
            arrived: *arrived.lock().unwrap_or_else(PoisonError::into_inner),
            printed: printed.filter(|_| has_passthrough),
        };
        drop(screen);
        Outcome { evidence, requests, took: begun.elapsed() }
    }
}

fn ledger_file(temporary: &TempDir) -> PathBuf {
    temporary.path().join("ledger.json")
}

fn start_drain(dir: &Path, arrived: &Arc<Mutex<Digest>>, screen: &Screen) -> io::Result<Drain> {
    let (arrived, screen) = (Arc::clone(arrived), screen.clone());
    Drain::start(Options {
        dir: Some(dir.to_owned()),
        keep: 1, // `sink` gets nothing when nothing is kept
        sink: Box::new(move |lines| {
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            for line in lines.iter().filter(|line| line.is_app) {
                arrived.add(&line.message);
            }
            drop(arrived);
            for line in lines.iter().filter(|line| !line.is_app) {
                screen.try_line(Source::Agent, &line.message);
            }
        }),
        ..Options::default()
    })
}

fn read_ledger(path: &Path) -> Result<Ledger, String> {
    let text = std::fs::read_to_string(path).map_err(|_| "the agent wrote none".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("what the agent wrote is none: {error}"))
}

/// Waits until somebody listens.
async fn listening(port: u16) {
    while !port::is_taken(port) {
        sleep(LOOK).await;
    }
}
