//! Deletions as carried out. What may be deleted is tested where it is decided, in `replica`.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A replica with `days` of history: hourly commits, a snapshot a day.
async fn history(rig: &mut Rig, days: u32) {
    rig.commit(10);
    rig.snapshot();
    for _ in 0..days {
        for _ in 0..24 {
            rig.commit(10);
            rig.pass(3600 * SECOND).await;
            rig.run().await.unwrap();
        }
        rig.snapshot();
    }
    rig.commit(10);
    rig.bucket.take_log("");
}

#[tokio::test(start_paused = true)]
async fn level0_goes_without_a_listing_history_only_after_one() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.snapshot();
    rig.commit(10);
    rig.run().await.unwrap();
    rig.commit(10);
    rig.bucket.take_log("");
    assert_eq!(rig.compactor.next_retention(rig.now()), Some(UnixMillis(START + 300_000)));
    rig.pass(300 * SECOND).await;
    let released = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(released.files, [LtxName::l0(Txid(1)), LtxName::l0(Txid(2))]);
    assert_eq!(rig.bucket.level(0), [(3, 3)]);
    assert_eq!(rig.bucket.take_log("LIST").len(), 0);

    history(&mut rig, 4).await;
    let before = rig.judge();
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(rig.bucket.take_log("LIST").len(), 1);
    assert_eq!(
        rig.bucket.level(9).len(),
        3,
        "the newest, one inside the window, one to begin it with (and an hour of grace)"
    );
    let after = rig.judge();
    assert!(after.len() < before.len() && after.last() == before.last());
    let window = Replica::read(&rig.bucket).unwrap().before(rig.now().0 - 24 * 3_600_000);
    assert!(window.is_some(), "the start of the window can be restored");
}

/// A snapshot of what nobody here has replicated may be somebody else's, and of another history.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_on_the_word_of_a_snapshot_that_is_not_ours() {
    let mut rig = Rig::new();
    history(&mut rig, 4).await;
    let newest = rig.bucket.level(0).last().unwrap().1;
    rig.compactor.expect_up_to(Txid(newest - 1));
    rig.snapshot();
    rig.compactor.distrust();
    let before = rig.bucket.level(9);
    let error = rig.compactor.enforce_retention(rig.now()).await.unwrap_err();
    assert!(error.to_string().contains("not replicated here"), "{error}");
    assert_eq!(rig.bucket.level(9), before);
    rig.compactor.expect_up_to(Txid(newest));
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert!(rig.bucket.level(9).len() < before.len());
}

#[tokio::test(start_paused = true)]
async fn idle_retention_comes_to_rest() {
    let mut rig = Rig::new();
    history(&mut rig, 3).await;
    let mut wakes = 0;
    while let Some(next) = rig.compactor.next_retention(rig.now()) {
        assert!(wakes < 400, "never comes to rest");
        wakes += 1;
        if next > rig.now() {
            rig.pass(Duration::from_millis(u64::try_from(next.0 - rig.now().0).unwrap())).await;
        }
        rig.compactor.enforce_retention(rig.now()).await.unwrap();
        rig.run().await.unwrap();
    }
    rig.bucket.take_log("");
    rig.pass(10 * DAY).await;
    assert_eq!((rig.compactor.next_retention(rig.now()), rig.compactor.next_due(rig.now())), (None, None));
    assert_eq!(rig.bucket.take_log(""), Vec::<String>::new());
    assert_eq!(rig.bucket.level(9).len(), 1);
    assert!(rig.judge().contains(&rig.last()));
}

