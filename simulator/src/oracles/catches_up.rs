//! When the faults are over, the store catches up within a bound, and a stop ends within its own.

use crate::evidence::{Evidence, Violation};

pub const NAME: &str = "catches-up";

/// Simulated milliseconds after healing within which a restore must give the newest state.
pub const CATCH_UP_MILLIS: u64 = 300_000;

/// Bound given to the final stop, and what it may take beyond.
pub const STOP_MILLIS: u64 = 30_000;

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |promised: String, happened: String| {
        found.push(Violation { oracle: NAME, at_millis: evidence.plan.run_millis, promised, happened });
    };
    if evidence.caught_up_after.is_none() {
        let last = evidence.restores.last().map(|restore| match &restore.outcome {
            Ok((_, txid)) => format!("the last restore gave an older state (TXID {txid:?})"),
            Err(error) => format!("the last restore failed: {}", error.message),
        });
        report(
            format!("{CATCH_UP_MILLIS} ms after all faults are over, the store holds the newest state"),
            last.unwrap_or_else(|| "nothing was restored".into()),
        );
    }
    if evidence.caught_up_after.is_some() && evidence.caught_up_again.is_none() {
        report(
            format!("a commit after a long silence is in the store {CATCH_UP_MILLIS} ms later"),
            "restores do not give it".into(),
        );
    }
    match &evidence.stopped {
        Some((Ok(()), took)) if *took <= 2 * STOP_MILLIS => {}
        Some((Ok(()), took)) => {
            report(format!("a stop ends within {STOP_MILLIS} ms"), format!("it took {took} ms"))
        }
        Some((Err(error), _)) => report("a stop in fair weather replicates everything".into(), error.clone()),
        None => report(format!("a stop ends within {STOP_MILLIS} ms"), "it never ended".into()),
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::oracles::fixture;

    #[test]
    fn falling_behind_and_hanging_are_seen() {
        let (mut evidence, _) = fixture::evidence();
        assert_eq!(super::check(&evidence), []);
        evidence.caught_up_again = None;
        assert_eq!(super::check(&evidence).len(), 1);
        evidence.caught_up_after = None;
        evidence.stopped = None;
        assert_eq!(super::check(&evidence).len(), 2);
        evidence.stopped = Some((Err("not in sync".into()), 10));
        assert_eq!(super::check(&evidence).len(), 2);
    }
}
