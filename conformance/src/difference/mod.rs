//! Differential test of two endpoints: the same seeded requests to both, and where the answers differ.
//!
//! Named checks ask what somebody thought of. This asks what nobody did, and holds the embedded server and its
//! dialects to the real servers they stand for: a difference that is not declared is a bug of ours.

mod replay;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use self::replay::Side;
pub use self::replay::{Fact, Facts};
pub use self::step::{KEYS, Step, steps};
use crate::client::{Budget, Call, Client};
use crate::server::system_clock;
use crate::targets::Target;

/// A way in which the two differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// What is asked, and what differs in the answers; the name by which it is declared.
    pub signature: String,
    /// The first request that showed it.
    pub step: String,
    /// Seed of its sequence and place in it.
    pub at: (u64, usize),
    /// Answer of the first.
    pub left: String,
    /// Answer of the second.
    pub right: String,
    /// How often it was seen.
    pub count: u64,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Steps that both carried out. A sequence ends early once the two hold different objects.
    pub steps: u64,
    /// How the two differ, by signature.
    pub differences: Vec<Difference>,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// First seed.
    pub from: u64,
    /// Number of sequences.
    pub seeds: u64,
    /// Steps in each.
    pub steps: usize,
}

impl Extent {
    /// Steps of all sequences, if none ends early.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.seeds.saturating_mul(self.steps as u64)
    }
}

/// Sends the same sequences to both.
///
/// # Errors
/// If an endpoint cannot be used at all. Requests that get no answer are answers of their own.
pub async fn compare(left: Target, right: Target, extent: Extent) -> Result<Comparison, String> {
    // On a file system an object cannot be a folder, too: it would differ in everything that follows.
    let is_files = |target: &Target| target.quirks.contains_key("address.object-and-directory");
    let keys = if is_files(&left) || is_files(&right) { &KEYS[1..] } else { &KEYS[..] };
    let (left, right) = (client(left).await?, client(right).await?);
    let run = system_clock()();
    let mut found: BTreeMap<String, Difference> = BTreeMap::new();
    let mut performed = 0;
    for seed in extent.from..extent.from + extent.seeds {
        let prefix = |client: &Client| format!("{}{run:x}/{seed}/", client.target().prefix);
        let (mut a, mut b) =
            (Side::new(left.clone(), prefix(&left)), Side::new(right.clone(), prefix(&right)));
        for (index, step) in steps(seed, extent.steps, keys).into_iter().enumerate() {
            let (x, y) = futures::future::join(a.perform(&step), b.perform(&step)).await;
            performed += 1;
            let differing: Vec<_> = signatures(&step, &x, &y);
            for (signature, left, right) in &differing {
                let entry = found.entry(signature.clone()).or_insert_with(|| Difference {
                    signature: signature.clone(),
                    step: format!("{step:?}"),
                    at: (seed, index),
                    left: left.clone(),
                    right: right.clone(),
                    count: 0,
                });
                entry.count += 1;
            }
            // Two refusals of different names change nothing. But once the two hold different objects, everything differs.
            if step.writes() && !differing.is_empty() && !hold_the_same(&a, &b).await {
                break;
            }
        }
        a.clean().await?;
        b.clean().await?;
    }
    Ok(Comparison { steps: performed, differences: found.into_values().collect() })
}

