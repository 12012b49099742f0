//! Runs the checks: in a prefix of its own, below a ceiling, cleaned up behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::checks::{CHECKS, Check, Complaint};
use super::remedies::remedies;
use super::report::{Ceiling, Finding, Need, Outcome, Report};
use crate::bucket::observer::{RequestObserver, RequestReport, Verb};
use crate::bucket::settings::{RetrySettings, S3Settings, Secret, Settings};
use crate::bucket::{self, Bucket, Opener};
use crate::error::{ErrorKind, Result};
use crate::host::Host;

/// Longest a check may take, beside the time that its bytes need.
const PATIENCE: Duration = Duration::from_secs(90);
/// The slowest line that is waited for, in KiB per second. (Silence is bounded where the bytes move.)
const SLOWEST: u64 = 8;
/// Somebody is waiting: less patience than replication has.
const RETRY: RetrySettings = RetrySettings {
    attempts: 3,
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(3),
    patience: Duration::from_secs(10),
};
/// Other settings are tried for this many of the first checks; later ones build on them.
const CURABLE: usize = 2;
/// Most settings tried.
const MAX_REMEDIES: u64 = 6;
/// Most times that a check is asked anew: with each of these settings, and unchanged before and after.
const MAX_ANEW: u64 = MAX_REMEDIES + 2;
/// Requests to remove what an earlier attempt at one of the first checks wrote.
const EMPTYING: u64 = 4;

/// What a run costs at most, whatever it finds.
#[must_use]
pub fn ceiling() -> Ceiling {
    let requests: u64 = CHECKS.iter().map(|check| check.requests).sum();
    let curable = CHECKS.iter().take(CURABLE);
    let again: u64 = curable.clone().map(|check| check.requests + EMPTYING).sum::<u64>() * MAX_ANEW;
    let kib: u64 = CHECKS.iter().map(|check| check.kib).sum::<u64>()
        + curable.map(|check| check.kib).sum::<u64>() * MAX_ANEW;
    // Every request may be repeated; cleaning up deletes what was written, at worst one by one.
    Ceiling { requests: (requests + again) * u64::from(RETRY.attempts) + requests, bytes: kib * 1024 * 2 }
}

/// Examines one place.
pub struct Doctor {
    host: Host,
    opener: Opener,
    /// The place as it was named.
    asked: Settings,
    /// The prefix in it where objects go.
    settings: Settings,
    counter: Arc<Counter>,
}

#[derive(Default)]
struct Counter(AtomicU64);

impl RequestObserver for Counter {
    fn finished(&self, _: &RequestReport<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&self, _: Verb, _: u64) {}
}

impl Doctor {
    /// For a replica's settings. All objects go below its path, under a name that is no part of a replica.
    #[must_use]
    pub fn new(host: Host, environment: bucket::Environment, settings: &Settings) -> Self {
        let counter = Arc::new(Counter::default());
        let opener = Opener::new(host.clone(), environment).observed_by(counter.clone());
        let own = format!("doctor-{:016x}", host.entropy.u64());
        let asked = settings.clone();
        let mut settings = settings.clone();
        match &mut settings {
            Settings::S3(s3) => {
                s3.path = if s3.path.is_empty() { own } else { format!("{}/{own}", s3.path) };
                s3.retry = RETRY;
            }
            Settings::Directory(directory) => directory.path = directory.path.join(own),
        }
        Self { host, opener, asked, settings, counter }
    }

    /// Where the objects of this run go.
    ///
    /// # Errors
    /// As [`Opener::open`]: the settings contradict each other, or a file they name cannot be read.
    pub async fn location(&self) -> Result<String> {
        Ok(self.open().await?.location())
    }

    /// The bucket in which objects go.
    async fn open(&self) -> Result<Arc<dyn Bucket>> {
        // A directory that Litestream has elsewhere is refused by its own name only, not by that of a new one below it.
        if matches!(self.asked, Settings::Directory(_)) {
            self.opener.open(&self.asked).await?;
        }
        self.opener.open(&self.settings).await
    }

