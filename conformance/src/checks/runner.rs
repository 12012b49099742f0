//! Runs checks against a target, one after the other, each in its own prefix, and cleans up behind each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::cleaning::clean;
use super::{Check, Complaint, Need, Probe, Reason, Running, all};
use crate::client::{Budget, Call, Client};
use crate::server::system_clock;
use crate::targets::Target;
use crate::verdict::{Meaning, Outcome, Report};

/// Most that these reasons add.
const MORE_TIME: Duration = Duration::from_secs(15 * 60);

/// Which checks to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only checks whose id begins with one of these; all if empty.
    pub only: Vec<String>,
    /// But not those whose id begins with one of these.
    pub skip: Vec<String>,
    /// The replicator's binary. Without it the checks of the group `replica` are left out.
    pub replicator: Option<PathBuf>,
    /// Longest a check may take, unless it has reasons to take longer.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: Vec::new(), skip: Vec::new(), replicator: None, timeout: Duration::from_secs(180) }
    }
}

impl Options {
    fn selects(&self, id: &str) -> bool {
        let begins = |starts: &[String]| starts.iter().any(|start| id.starts_with(start.as_str()));
        let possible = self.replicator.is_some() || !needs_replicator(id);
        possible && (self.only.is_empty() || begins(&self.only)) && !begins(&self.skip)
    }

    /// A selection that can select what was meant: every text begins the id of a check, and something is left.
    ///
    /// # Errors
    /// A sentence for the person who typed it. Without this, a mistyped name asks nothing and finds it good.
    pub fn validate(&self) -> Result<(), String> {
        for (option, starts) in [("--only", &self.only), ("--skip", &self.skip)] {
            if let Some(start) = starts.iter().find(|start| !begins_an_id(start)) {
                return Err(format!("{option} {start:?}: no check's id begins with that"));
            }
        }
        if self.checks().is_empty() {
            return Err("no check is left to be run: see --only and --skip".to_owned());
        }
        Ok(())
    }

    /// Whether any check that is selected needs the replicator.
    #[must_use]
    pub fn runs_replicator(&self) -> bool {
        self.checks().iter().any(|check| needs_replicator(check.id))
    }

    fn checks(&self) -> Vec<&'static Check> {
        all().into_iter().filter(|check| self.selects(check.id)).collect()
    }
}

/// An empty text is the beginning of every id, and never meant so.
fn begins_an_id(start: &str) -> bool {
    !start.is_empty() && all().iter().any(|check| check.id.starts_with(start))
}

fn needs_replicator(id: &str) -> bool {
    id.starts_with("replica.")
}

/// The most a run can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// Requests, cleaning up included.
    pub requests: u64,
    /// Bytes of bodies, both ways.
    pub bytes: u64,
}

/// What a run with these options can cost at most; enforced by the client.
#[must_use]
pub fn ceiling(options: &Options) -> Ceiling {
    let checks = options.checks();
    let requests: u64 = checks.iter().map(|check| check.requests).sum();
    let kib: u64 = checks.iter().map(|check| check.kib).sum();
    // Cleaning up costs listings and batches (or as many deletions as there were requests) per check.
    Ceiling {
        requests: requests * 2 + checks.len() as u64 * 12 + 10,
        bytes: (kib + checks.len() as u64 * 16) * 1024,
    }
}

/// Runs the suite.
///
/// # Errors
/// If the target cannot be addressed at all, or its bucket cannot be made. A failed check is part of the report.
pub async fn run(target: Target, options: &Options) -> Result<Report, String> {
    let limit = ceiling(options);
    let budget = Arc::new(Budget::new(limit.requests, limit.bytes));
    let name = target.name.clone();
    let quirks = target.quirks.clone();
    let client = Client::new(Arc::new(target), budget).map_err(|error| error.to_string())?;
    if client.target().create_bucket {
        create_bucket(&client).await?;
    }
    // A prefix of its own for every run: what an earlier one left behind cannot disturb it.
    let base = format!("{}{:x}/", client.target().prefix, system_clock()());
    let mut outcomes = Vec::new();
    for check in options.checks() {
        let mut outcome = run_one(check, &client, &base, options).await;
        outcome.declare(quirks.get(check.id).map(String::as_str));
        outcomes.push(outcome);
    }
    let spent = client.spent();
    Ok(Report { target: name, outcomes, requests: spent.requests, bytes: spent.bytes })
}

async fn create_bucket(client: &Client) -> Result<(), String> {
    let answer = client.send(&Call::new(Method::PUT, "")).await.map_err(|error| error.to_string())?;
    // 409: it is there already, and ours.
    if answer.status.is_success() || answer.status == 409 {
        return Ok(());
    }
    Err(format!("the bucket {} cannot be made: {}", client.target().bucket, answer.describe()))
}

