//! The running service: starts, watches and stops the replication of all configured databases.
//!
//! Owns the order of starting and stopping, the child process and the exit code. When to do what is decided in
//! [`lifecycle`], purely; what comes from outside enters through the traits of [`outside`]. Must not copy or upload
//! anything itself (that is [`crate::sync`]).

mod command;
pub mod discover;
mod fleet;
mod identity;
pub mod lifecycle;
mod once;
pub mod outside;
pub mod process;
mod restore;
mod watch;

use crate::bucket::Opener;
use crate::bucket::web::Proxies;
use crate::config::{self, Config, Directory, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BoxFuture, Host};
use crate::observe::{Board, Heartbeat, Server};

use command::Command;
use fleet::Fleet;
use lifecycle::{Action, Event, Lifecycle};
pub use once::Once;
use outside::{Child, ChildExit, Launch, Signal, Signals};
use watch::Watched;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to replicate, and everything around it.
    pub config: Config,
    /// Replicate what there is, then end.
    pub once: Option<Once>,
}

/// What reaches the daemon from outside.
pub struct Outside<'a> {
    /// Requests to stop.
    pub signals: &'a mut dyn Signals,
    /// Starts the child process.
    pub launch: &'a dyn Launch,
}

/// Runs until the work is done, the child exits, or a signal asks for a stop. Returns the exit code of the process.
///
/// # Errors
/// What keeps the service from starting: a configuration that must not be used, a restore that failed, a child that
/// cannot be started.
pub async fn run(host: Host, opener: Opener, options: Options, outside: Outside<'_>) -> Result<u8> {
    let mut daemon = Daemon::new(host, opener, options)?;
    let Outside { signals, launch } = outside;
    let started = tokio::select! {
        biased;
        signal = signals.next() => Err(signal),
        started = daemon.start(launch) => Ok(started),
    };
    match started {
        Ok(Ok(())) => {}
        // Nothing may be left half-started: what already runs ends with a final sync.
        Ok(Err(error)) => {
            daemon.finish(signals).await;
            return Err(error);
        }
        Err(signal) => {
            tracing::info!(?signal, "signal received during the start, shutting down");
            let action = daemon.lifecycle.on(Event::Signal(signal));
            debug_assert_eq!(action, Action::Stop, "there is no child yet");
            daemon.fleet.break_off_start();
            return Ok(daemon.finish(signals).await);
        }
    }
    daemon.serve(signals).await
}

struct Daemon {
    host: Host,
    opener: Opener,
    options: Options,
    board: Board,
    fleet: Fleet,
    watched: Vec<Watched>,
    lifecycle: Lifecycle,
    child: Option<Box<dyn Child>>,
    /// The end of all replications has been noticed.
    all_ended: bool,
}

/// What woke the daemon.
enum Wake {
    Signal(Signal),
    ChildExited(std::io::Result<ChildExit>),
    Finished(Result<()>),
    AllEnded,
    Looked,
}

impl Daemon {
    fn new(host: Host, opener: Opener, options: Options) -> Result<Self> {
        let config = &options.config;
        config.check_writable()?;
        if options.once.is_some() && config.exec.is_some() {
            return Err(Error::new(ErrorKind::Usage, "cannot specify -once flag with -exec"));
        }
        let board = Board::default();
        let opener = opener.observed_by(board.operations());
        let fleet = Fleet::new(host.clone(), opener.clone(), board.clone());
        Ok(Self {
            host,
            opener,
            options,
            board,
            fleet,
            watched: Vec::new(),
            lifecycle: Lifecycle::default(),
            child: None,
            all_ended: false,
        })
    }

