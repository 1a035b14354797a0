//! The shipper's runtime: one worker per drain, and the socket to the supervisor.

use super::control_stream::ControlStream;
use super::http::tls::Trust;
use super::http::{Client, Endpoint};
use super::worker::{BatchLimits, DrainWorker, KnownSegments, SpoolProgress, SupervisorGone, WorkerChannels};
use crate::config::{Config, DrainSettings};
use crate::confinement::Confinement;
use crate::ledger::{DrainIndex, Offset, SegmentStart};
use crate::protocol::{FailureKind, Message, ToShipper, ToSupervisor};
use crate::signals::pending::{self, StalePending};
use crate::spool::{Reader, SealedEnd, SpoolOwner, TakeoverState};
use rustls::ClientConfig;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the shipper sends a ping to the supervisor.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// And once delivery has a deadline: a shipper that hangs then is replaced soon.
const PING_INTERVAL_AT_END: Duration = Duration::from_millis(500);
/// How often a drain that cannot be set up is reported.
const SETUP_FAILURE_INTERVAL: Duration = Duration::from_mins(1);
/// How old a connection gets: a record that moved in DNS is noticed then.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// Threads for name lookups, and how long they are kept.
const MAX_LOOKUP_THREADS: usize = 2;
const LOOKUP_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Messages of all workers that wait for the socket.
const TO_SUPERVISOR_QUEUE: usize = 64;
/// Messages that wait for a worker. It has at most one request open, so this is never full.
const FROM_SUPERVISOR_QUEUE: usize = 4;

/// How the shipper ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// No more frames will come, and every drain has consumed all.
    Finished,
    /// The supervisor is gone without a word, and left this.
    SupervisorGone(TakeoverState),
}

/// Ships until the supervisor says that no more will come, or is gone. `control` is our end of its socket, `memory` the
/// memory file, `agent` the supervisor's id, `confinement` that of this process, when it is one of its own.
///
/// # Errors
/// When the runtime or the socket cannot be set up.
pub(crate) fn serve(
    config: &Config,
    control: StdStream,
    memory: Option<&File>,
    agent: &str,
    confinement: Option<&Confinement>,
) -> io::Result<Exit> {
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_LOOKUP_THREADS)
        .thread_keep_alive(LOOKUP_THREAD_KEEP_ALIVE)
        .build()?;
    let exit = runtime.block_on(async {
        let shipper = Shipper::new(config, control, memory, agent)?;
        shipper.run(confinement).await
    });
    runtime.shutdown_background(); // a lookup that hangs is not waited for
    exit
}

/// Tells the supervisor why there is no shipper: as a failure of each drain.
///
/// # Errors
/// When the supervisor cannot be reached either.
pub(crate) fn report_failure(config: &Config, mut control: StdStream, error: &io::Error) -> io::Result<()> {
    let mut bytes = Vec::new();
    for drain in DrainIndex::all(config.drains.len()) {
        let detail = format!("the shipper cannot work: {error}");
        let (kind, wait) = (FailureKind::Retry, Duration::ZERO);
        ToSupervisor::AttemptFailed { drain, status: 0, kind, wait, detail }.write(&mut bytes);
    }
    control.write_all(&bytes)
}

/// The task of one drain.
struct WorkerHandle {
    from_supervisor: mpsc::Sender<ToShipper>,
    /// None for a drain that cannot be set up: it reads no spool.
    known: Option<KnownSegments>,
}

struct Shipper {
    control: ControlStream,
    progress: watch::Sender<SpoolProgress>,
    to_supervisor: mpsc::Receiver<ToSupervisor>,
    workers: Vec<WorkerHandle>,
    tasks: JoinSet<()>,
    takeover: TakeoverState,
    stale_pending: StalePending,
    /// What is wrong with the CA bundles.
    ca_problems: Vec<String>,
}