/// Ends a check that hangs. Pauses that the endpoint asked for are not its fault, nor is a slow line where the work is
/// much.
async fn in_time(
    probe: &Probe,
    start: Instant,
    waited_before: Duration,
    timeout: Duration,
    mut work: Running<'_>,
) -> Result<(), Complaint> {
    let allowed = || {
        let waited = probe.client().spent().waited.saturating_sub(waited_before);
        timeout + (waited + probe.more_time()).min(MORE_TIME)
    };
    loop {
        let limit = allowed();
        match tokio::time::timeout_at(start + limit, &mut work).await {
            Ok(result) => return result,
            Err(_) if allowed() > limit => {}
            Err(_) => return Err(Complaint::late(format!("not done within {limit:?}"))),
        }
    }
}

/// What is to be said beside the verdict: the check's own remark, and how often it had to ask again.
fn remarks(said: Option<String>, repeated: u64) -> Option<String> {
    let again = (repeated > 0).then(|| format!("asked again {repeated} times after 429, 408 or 5xx"));
    match (said, again) {
        (Some(said), Some(again)) => Some(format!("{said} ({again})")),
        (said, again) => said.or(again),
    }
}

pub(super) async fn run_one(check: &Check, client: &Client, base: &str, options: &Options) -> Outcome {
    let probe = Probe::new(client.clone(), format!("{base}{}/", check.id), options.replicator.clone());
    let (start, before) = (Instant::now(), client.spent());
    let result = in_time(&probe, start, before.waited, options.timeout, (check.run)(&probe)).await;
    let (took, after) = (start.elapsed(), client.spent());
    // What goes on after the end of a check would write again where was cleaned up.
    let ended = probe.work().end().await;
    let left = [ended.err(), clean(&probe).await.err()];
    let left: Vec<_> = left.into_iter().flatten().map(|complaint| complaint.0).collect();
    let (meaning, advice) = match check.need {
        Need::Required => (Meaning::Required, None),
        Need::Setting(advice) => (Meaning::Setting, Some(advice.to_owned())),
        Need::Optional => (Meaning::Optional, None),
        Need::Figure => (Meaning::Figure, None),
    };
    Outcome {
        id: check.id.to_owned(),
        requirement: check.requirement.to_owned(),
        why: check.why.to_owned(),
        meaning,
        passed: result.is_ok(),
        is_late: result.as_ref().is_err_and(|complaint| complaint.1 == Reason::Late),
        advice: advice.filter(|_| result.is_err()),
        detail: remarks(
            result.err().map(|complaint| complaint.0).or_else(|| probe.take_note()),
            after.repeated - before.repeated,
        ),
        declared: None,
        first_look: None,
        left_behind: probe.left_behind(left),
        millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        requests: after.requests - before.requests,
        bytes: after.bytes - before.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_again_is_said() {
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(remarks(None, 0), None);
        assert_eq!(remarks(said("a figure"), 0), said("a figure"));
        assert_eq!(remarks(None, 3), said("asked again 3 times after 429, 408 or 5xx"));
        let both = "a figure (asked again 3 times after 429, 408 or 5xx)";
        assert_eq!(remarks(said("a figure"), 3), said(both));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_gets_the_time_it_can_account_for() {
        let target = Target::local("nobody", "http://127.0.0.1:1", "a", "s");
        let client = Client::new(Arc::new(target), Arc::new(Budget::new(1, 1))).unwrap();
        let probe = Probe::new(client, "p/".to_owned(), None);
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let late = Box::pin(async {
            tokio::time::sleep(minutes(4)).await;
            Ok(())
        });
        assert!(in_time(&probe, Instant::now(), Duration::ZERO, minutes(3), late).await.is_err());
        let accounted = Box::pin(async {
            probe.take_time(minutes(10));
            tokio::time::sleep(minutes(12)).await;
            Ok(())
        });
        in_time(&probe, Instant::now(), Duration::ZERO, minutes(3), accounted).await.unwrap();
    }

    fn validated(only: &[&str], skip: &[&str]) -> Result<(), String> {
        let owned = |all: &[&str]| all.iter().map(|start| (*start).to_owned()).collect();
        Options { only: owned(only), skip: owned(skip), ..Options::default() }.validate()
    }

    #[test]
    fn a_selection_of_nothing_is_an_error() {
        validated(&[], &[]).unwrap();
        validated(&["condition.", "put.one-byte"], &["replica", "put.e"]).unwrap();
        assert!(validated(&["put", "condtion"], &[]).unwrap_err().contains("--only \"condtion\""));
        assert!(validated(&[""], &[]).unwrap_err().contains("--only \"\""));
        assert!(validated(&[], &[""]).unwrap_err().contains("--skip \"\""));
        assert!(validated(&["put"], &["put."]).unwrap_err().contains("no check is left"));
        // Without a binary these cannot run.
        assert!(validated(&["replica."], &[]).unwrap_err().contains("no check is left"));
    }
}
