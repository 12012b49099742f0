//! Every restore equals an exact page-level state of the history, at a commit boundary; if it gives an error instead,
//! that is no silent lie, but it may not be "corrupt" unless something was corrupted.

use replicator::ErrorKind;

use crate::evidence::{Evidence, RestoreRun, Violation};
use crate::history::{FileImage, History, StateId};

pub const NAME: &str = "restore-valid";

/// States that the restored database is equal to, newest first.
pub fn states_of(history: &History, restored: &FileImage) -> Vec<StateId> {
    restored.image.map_or(Vec::new(), |image| history.find(image))
}

pub fn check(evidence: &Evidence) -> Vec<Violation> {
    evidence.restores.iter().filter_map(|restore| one(evidence, restore)).collect()
}

fn one(evidence: &Evidence, restore: &RestoreRun) -> Option<Violation> {
    let (promised, happened) = match &restore.outcome {
        Ok((restored, txid))
            if states_of(&evidence.history, restored).is_empty() && !evidence.is_foreign(restored) =>
        {
            (
                "a restored database equals a committed state, page by page".to_owned(),
                format!("TXID {txid:?} gives {}", difference(&evidence.history, restored, restore)),
            )
        }
        Err(error) if error.kind == Some(ErrorKind::Corrupt) && !restore.exposed => (
            "what was stored can be restored".to_owned(),
            format!("the restore found corruption that nobody injected: {}", error.message),
        ),
        _ => return None,
    };
    Some(Violation { oracle: NAME, at_millis: restore.ended_millis, promised, happened })
}

/// Names the pages that differ from the nearest state.
fn difference(history: &History, restored: &FileImage, restore: &RestoreRun) -> String {
    if restored.page_size.is_none() {
        return "bytes that are no database".into();
    }
    let sums = &restored.pages;
    let newest = restore.heads.1.unwrap_or(0);
    let oldest = newest.saturating_sub(60);
    let nearest = (oldest..=newest).min_by_key(|state| different(history, *state, sums).len());
    let Some(nearest) = nearest else { return "a database although nothing was committed".into() };
    let pages = different(history, nearest, sums);
    let first: Vec<String> = pages.iter().take(5).map(|page| explain(history, *page, sums, newest)).collect();
    format!(
        "no committed state; nearest is state {nearest} ({} pages; restored {}), {} pages differ: {}",
        history.state(nearest).pages,
        sums.len(),
        pages.len(),
        first.join("; ")
    )
}

fn different(history: &History, state: StateId, sums: &[u64]) -> Vec<u32> {
    let want = history.pages_of(state);
    let most = history.state(state).pages.max(u32::try_from(sums.len()).unwrap_or(u32::MAX));
    (1..=most).filter(|page| want.get(page) != sums.get(*page as usize - 1)).collect()
}

/// Says which state the content of a page comes from.
fn explain(history: &History, page: u32, sums: &[u64], newest: StateId) -> String {
    let Some(sum) = sums.get(page as usize - 1) else { return format!("page {page} is missing") };
    let from = (0..=newest).rev().find(|state| history.state(*state).changed.contains(&(page, *sum)));
    match from {
        Some(state) => format!("page {page} is as of state {state}"),
        None => format!("page {page} was never like that"),
    }
}

#[cfg(test)]
mod tests {
    use crate::evidence::Asked;
    use crate::oracles::fixture;

    #[test]
    fn a_committed_image_passes_and_a_changed_byte_is_seen() {
        let (mut evidence, bytes) = fixture::evidence();
        evidence.restores.push(fixture::restored(Asked::Latest, bytes.clone()));
        assert_eq!(super::check(&evidence), []);
        let mut wrong = bytes;
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        evidence.restores.push(fixture::restored(Asked::Latest, wrong));
        assert_eq!(super::check(&evidence).len(), 1);
    }
}