impl Shipper {
    /// Starts the workers. To be called within the runtime.
    fn new(config: &Config, control: StdStream, memory: Option<&File>, agent: &str) -> io::Result<Self> {
        let (progress, progress_receiver) = watch::channel(SpoolProgress::default());
        let (sender, to_supervisor) = mpsc::channel(TO_SUPERVISOR_QUEUE);
        let tls = DrainTls::new(config);
        let mut shipper = Self {
            ca_problems: tls.as_ref().map_or_else(|_| Vec::new(), |tls| tls.problems.clone()),
            control: ControlStream::new(UnixStream::from_std(control)?),
            progress,
            to_supervisor,
            workers: Vec::new(),
            tasks: JoinSet::new(),
            takeover: TakeoverState::new(agent, &SpoolOwner::of(config).drains),
            stale_pending: StalePending::default(),
        };
        for (drain, settings) in DrainIndex::all(config.drains.len()).zip(&config.drains) {
            let reader = Reader::new(memory.map(File::try_clone).transpose()?);
            let limits = BatchLimits { batch_bytes: settings.batch_bytes, linger: config.batch_linger };
            let (from_supervisor, receiver) = mpsc::channel(FROM_SUPERVISOR_QUEUE);
            let channels = WorkerChannels {
                progress: progress_receiver.clone(),
                from_supervisor: receiver,
                to_supervisor: sender.clone(),
                known: KnownSegments::default(),
            };
            let known = channels.known.clone();
            let client = tls.as_ref().map_err(Clone::clone).and_then(|tls| client(config, settings, tls));
            let is_set_up = match client {
                Ok(client) => {
                    let worker = DrainWorker::new(drain, client, limits, reader, channels);
                    shipper.tasks.spawn(async move {
                        worker.run().await.ok(); // the main task sees by itself that the supervisor is gone
                    });
                    true
                }
                Err(detail) => {
                    shipper.tasks.spawn(report_setup_failure(drain, detail, channels));
                    false
                }
            };
            shipper.workers.push(WorkerHandle { from_supervisor, known: is_set_up.then_some(known) });
        }
        Ok(shipper)
    }

    /// Passes messages between supervisor and workers until either ends.
    async fn run(mut self, confinement: Option<&Confinement>) -> io::Result<Exit> {
        match self.pass_messages(confinement).await {
            Ok(result) => result.map(|()| Exit::Finished),
            Err(SupervisorGone) => Ok(Exit::SupervisorGone(self.takeover)),
        }
    }

    async fn pass_messages(
        &mut self,
        confinement: Option<&Confinement>,
    ) -> Result<io::Result<()>, SupervisorGone> {
        if let Some(confinement) = confinement {
            let how = confinement.description().to_owned();
            self.control.send(&ToSupervisor::Confined { how }).await?;
        }
        for detail in std::mem::take(&mut self.ca_problems) {
            self.control.send(&ToSupervisor::CaProblem { detail }).await?;
        }
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping_at_end = interval(PING_INTERVAL_AT_END);
        ping_at_end.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                filled = self.control.fill() => {
                    filled?;
                    while let Some(message) = self.control.decoder.take::<ToShipper>() {
                        match message {
                            Ok(message) => self.handle(message).await,
                            Err(error) => return Ok(Err(io::Error::other(error))),
                        }
                    }
                }
                Some(message) = self.to_supervisor.recv() => self.control.send(&message).await?,
                _ = ping_at_end.tick(), if self.is_ending() => self.control.send(&ToSupervisor::Ping).await?,
                _ = ping.tick() => {
                    if !self.is_ending() {
                        self.stale_pending.check();
                    }
                    self.control.send(&ToSupervisor::Ping).await?;
                    if confinement.is_some_and(Confinement::is_outdated) {
                        return Ok(Ok(())); // the supervisor starts another one at once
                    }
                }
                Some(_) = self.tasks.join_next() => {
                    if self.tasks.is_empty() {
                        while let Ok(message) = self.to_supervisor.try_recv() {
                            if self.control.send(&message).await.is_err() {
                                break;
                            }
                        }
                        return Ok(Ok(()));
                    }
                }
            }
        }
    }

    /// Whether delivery has a deadline.
    fn is_ending(&self) -> bool {
        self.progress.borrow().deadline.is_some()
    }

    async fn handle(&mut self, message: ToShipper) {
        self.note_for_takeover(&message);
        match message {
            ToShipper::Segment(segment) => self.add_segment(segment),
            ToShipper::LogEnd(log_end) => self.progress.send_modify(|progress| progress.log_end = log_end),
            ToShipper::Deadline(left) => {
                let deadline = Instant::now() + left;
                self.progress.send_modify(|progress| progress.deadline = Some(deadline));
            }
            ToShipper::ClearPendingSignals => pending::clear_pending(),
            ToShipper::EndOfLog => self.progress.send_modify(|progress| progress.is_finished = true),
            ToShipper::SealRange { drain, .. } | ToShipper::SealedBatch { drain, .. } => {
                if let Some(worker) = self.workers.get(drain.get()) {
                    worker.from_supervisor.send(message).await.ok(); // a worker that ended needs none
                }
            }
        }
    }

    /// Adds a segment for the workers that do not know it. They are woken by the log end that follows.
    fn add_segment(&self, segment: SegmentStart) {
        let known = self.workers.iter().filter_map(|worker| worker.known.as_ref());
        let known_to_all = known.map(KnownSegments::get).min().unwrap_or(Offset::MAX);
        self.progress.send_if_modified(|progress| {
            progress.segments.retain(|segment| segment.start >= known_to_all);
            progress.segments.push(segment);
            false
        });
    }

    /// Keeps what is needed to deliver the rest when the supervisor is gone.
    fn note_for_takeover(&mut self, message: &ToShipper) {
        match message {
            ToShipper::SealRange { drain, range } => self.takeover.set_cursor(*drain, range.cursor, None),
            ToShipper::SealedBatch { drain, batch } => {
                let (end, notice) = (batch.range.end, batch.notice.clone());
                let sealed = SealedEnd::without_losses(end, notice);
                self.takeover.set_cursor(*drain, batch.range.start, Some(sealed));
            }
            _ => {}
        }
    }
}