/// Found by the simulator: after the last snapshot of a database that fell idle, nothing expired until the next commit.
#[tokio::test(start_paused = true)]
async fn a_snapshot_from_before_the_last_look_is_looked_at() {
    let mut rig = Rig::new();
    rig.commit(10);
    let committed = rig.now();
    rig.pass(2 * DAY).await;
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(rig.compactor.next_retention(rig.now()), None);
    rig.compactor.note_published(LtxName::snapshot(Txid(1)), 100, committed);
    assert!(rig.compactor.next_retention(rig.now()).is_some_and(|due| due <= rig.now()));
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert!(rig.compactor.next_retention(rig.now()).is_none_or(|due| due > rig.now()), "once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_reported_and_tried_again() {
    let mut rig = Rig::new();
    history(&mut rig, 3).await;
    rig.bucket.fail("DELETED 0009", 1);
    rig.bucket.fail("DELETED 0000/0000000000000002", 1);
    let released = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    let failed: Vec<&str> = released.failures.iter().map(|failure| &failure.key[..4]).collect();
    assert_eq!(failed, ["0009", "0000"]);
    assert!(released.files.len() > 20);
    rig.judge();
    let retry = rig.compactor.next_retention(rig.now()).unwrap();
    assert_eq!(retry.0, rig.now().0 + 30_000);
    rig.pass(30 * SECOND).await;
    let again = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!((again.files.len(), again.failures.len()), (2, 0));
    rig.judge();
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_unknown_outcome_is_looked_at_again() {
    let mut rig = Rig::new();
    history(&mut rig, 3).await;
    rig.bucket.fail("DELETE ", 1);
    assert!(rig.compactor.enforce_retention(rig.now()).await.is_err());
    rig.pass(30 * SECOND).await;
    rig.bucket.take_log("");
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert!(!rig.bucket.take_log("LIST").is_empty());
    assert_eq!(rig.bucket.level(9).len(), 3);
    rig.judge();
}

/// A session that ends drops the deletion that is under way, and the compactor outlives it.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_dropped_half_way_is_due_again() {
    for request in ["LIST", "DELETE "] {
        let mut rig = Rig::new();
        history(&mut rig, 3).await;
        *rig.bucket.stalled.lock().unwrap() = Some(request.to_owned());
        let mut enforcing = Box::pin(rig.compactor.enforce_retention(rig.now()));
        assert!(futures::poll!(&mut enforcing).is_pending(), "{request}");
        drop(enforcing);
        *rig.bucket.stalled.lock().unwrap() = None;
        assert!(rig.compactor.next_retention(rig.now()).is_some_and(|due| due <= rig.now()), "{request}");
        rig.compactor.enforce_retention(rig.now()).await.unwrap();
        assert_eq!(rig.bucket.level(9).len(), 3, "{request}");
        rig.judge();
    }
}

/// A power cut left them; the warning about them came with every listing, for ever.
#[tokio::test(start_paused = true)]
async fn objects_too_small_to_be_files_go_when_a_snapshot_has_outlived_them() {
    let mut rig = Rig::new();
    history(&mut rig, 3).await;
    let name =
        |level, min, max| LtxName { level: Level::new(level).unwrap(), min: Txid(min), max: Txid(max) };
    let (old, young) = ([name(0, 3, 3), name(1, 3, 5)], name(1, rig.last(), rig.last()));
    old.iter().chain([&young]).for_each(|&name| rig.bucket.replace(name, Vec::new()));
    rig.restart();
    rig.pass(30 * SECOND).await;
    rig.run().await.unwrap();
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(old.map(|name| rig.bucket.names().contains(&name)), [false, false]);
    assert!(rig.bucket.names().contains(&young), "no snapshot holds its transaction yet");
    assert!(rig.compactor.inventory().unwrap().undersized().iter().eq([&young]));
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_between_deletions_goes_on_after_restart() {
    for killed_after in 0..12 {
        let mut rig = Rig::new();
        history(&mut rig, 3).await;
        let newest = rig.last();
        let expired = rig.settings.retention.expired(&rig.compactor.inventory().unwrap(), rig.now());
        expired.iter().take(killed_after).for_each(|&name| rig.bucket.remove(name));
        assert!(rig.judge().contains(&newest));
        rig.restart();
        rig.pass(31 * SECOND).await;
        rig.run().await.unwrap();
        rig.compactor.enforce_retention(rig.now()).await.unwrap();
        assert!(rig.judge().contains(&newest));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_if_the_user_says_so_but_local_files_are_released() {
    let mut rig = Rig::new();
    rig.settings.delete = false;
    rig.restart();
    history(&mut rig, 3).await;
    let before = rig.bucket.names();
    let released = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert!(released.files.contains(&LtxName::l0(Txid(2))));
    assert_eq!(rig.bucket.names(), before);
    assert_eq!(rig.bucket.take_log("DELETE"), Vec::<String>::new());
    let again = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(again.files, [], "said once");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_deletes_nothing() {
    let mut rig = Rig::new();
    history(&mut rig, 2).await;
    rig.compactor.enforce_retention(rig.now()).await.unwrap();
    let before = rig.bucket.names();
    rig.clock.0.fetch_add(365 * 24 * 3_600_000, Ordering::Relaxed);
    rig.commit(10);
    let released = rig.compactor.enforce_retention(rig.now()).await.unwrap();
    assert_eq!(released.files, []);
    assert_eq!(rig.bucket.names().len(), before.len() + 1);
    // And back.
    rig.clock.0.fetch_sub(2 * 365 * 24 * 3_600_000, Ordering::Relaxed);
    assert_eq!(rig.compactor.enforce_retention(rig.now()).await.unwrap().files, []);
}

/// Simulated seed 9012467: a look at an hour that is not believed was noted as if it had been that hour, so that what
/// expired in it was never looked for again.
#[tokio::test(start_paused = true)]
async fn what_expires_while_the_clock_is_ahead_goes_in_time() {
    let mut rig = Rig::new();
    rig.commit(10);
    rig.snapshot();
    rig.commit(10);
    rig.run().await.unwrap();
    let due = rig.compactor.next_retention(rig.now()).unwrap();
    let ahead = 3_600_000;
    rig.clock.0.fetch_add(ahead, Ordering::Relaxed);
    assert_eq!(rig.compactor.enforce_retention(rig.now()).await.unwrap().files, []);
    assert_eq!(rig.compactor.next_retention(rig.now()), Some(UnixMillis(due.0 + ahead)), "and not before");
    rig.pass(300 * SECOND).await;
    assert_eq!(rig.compactor.enforce_retention(rig.now()).await.unwrap().files, [LtxName::l0(Txid(1))]);
}