    /// Runs all checks. A failed check is part of the report.
    ///
    /// # Errors
    /// As [`Doctor::location`].
    pub async fn run(mut self) -> Result<Report> {
        let mut bucket = self.open().await?;
        let absent = self.absent_ancestors().await;
        let mut report =
            Report { location: bucket.location(), findings: Vec::new(), requests: 0, left_behind: None };
        let mut hopeless = false;
        for (index, check) in CHECKS.iter().enumerate() {
            if hopeless || self.requests() >= ceiling().requests {
                report.findings.push(skipped(check, hopeless));
                continue;
            }
            let (mut finding, kind) = examine(check, &*bucket).await;
            if finding.outcome == Outcome::Fail && index < CURABLE {
                finding = self.cure(check, &mut bucket, finding, kind).await?;
                hopeless = finding.outcome == Outcome::Fail;
            }
            report.findings.push(finding);
        }
        if !hopeless {
            report.findings.push(self.wrong_key().await?);
        }
        report.left_behind = self.clean(&*bucket, absent).await.err();
        report.requests = self.requests();
        Ok(report)
    }

    fn requests(&self) -> u64 {
        self.counter.0.load(Ordering::Relaxed)
    }

    /// Tries other settings until a check that failed passes, and keeps those. What passes unchanged after all was an
    /// outage, and no setting is to be blamed for it.
    async fn cure(
        &mut self,
        check: &Check,
        bucket: &mut Arc<dyn Bucket>,
        failed: Finding,
        kind: Option<ErrorKind>,
    ) -> Result<Finding> {
        let Settings::S3(settings) = &self.settings else { return Ok(failed) };
        let may_pass = kind == Some(ErrorKind::Transient);
        if may_pass && let Some(passed) = passes_anew(check, &**bucket).await {
            return Ok(passed);
        }
        for remedy in remedies(settings) {
            let settings = Settings::S3(Box::new(remedy.settings));
            let changed = self.opener.open(&settings).await?;
            if passes_anew(check, &*changed).await.is_none() {
                continue;
            }
            if may_pass && let Some(passed) = passes_anew(check, &**bucket).await {
                return Ok(passed);
            }
            (self.settings, *bucket) = (settings, changed);
            return Ok(Finding { outcome: Outcome::Changed, advice: Some(remedy.advice), ..failed });
        }
        Ok(failed)
    }

    /// A refusal must never look like an empty replica.
    async fn wrong_key(&self) -> Result<Finding> {
        let check = Check {
            name: "wrong-key",
            need: Need::Required,
            requirement: "a listing with a wrong secret key is an error, not an empty list",
            advice: None,
            requests: 1,
            kib: 1,
            run: |bucket| Box::pin(refused(bucket)),
        };
        let Settings::S3(settings) = &self.settings else {
            return Ok(Finding {
                detail: Some("a directory has no keys".to_owned()),
                ..skipped(&check, false)
            });
        };
        let from_environment = || {
            ["AWS_ACCESS_KEY_ID", "LITESTREAM_ACCESS_KEY_ID"]
                .iter()
                .find_map(|name| self.opener.variable(name))
        };
        let Some(id) = settings.access_key_id.clone().or_else(from_environment) else {
            let why = "the keys do not come from the configuration or the environment";
            return Ok(Finding { detail: Some(why.to_owned()), ..skipped(&check, false) });
        };
        let wrong = S3Settings {
            access_key_id: Some(id),
            secret_access_key: Some(Secret::new("not-the-secret-of-this-key")),
            session_token: settings.session_token.clone(),
            ..*settings.clone()
        };
        let bucket = self.opener.open(&Settings::S3(Box::new(wrong))).await?;
        Ok(examine(&check, &*bucket).await.0)
    }