/// Whether the two hold the same objects; what cannot be read counts as different.
async fn hold_the_same(left: &Side, right: &Side) -> bool {
    match futures::future::join(left.objects(), right.objects()).await {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// What differs in two answers, with the differing values.
fn signatures(step: &Step, left: &Facts, right: &Facts) -> Vec<(String, String, String)> {
    // What follows from another status says nothing more.
    let names: BTreeSet<_> = if left.get(replay::STATUS) == right.get(replay::STATUS) {
        left.keys().chain(right.keys()).copied().collect()
    } else {
        BTreeSet::from([replay::STATUS])
    };
    let absent = Fact::Short("absent".to_owned());
    let mut all = Vec::new();
    for name in names {
        let (x, y) = (left.get(name).unwrap_or(&absent), right.get(name).unwrap_or(&absent));
        if x != y {
            let what = match (x, y) {
                (Fact::Short(x), Fact::Short(y)) => format!("{x} / {y}"),
                _ => "differs".to_owned(),
            };
            all.push((format!("{}: {name} {what}", step.kind()), x.to_string(), y.to_string()));
        }
    }
    all
}

async fn client(target: Target) -> Result<Client, String> {
    let name = target.name.clone();
    let budget = Arc::new(Budget::new(u64::MAX, u64::MAX));
    let client = Client::new(Arc::new(target), budget).map_err(|error| format!("{name}: {error}"))?;
    if client.target().create_bucket {
        let made =
            client.send(&Call::new(Method::PUT, "")).await.map_err(|error| format!("{name}: {error}"))?;
        if !made.status.is_success() && made.status != 409 {
            return Err(format!("{name}: the bucket cannot be made: {}", made.describe()));
        }
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::dialect::Conditions;
    use crate::server::{Dialect, Fault, Lie, Loopback, Outcome, RequestFacts, Server, Settings, Verb};

    async fn serve(dialect: Dialect) -> (Loopback, Target) {
        let mut settings = Settings::new(system_clock());
        settings.dialect = dialect;
        let loopback = Server::new(settings).start_loopback().await.unwrap();
        let target = Target::local("embedded", &loopback.endpoint(), "access", "secret");
        (loopback, target)
    }

    const SHORT: Extent = Extent { from: 1, seeds: 12, steps: 40 };

    #[tokio::test]
    async fn equal_servers_do_not_differ_and_are_left_empty() {
        let ((one, left), (_two, right)) = (serve(Dialect::default()).await, serve(Dialect::default()).await);
        let equal = Comparison { steps: SHORT.total(), differences: Vec::new() };
        assert_eq!(compare(left, right, SHORT).await.unwrap(), equal);
        assert!(one.server().traffic().total() > 400);
        let store = one.server().store();
        assert_eq!(store.list("conformance", "", crate::server::Moment::Latest).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_dialect_and_a_lie_are_told_apart_from_the_documentation() {
        let ignoring = Dialect { if_none_match: Conditions::Ignored, ..Dialect::default() };
        let ((_one, left), (_two, right)) = (serve(ignoring).await, serve(Dialect::default()).await);
        let Comparison { steps, differences: found } = compare(left, right, SHORT).await.unwrap();
        assert!(steps < SHORT.total(), "the objects differ after the first such write");
        assert!(
            found
                .iter()
                .any(|found| found.signature == "put if-none-match: status 200 / 412 PreconditionFailed"),
            "{found:?}"
        );
        for (lie, verb, kind) in [
            (Lie::ShiftRange, Verb::GetObject, "get range: body differs"),
            (Lie::GapsInList, Verb::ListObjects, "list: keys differs"),
            (Lie::WrongHeadSize, Verb::HeadObject, "head: content-length"),
        ] {
            let ((one, left), (_two, right)) =
                (serve(Dialect::default()).await, serve(Dialect::default()).await);
            one.server().set_faults(Arc::new(move |facts: &RequestFacts| {
                if facts.verb == verb { Outcome::Lie(lie).into() } else { Fault::default() }
            }));
            // Cleaning up goes by listings, which lie here; what is left does not matter.
            let found = compare(left, right, SHORT).await.unwrap().differences;
            assert!(found.iter().any(|found| found.signature.starts_with(kind)), "{lie:?}: {found:?}");
        }
    }

    #[tokio::test]
    async fn refusals_of_different_names_end_no_sequence() {
        let asked = |if_none_match| Dialect { if_none_match, ..Dialect::default() };
        let (refusing, failing) = (asked(Conditions::Refused), asked(Conditions::AlwaysFails));
        let ((_one, left), (_two, right)) = (serve(refusing).await, serve(failing).await);
        let few = Extent { seeds: 4, ..SHORT };
        let Comparison { steps, differences } = compare(left, right, few).await.unwrap();
        assert_eq!(steps, few.total());
        let names: Vec<_> = differences.iter().map(|found| found.signature.as_str()).collect();
        assert_eq!(names, ["put if-none-match: status 501 NotImplemented / 412 PreconditionFailed"]);
    }
}
