//! Bringing a target to life, and ending it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::catalogue::{Entry, Start, embedded_target, guise};
use super::{Target, from_environment};
use crate::server::{Dialect, Loopback, Secure, Server, Settings, system_clock};

/// Longest a server may take to start: a fresh machine installs packages first.
const START_TIMEOUT: Duration = Duration::from_secs(900);
/// Longest it may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A target that is running.
pub struct Running {
    /// How to reach it.
    pub target: Target,
    hold: Hold,
}

enum Hold {
    Nothing,
    Embedded(Loopback, #[expect(dead_code, reason = "it is there to end with this value")] Option<Secure>),
    Process(Box<Child>),
}

impl Running {
    /// The embedded server behind it, if it is one.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        match &self.hold {
            Hold::Embedded(loopback, _) => Some(loopback.server()),
            _ => None,
        }
    }

    /// Ends it: a process that was started gets SIGTERM and time to clean up.
    pub async fn stop(mut self) {
        self.hold.end();
        if let Hold::Process(child) = &mut self.hold {
            let _ = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await;
        }
    }
}

impl Hold {
    /// Asks a process to end; a script takes down with it what it started.
    fn end(&self) {
        if let Self::Process(child) = self
            && let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        {
            // SAFETY: the pid is that of our own child, which has not been waited for, so it cannot be another's.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a target. `scripts` is the folder that holds the scripts.
///
/// # Errors
/// A sentence saying what is missing; never a silent skip.
pub async fn start(entry: &Entry, scripts: &Path) -> Result<Running, String> {
    let mut running = match &entry.start {
        Start::Embedded(dialect) | Start::Secure(dialect) | Start::Provider(dialect) => {
            embedded(&entry.name, dialect, &entry.start).await?
        }
        Start::Script(script) => process(&entry.name, scripts.join(script)).await?,
        Start::Environment(prefix) => {
            Running { target: from_environment(&entry.name, prefix)?, hold: Hold::Nothing }
        }
    };
    running.target.quirks = entry.quirks.clone();
    Ok(running)
}

async fn embedded(name: &str, dialect: &str, start: &Start) -> Result<Running, String> {
    let dialect = Dialect::named(dialect).map_err(|error| error.to_string())?;
    let mut settings = Settings::new(system_clock());
    settings.dialect = dialect.clone();
    let loopback = Server::new(settings).start_loopback().await.map_err(|error| error.to_string())?;
    let mut target = embedded_target(name, &loopback.endpoint(), &dialect);
    if matches!(start, Start::Embedded(_)) {
        return Ok(Running { target, hold: Hold::Embedded(loopback, None) });
    }
    let secure = Secure::start(loopback.server().clone()).await.map_err(|error| error.to_string())?;
    if matches!(start, Start::Secure(_)) {
        target.endpoint = format!("{}{}", secure.endpoint(), dialect.path_prefix);
        target.ca_bundle = Some(secure.bundle());
    } else {
        target.guise = guise(&dialect, &secure);
    }
    Ok(Running { target, hold: Hold::Embedded(loopback, Some(secure)) })
}

async fn process(name: &str, script: PathBuf) -> Result<Running, String> {
    let failed = |why: String| format!("{name} does not run: {}: {why}", script.display());
    let mut child = Command::new(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().expect("stdout was asked for");
    let mut lines = BufReader::new(stdout).lines();
    // From here on it is told to end, whatever happens.
    let hold = Hold::Process(Box::new(child));
    let answers = tokio::time::timeout(START_TIMEOUT, read_answers(&mut lines)).await;
    let answers =
        answers.map_err(|_| failed(format!("not ready within {START_TIMEOUT:?}")))?.map_err(failed)?;
    // What it prints later must not fill the pipe and stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let get = |key: &str| answers.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let need = |key: &str| get(key).ok_or_else(|| failed(format!("it did not print {key}=…")));
    let mut target = Target::local(name, &need("ENDPOINT")?, &need("ACCESS_KEY")?, &need("SECRET_KEY")?);
    if let Some(region) = get("REGION") {
        target.region = region;
    }
    if let Some(bucket) = get("BUCKET") {
        target.bucket = bucket;
        target.create_bucket = false;
    }
    Ok(Running { target, hold })
}

async fn read_answers(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<Vec<(String, String)>, String> {
    let mut answers = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        if line == "READY" {
            return Ok(answers);
        }
        if let Some((key, value)) = line.split_once('=') {
            answers.push((key.to_owned(), value.to_owned()));
        }
    }
    Err("it ended before it was ready; what it said is above".to_owned())
}