    /// Restores what is to be restored, starts everything, then the child.
    async fn start(&mut self, launch: &dyn Launch) -> Result<()> {
        let config = self.options.config.clone();
        let command = config.exec.as_deref().map(command::split).transpose()?;
        if config.databases.is_empty() {
            tracing::error!("no databases specified in configuration");
        }
        // Before anything else: an application would run for years without replication.
        for entry in &config.databases {
            let (path, replica) = match entry {
                Entry::Database(database) => (&database.options.db, &database.replica),
                Entry::Directory(directory) => (&directory.path, &directory.template.replica),
            };
            let named = |error: Error| error.context(format!("the replica of {}", path.display()));
            self.opener.check(&replica.settings).await.map_err(named)?;
        }
        for entry in &config.databases {
            if let Entry::Database(database) = entry
                && database.restore_if_absent
            {
                restore::if_absent(&self.host, &self.opener, database).await?;
            }
        }
        self.serve_metrics(&config).await;
        // Databases with an entry of their own first: a directory in which they lie does not start them again.
        let mut directories = Vec::new();
        for entry in config.databases {
            match entry {
                Entry::Database(database) => {
                    self.fleet.start(database).await;
                }
                Entry::Directory(directory) => directories.push(directory),
            }
        }
        for directory in directories {
            self.start_directory(directory).await?;
        }
        if let Some(Command { words, cut_at }) = command {
            if let Some(operator) = cut_at {
                tracing::warn!(
                    "no shell runs the exec command: `{operator}` and what follows it are left out; write \
                     sh -c '…' around it if you need them"
                );
            }
            let child = launch
                .launch(&words)
                .map_err(|error| Error::io(format!("cannot start exec command {:?}", words[0]), error))?;
            self.lifecycle.child_started();
            self.child = Some(child);
        }
        self.board.set_complete(self.watched.iter().all(Watched::is_complete));
        Ok(())
    }