    /// Directories above the prefix that the first check to write will make, innermost first.
    async fn absent_ancestors(&self) -> Vec<PathBuf> {
        let Settings::Directory(directory) = &self.asked else { return Vec::new() };
        let (disk, path) = (Arc::clone(&self.host.disk), directory.path.clone());
        let is_absent = move |path: &Path| {
            disk.metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let absent = move || path.ancestors().take_while(|at| is_absent(at)).map(Path::to_owned).collect();
        self.host.blocking(absent).await
    }

    /// Removes everything below the prefix, and `made`, the directories above it that were not there before.
    async fn clean(&self, bucket: &dyn Bucket, made: Vec<PathBuf>) -> std::result::Result<(), String> {
        empty(bucket).await?;
        if let Settings::Directory(directory) = &self.settings {
            let (disk, path) = (Arc::clone(&self.host.disk), directory.path.clone());
            let remove = move || remove_empty(&*disk, &path).and_then(|()| remove_made(&*disk, &made));
            let removed = self.host.blocking(remove).await;
            removed.map_err(|error| format!("{}: {error}", directory.path.display()))?;
        }
        Ok(())
    }
}

/// Removes all objects.
async fn empty(bucket: &dyn Bucket) -> std::result::Result<(), String> {
    let told = |error: crate::error::Error| error.to_string();
    let keys: Vec<String> =
        bucket.list("", None).await.map_err(told)?.into_iter().map(|object| object.key).collect();
    let failures = bucket.delete(&keys).await.map_err(told)?;
    match failures.into_iter().next() {
        Some(failure) => Err(format!("{}: {}", failure.key, failure.error)),
        None => Ok(()),
    }
}

async fn refused(bucket: &dyn Bucket) -> std::result::Result<Option<String>, Complaint> {
    match bucket.list("", None).await {
        Err(error) if error.kind() == ErrorKind::Denied => Ok(None),
        Err(error) => Err(Complaint { what: format!("it is an error of another kind: {error}"), kind: None }),
        Ok(found) => Err(Complaint {
            what: format!("the wrong key is accepted, and {} objects are listed", found.len()),
            kind: None,
        }),
    }
}

/// Asks once more, without what an earlier attempt may have left. `None` unless it passes.
async fn passes_anew(check: &Check, bucket: &dyn Bucket) -> Option<Finding> {
    // If this cannot be done, the check tells why.
    let _ = empty(bucket).await;
    let (finding, _) = examine(check, bucket).await;
    (finding.outcome == Outcome::Pass).then_some(finding)
}

/// Asks one check; with the kind of the error that it failed with, if it was one.
async fn examine(check: &Check, bucket: &dyn Bucket) -> (Finding, Option<ErrorKind>) {
    let (start, limit) = (Instant::now(), allowance(check));
    let result = tokio::time::timeout(limit, (check.run)(bucket)).await;
    let result = result.unwrap_or_else(|_| {
        Err(Complaint { what: format!("not done within {limit:?}"), kind: Some(ErrorKind::Transient) })
    });
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (outcome, detail, advice, kind) = match result {
        Ok(figure) => (Outcome::Pass, figure, None, None),
        Err(complaint) => {
            (Outcome::Fail, Some(complaint.what), advice_for(check, complaint.kind), complaint.kind)
        }
    };
    let finding = Finding {
        check: check.name,
        need: check.need,
        requirement: check.requirement,
        outcome,
        millis,
        detail,
        advice: advice.map(str::to_owned),
    };
    (finding, kind)
}

/// How long a check may take. A slow line is no fault of the store, and is not told apart from a fast one.
fn allowance(check: &Check) -> Duration {
    PATIENCE + Duration::from_secs(check.kib / SLOWEST)
}

/// The error itself says what to do, unless it is about rights or a capability.
fn advice_for(check: &Check, kind: Option<ErrorKind>) -> Option<&'static str> {
    match kind {
        Some(ErrorKind::Transient) => Some("nothing here; the server fails or cannot be reached: try again"),
        _ => check.advice,
    }
}

fn skipped(check: &Check, hopeless: bool) -> Finding {
    let why = if hopeless { "it builds on what failed before" } else { "the ceiling of requests is reached" };
    Finding {
        check: check.name,
        need: check.need,
        requirement: check.requirement,
        outcome: Outcome::Skipped,
        millis: 0,
        detail: Some(why.to_owned()),
        advice: None,
    }
}

/// Removes the folders that the checks made: one for each, inside one for all. None may be there, if nothing was
/// ever written.
fn remove_empty(disk: &dyn crate::host::Disk, path: &Path) -> io::Result<()> {
    let entries = match disk.read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        disk.remove_dir(&path.join(&entry.name))?;
    }
    disk.remove_dir(path)
}

/// Removes the directories that the run made above its own, innermost first.
fn remove_made(disk: &dyn crate::host::Disk, made: &[PathBuf]) -> io::Result<()> {
    for path in made {
        match disk.remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Somebody else uses it by now.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_slow_line_has_the_time_it_needs() {
        for check in CHECKS {
            // A quarter of a megabit.
            let needed = Duration::from_secs(check.kib / 32);
            assert!(allowance(check) > 2 * needed, "{}", check.name);
        }
    }
}