/// The task of a drain that cannot be set up: reports why, and again while it lasts.
async fn report_setup_failure(drain: DrainIndex, detail: String, mut channels: WorkerChannels) {
    loop {
        let message = ToSupervisor::AttemptFailed {
            drain,
            status: 0,
            kind: FailureKind::Hold,
            wait: SETUP_FAILURE_INTERVAL,
            detail: detail.clone(),
        };
        if channels.to_supervisor.send(message).await.is_err() {
            return;
        }
        let until = Instant::now() + SETUP_FAILURE_INTERVAL;
        while let Ok(message) = tokio::time::timeout_at(until, channels.from_supervisor.recv()).await {
            if message.is_none() {
                return;
            }
        }
    }
}

/// The TLS settings of all drains.
pub(crate) struct DrainTls {
    config: Arc<ClientConfig>,
    /// What is wrong with the CA bundles, in plain words. What can be read of them is trusted.
    pub(crate) problems: Vec<String>,
}

impl DrainTls {
    /// Reads the CA bundles.
    ///
    /// # Errors
    /// What is wrong, in plain words.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        // SSL_CERT_FILE is another program's setting: a file that is missing is not reported.
        let files = [
            ("TAILRACE_CA_FILE", config.ca_file.as_ref()),
            ("SSL_CERT_FILE", config.ssl_cert_file.as_ref().filter(|file| file.is_file())),
        ];
        let mut trust = Trust::built_in();
        let mut problems = Vec::new();
        for (name, file) in files.into_iter().filter_map(|(name, file)| Some((name, file?))) {
            let found = trust.add_bundle(file);
            let more = match found.len() {
                0 | 1 => String::new(),
                count => format!("; {} more entries cannot be used", count - 1),
            };
            problems.extend(found.first().map(|problem| format!("{name}: {problem}{more}")));
        }
        let config = trust.client_config().map_err(|error| error.to_string())?;
        Ok(Self { config, problems })
    }
}

/// The client for a drain; else what is wrong, in plain words.
pub(crate) fn client(config: &Config, drain: &DrainSettings, tls: &DrainTls) -> Result<Client, String> {
    Client::new(&endpoint(config, drain), Arc::clone(&tls.config)).map_err(|error| error.to_string())
}

fn endpoint(config: &Config, drain: &DrainSettings) -> Endpoint {
    Endpoint {
        host: drain.url.host().to_owned(),
        port: drain.url.port(),
        path_and_query: drain.url.path_and_query().to_owned(),
        authorization: drain.url.authorization(),
        tls: drain.url.is_tls(),
        headers: config.headers.clone(),
        token: drain.token.clone(),
        gzip: drain.gzip,
        request_timeout: config.request_timeout,
        max_connection_age: MAX_CONNECTION_AGE,
        proxy: config.proxy.clone(),
    }
}