    async fn start_directory(&mut self, directory: Directory) -> Result<()> {
        let mut found = watch::found(&self.host, &directory, &self.fleet).await?;
        tracing::info!(
            dir = %directory.path.display(), count = found.databases.len(), watch = directory.watch,
            "found databases in directory"
        );
        if !directory.watch
            && let Some((_, error)) = found.unreadable.pop()
        {
            // No later look would find what is in there.
            return Err(error);
        }
        if found.databases.is_empty() && !directory.watch {
            let message = format!(
                "no SQLite databases found in directory {} with pattern {:?}; watch: true waits for them",
                directory.path.display(),
                directory.pattern
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let is_watched = directory.watch;
        let mut watched = Watched::new(directory);
        watched.begin(found, &mut self.fleet).await;
        if is_watched {
            self.watched.push(watched);
        }
        Ok(())
    }

    /// Metrics and heartbeats. Without them replication goes on.
    async fn serve_metrics(&self, config: &Config) {
        if let Some(address) = &config.metrics_addr {
            match Server::bind(address, self.board.clone(), self.host.clone()).await {
                Ok(server) => {
                    tracing::info!(url = server.url(), "serving metrics on");
                    tokio::spawn(server.run());
                }
                Err(error) => tracing::error!(%error, "cannot start metrics server"),
            }
        }
        if let Some(heartbeat) = &config.heartbeat {
            match self.heartbeat(heartbeat) {
                Ok(heartbeat) => {
                    tokio::spawn(heartbeat.run());
                }
                Err(error) => tracing::error!(%error, "cannot send heartbeats"),
            }
        }
    }

    fn heartbeat(&self, settings: &config::Heartbeat) -> Result<Heartbeat> {
        let url = settings.url.parse();
        Ok(Heartbeat {
            url: url
                .map_err(|error| Error::with_source(ErrorKind::Usage, "heartbeat-url is not a URL", error))?,
            interval: settings.interval,
            board: self.board.clone(),
            clock: self.host.clock.clone(),
            dial: self.host.dial.clone(),
            // One that cannot be used may not be needed for this URL.
            proxies: self.opener.proxies().unwrap_or_else(|error| {
                tracing::warn!(%error, "heartbeats are sent without a proxy");
                Proxies::default()
            }),
        })
    }

    /// Waits for what happens, until it is time to stop.
    async fn serve(mut self, signals: &mut dyn Signals) -> Result<u8> {
        let mut work = self.options.once.map(|once| once.run(&self.fleet));
        let mut failure = None;
        loop {
            let event = match self.wake(signals, work.as_mut()).await {
                Wake::Looked => continue,
                Wake::Signal(signal) => {
                    // A hangup is for the child.
                    if self.child.is_none() || signal != Signal::Hangup {
                        tracing::info!(?signal, "signal received, shutting down");
                    }
                    Event::Signal(signal)
                }
                Wake::ChildExited(exit) => {
                    self.child = None;
                    let exit = exit.unwrap_or_else(|error| {
                        tracing::error!(%error, "cannot wait for exec process");
                        ChildExit::Code(1)
                    });
                    tracing::info!(?exit, "subprocess exited, shutting down");
                    Event::ChildExited(exit)
                }
                Wake::Finished(result) => {
                    work = None;
                    failure = result.err();
                    Event::Finished
                }
                Wake::AllEnded => {
                    self.all_ended = true;
                    tracing::error!(
                        "nothing is replicated any more: every replication has ended for good, and has told why"
                    );
                    Event::AllEnded
                }
            };
            match self.lifecycle.on(event) {
                Action::Continue => {}
                Action::Forward(signal) => self.forward(signal),
                Action::Stop => break,
                Action::Abort => {
                    tracing::warn!("second signal received, ending without a final sync");
                    // Nobody else will tell the child.
                    if let Event::Signal(signal) = event {
                        self.forward(signal);
                    }
                    return Ok(self.lifecycle.exit_code(false));
                }
            }
        }
        drop(work);
        let code = self.finish(signals).await;
        failure.map_or(Ok(code), Err)
    }

    fn forward(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        tracing::info!(?signal, "sending signal to exec process");
        if let Err(error) = child.signal(signal) {
            // It is just ending by itself, which is noticed next.
            tracing::warn!(%error, "cannot signal exec process");
        }
    }

    async fn wake(
        &mut self,
        signals: &mut dyn Signals,
        work: Option<&mut BoxFuture<'static, Result<()>>>,
    ) -> Wake {
        let looks = !self.watched.is_empty() || self.fleet.has_broken();
        let all_ended = self.fleet.all_ended();
        let child = async {
            match &mut self.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        let work = async {
            match work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        // Beside the others: a disk that hangs must not keep a signal from being heard. But an end that the look itself
        // brings about is none.
        let look = async {
            tokio::select! {
                biased;
                () = all_ended, if !self.all_ended => return Wake::AllEnded,
                () = tokio::time::sleep(watch::LOOK), if looks => {}
                else => std::future::pending().await,
            }
            self.fleet.retry_broken().await;
            for watched in &mut self.watched {
                watched.look(&self.host, &mut self.fleet).await;
            }
            self.board.set_complete(self.watched.iter().all(Watched::is_complete));
            Wake::Looked
        };
        tokio::select! {
            biased;
            signal = signals.next() => Wake::Signal(signal),
            exit = child => Wake::ChildExited(exit),
            result = work => Wake::Finished(result),
            wake = look => wake,
        }
    }

    /// The final sync of all, those included that came just now. A further signal cuts it short.
    async fn finish(self, signals: &mut dyn Signals) -> u8 {
        let Self { host, mut fleet, mut watched, mut lifecycle, .. } = self;
        let mut stop = std::pin::pin!(async {
            watch::last_look(&mut watched, &host, &mut fleet).await;
            fleet.stop().await
        });
        let in_sync = loop {
            tokio::select! {
                biased;
                in_sync = &mut stop => break in_sync,
                signal = signals.next() => {
                    if lifecycle.on(Event::Signal(signal)) == Action::Abort {
                        tracing::warn!("second signal received, final sync skipped");
                        break false;
                    }
                }
            }
        };
        tracing::info!(in_sync, "replicator shut down");
        lifecycle.exit_code(in_sync)
    }
}
