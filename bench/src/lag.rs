//! How long commits take to be durable under load: from the return of COMMIT to the first object that holds it.
//!
//! Every transaction writes its number into the database header (`user_version`), so page 1 of an object says up to
//! which commit it goes.

use std::collections::BTreeMap;
use std::time::Instant;

use conformance::ltx;
use conformance::replica::Store;

use crate::Result;

/// Where the database header keeps `user_version`.
const USER_VERSION: std::ops::Range<usize> = 60..64;

/// Lag of each commit in milliseconds. `commits` are the moments at which transactions 1, 2, … were committed,
/// `arrivals` when each object was first seen.
///
/// # Errors
/// If a commit is in no object, or an object is not valid.
pub fn of_commits(
    store: &dyn Store,
    arrivals: &BTreeMap<String, Instant>,
    commits: &[Instant],
) -> Result<Vec<f64>> {
    let mut held = Vec::new();
    for (key, &arrived) in arrivals {
        // Compaction may have replaced an object meanwhile; what it held is then found in a later one.
        let Ok(bytes) = store.get(key) else { continue };
        let file = ltx::parse(&bytes).map_err(|defect| format!("{key}: {defect}"))?;
        if let Some(header) = file.pages.get(&1) {
            held.push((u32::from_be_bytes(header[USER_VERSION].try_into()?), arrived));
        }
    }
    lags(held, commits)
}

/// `held` are objects: the newest transaction in each, and when it arrived.
fn lags(mut held: Vec<(u32, Instant)>, commits: &[Instant]) -> Result<Vec<f64>> {
    held.sort_unstable();
    let mut lags = Vec::with_capacity(commits.len());
    let mut earliest: Option<Instant> = None;
    for (index, &committed) in commits.iter().enumerate().rev() {
        while let Some((_, arrived)) = held.pop_if(|&mut (newest, _)| newest as usize > index) {
            earliest = Some(earliest.map_or(arrived, |earliest| earliest.min(arrived)));
        }
        let arrived = earliest.ok_or_else(|| format!("transaction {} is in no object", index + 1))?;
        lags.push(arrived.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    lags.reverse();
    Ok(lags)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_commit_counts_from_the_first_object_that_holds_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let commits = [at(0), at(10), at(20)];
        // The second object is a merge that came later and holds no more than the first.
        let held = vec![(2, at(15)), (2, at(90)), (3, at(50)), (0, at(1))];
        assert_eq!(lags(held, &commits).unwrap(), [15.0, 5.0, 30.0]);
        assert!(lags(vec![(2, at(15))], &commits).is_err(), "the third is nowhere");
    }
}
