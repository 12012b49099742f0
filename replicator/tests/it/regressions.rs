//! Defects that Litestream has or had, as scripts that the product must survive. Each is named after what went wrong;
//! the issue it was reported in is Litestream's.

use std::time::Duration;

use conformance::process::Process;
use conformance::replica::Replica;
use conformance::site::Site;
use conformance::witness::{Replicator, V0_5_17};
use conformance::workload::Settings;
use rusqlite::Connection;

use crate::scene::{PATIENCE, Scene, product};

/// A scene with the product at work on 200 rows of a page each, all replicated.
struct Running {
    scene: Scene,
    site: Site,
    product: Replicator,
    daemon: Option<Process>,
}

impl Running {
    fn new(seed: u64) -> Self {
        let mut scene = Scene::calm(seed);
        scene.insert_large_rows(200);
        let site = scene.directory();
        let product = product(&scene);
        let mut running = Self { scene, site, product, daemon: None };
        running.start();
        running.scene.wait_replicated(&running.site);
        running
    }

    fn start(&mut self) {
        self.daemon = Some(self.product.replicate(&self.scene.replication(&self.site)).unwrap());
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill().unwrap();
    }

    fn stop(&mut self) {
        self.daemon.take().unwrap().terminate(PATIENCE).unwrap();
    }

    /// Everything committed is restored exactly, by the product and by Litestream, after the product has ended.
    fn assert_faithful(mut self) {
        self.scene.wait_replicated(&self.site);
        if self.daemon.is_some() {
            self.stop();
        }
        for restorer in [&self.product, &self.scene.litestream(V0_5_17)] {
            let state = self.scene.restore_and_judge(restorer, &self.site, &[]).unwrap();
            assert_eq!(state.seq, self.scene.history.committed());
        }
    }
}

/// The replicator is killed, the WAL is checkpointed and starts over, and is then shorter than, as long as, or longer
/// than what had been replicated. Litestream 0.5.17 loses what was in between; no report exists.
#[test]
fn a_wal_that_started_over_while_down_loses_nothing() {
    for updates in [40, 200, 450] {
        let mut running = Running::new(51);
        running.scene.update_rows(200);
        running.scene.wait_replicated(&running.site);
        running.kill();
        // The application's own checkpoint comes at 1000 frames.
        running.scene.update_rows(200);
        for _ in 0..(updates + 199) / 200 {
            running.scene.update_rows(updates.min(200));
        }
        running.start();
        running.assert_faithful();
    }
}

/// Somebody cleans up beside a database whose application is down, and deletes the WAL-index only. The application makes
/// one of its own and knows nothing of the pin: a checkpoint by the old one would write old frames into the database.
#[test]
fn only_the_wal_index_is_deleted() {
    let mut running = Running::new(57);
    running.scene.stop_app();
    std::fs::remove_file(running.scene.path("app.db-shm")).unwrap();
    running.scene.start_app();
    running.scene.update_rows(100);
    // As long as no checkpoint changes the database file, nothing else tells of the commits.
    running.scene.wait_replicated(&running.site);
    running.scene.checkpoint("TRUNCATE");
    running.scene.update_rows(150);
    running.assert_faithful();
}

/// The WAL starts over twice while the replicator is down, and the second run overwrites every frame of the first.
#[test]
fn a_wal_that_started_over_twice_while_down_loses_nothing() {
    let mut running = Running::new(52);
    running.scene.update_rows(100);
    running.scene.wait_replicated(&running.site);
    running.kill();
    for ids in [[1, 5], [101, 106]] {
        running.scene.checkpoint("TRUNCATE");
        for id in ids[0]..=ids[1] {
            let sql = format!("UPDATE t0 SET body = randomblob(2500) WHERE id = {id}");
            running.scene.execute(&sql, id..=id);
        }
    }
    running.start();
    running.assert_faithful();
}

/// #752: a checkpoint of any mode while the replicator is down, followed by fewer, as many or more frames.
#[test]
fn a_checkpoint_while_down_breaks_no_chain() {
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let mut running = Running::new(53);
        for updates in [5, 30, 90] {
            running.scene.update_rows(30);
            running.scene.wait_replicated(&running.site);
            running.kill();
            running.scene.update_rows(3);
            running.scene.checkpoint(mode);
            running.scene.update_rows(updates);
            running.start();
            running.scene.wait_replicated(&running.site);
        }
        running.assert_faithful();
    }
}

/// #1083: a burst, a checkpoint, then small commits that reuse the WAL's space, so its size never changes.
#[test]
fn commits_that_reuse_wal_space_are_seen() {
    let mut running = Running::new(54);
    running.scene.checkpoint("PASSIVE");
    running.scene.update_rows(200);
    running.scene.wait_replicated(&running.site);
    for id in 1..=10 {
        running.scene.execute(&format!("UPDATE t0 SET number = 0 WHERE id = {id}"), id..=id);
        running.scene.wait_replicated(&running.site);
    }
    running.assert_faithful();
}

/// #1209: another database is renamed over the file while the replicator runs. Litestream 0.5.17 lays the pages of a
/// smaller one over the old base, and stops replicating after a larger one.
#[test]
fn a_replaced_file_starts_over() {
    for rows in [50, 200, 500] {
        let mut running = Running::new(55);
        running.scene.replace_database(|scene| scene.insert_large_rows(rows));
        running.scene.start_app();
        running.scene.update_rows(20);
        running.assert_faithful();
    }
}

/// The same while the replicator is stopped.
#[test]
fn a_file_replaced_while_down_starts_over() {
    for rows in [50, 500] {
        let mut running = Running::new(56);
        running.stop();
        running.scene.replace_database(|scene| scene.insert_large_rows(rows));
        running.scene.start_app();
        running.start();
        running.scene.update_rows(20);
        running.assert_faithful();
    }
}

/// Another database is copied over the file, which stays the same file to the system, while the replicator is stopped.
#[test]
fn a_file_overwritten_while_down_starts_over() {
    for rows in [50, 500] {
        let mut running = Running::new(63);
        running.stop();
        let (live, kept) = (running.scene.database(), running.scene.path("kept.db"));
        std::fs::hard_link(&live, &kept).unwrap();
        running.scene.replace_database(|scene| scene.insert_large_rows(rows));
        let other = std::fs::read(&live).unwrap();
        std::fs::rename(kept, &live).unwrap();
        std::fs::write(&live, other).unwrap();
        running.scene.start_app();
        running.start();
        running.scene.update_rows(20);
        running.assert_faithful();
    }
}

/// The database does not exist when the replicator starts, and is deleted and made again later (#886, dust#30490).
#[test]
fn a_database_that_appears_disappears_and_appears_again_is_followed() {
    let mut running = Running::new(64);
    for _ in 0..2 {
        running.scene.stop_app();
        for name in ["app.db", "app.db-wal", "app.db-shm"] {
            let path = running.scene.path(name);
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        running.scene.start_app();
        running.scene.insert_large_rows(20);
        running.scene.wait_replicated(&running.site);
    }
    running.assert_faithful();
}

/// The local file is older than the replica: a backup was put back, or a machine lost its last seconds.
#[test]
fn a_database_older_than_its_replica_goes_on_above_it() {
    let mut running = Running::new(65);
    running.stop();
    running.scene.stop_app();
    let old = running.scene.path("old.db");
    std::fs::copy(running.scene.database(), &old).unwrap();
    running.scene.start_app();
    running.start();
    running.scene.update_rows(30);
    running.scene.wait_replicated(&running.site);
    running.stop();
    let newest = Replica::read(&*running.site.store).unwrap().newest().unwrap();
    running.scene.replace_database(|_| ());
    std::fs::copy(&old, running.scene.database()).unwrap();
    running.scene.start_app();
    running.start();
    running.scene.update_rows(3);
    running.scene.wait_replicated(&running.site);
    assert!(Replica::read(&*running.site.store).unwrap().newest().unwrap() > newest);
    running.assert_faithful();
}

/// The journal mode is switched away and back while the replicator is stopped: the WAL is gone, the content changed.
#[test]
fn a_detour_through_another_journal_mode_is_followed() {
    let mut running = Running::new(66);
    running.stop();
    running.scene.stop_app();
    let db = Connection::open(running.scene.database()).unwrap();
    db.execute_batch("PRAGMA journal_mode = delete").unwrap();
    db.close().unwrap();
    running.scene.start_app();
    running.start();
    running.scene.update_rows(10);
    running.assert_faithful();
}

/// A database rewritten with another page size wedges Litestream for good.
#[test]
fn a_changed_page_size_starts_over() {
    let mut running = Running::new(57);
    running.stop();
    running.scene.stop_app();
    let db = Connection::open(running.scene.database()).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = delete; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = wal",
    )
    .unwrap();
    db.close().unwrap();
    running.scene.start_app();
    running.start();
    running.scene.update_rows(10);
    running.assert_faithful();
}

/// #781: after a restore, replication on the same path must not stay below the numbers already in the replica.
#[test]
fn writes_after_a_restore_are_replicated() {
    let mut running = Running::new(58);
    running.scene.update_rows(20);
    running.scene.wait_replicated(&running.site);
    running.stop();
    let before = Replica::read(&*running.site.store).unwrap().newest().unwrap();
    running.scene.stop_app();
    // The machine is lost: database and everything beside it.
    for entry in std::fs::read_dir(running.scene.folder.path()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match (name.contains("app.db"), entry.file_type().unwrap().is_dir()) {
            (true, true) => std::fs::remove_dir_all(entry.path()).unwrap(),
            (true, false) => std::fs::remove_file(entry.path()).unwrap(),
            (false, _) => {}
        }
    }
    let restored = running.scene.restore(&running.product, &running.site, &[]);
    std::fs::rename(restored, running.scene.database()).unwrap();
    running.scene.start_app();
    running.start();
    running.scene.update_rows(3);
    running.scene.wait_replicated(&running.site);
    assert!(Replica::read(&*running.site.store).unwrap().newest().unwrap() > before);
    running.assert_faithful();
}

/// SQLite would replay a WAL that lies beside a restored file; Litestream 0.5.17 looks only if the database is there.
#[test]
fn a_stale_wal_beside_an_absent_database_is_not_replayed() {
    let mut running = Running::new(59);
    running.stop();
    let folder = running.scene.path("elsewhere");
    std::fs::create_dir_all(&folder).unwrap();
    let output = folder.join("app.db");
    // A WAL of a later time, as a killed application leaves it.
    running.scene.update_rows(10);
    std::fs::copy(running.scene.path("app.db-wal"), folder.join("app.db-wal")).unwrap();
    let said = running.product.restore(&running.site, &output, &[]).unwrap();
    if said.code == Some(0) {
        conformance::compare::judge(&output, &running.scene.history, running.scene.history.acknowledged())
            .unwrap();
    } else {
        assert!(said.output.contains("app.db-wal"), "{}", said.output);
        assert!(!output.exists());
    }
}

/// #218, #724: an application that never waits for a lock is never refused one, however often the replicator
/// checkpoints, and its WAL starts over all the same. How often depends on who gets the processor in between.
#[test]
fn an_impatient_writer_is_never_refused() {
    let mut scene = Scene::calm(67);
    scene.insert_large_rows(100);
    let site = scene.directory();
    let product = product(&scene);
    let mut replication = scene.replication(&site);
    replication.database_lines.push("min-checkpoint-page-count: 50".to_owned());
    let daemon = product.replicate(&replication).unwrap();
    scene.wait_replicated(&site);
    let db = scene.app.as_ref().unwrap().db();
    db.busy_timeout(Duration::ZERO).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let salts = |scene: &Scene| std::fs::read(scene.path("app.db-wal")).unwrap()[16..24].to_vec();
    let mut logs = std::collections::BTreeSet::from([salts(&scene)]);
    for round in 0.. {
        // A commit that is refused ends the test.
        scene.update_rows(100);
        scene.wait_replicated(&site);
        logs.insert(salts(&scene));
        if round >= 8 && logs.len() >= 3 {
            break;
        }
        assert!(
            round < 100,
            "{} frames were written, and the WAL started over {} times",
            round * 200,
            logs.len() - 1
        );
    }
    daemon.terminate(PATIENCE).unwrap();
    let state = scene.restore_and_judge(&product, &site, &[]).unwrap();
    assert_eq!(state.seq, scene.history.committed());
}

/// An idle application costs nothing: no objects appear.
#[test]
fn an_idle_database_stores_nothing() {
    let running = Running::new(60);
    running.scene.checkpoint("PASSIVE");
    std::thread::sleep(Duration::from_millis(500));
    let before = running.site.store.list().unwrap().len();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(running.site.store.list().unwrap().len(), before);
    running.assert_faithful();
}

/// #875: growth, shrinking and growth again between two looks of the replicator.
#[test]
fn growing_and_shrinking_at_once_is_one_state() {
    let mut running = Running::new(61);
    for _ in 0..3 {
        running.scene.execute("DELETE FROM t0 WHERE id > 20", 21..=200);
        running.scene.vacuum();
        running.scene.execute(
            "INSERT INTO t0(id, name, number, body) SELECT id + 20, name, number, randomblob(2500) FROM t0 WHERE id <= 180",
            21..=200,
        );
        running.scene.wait_replicated(&running.site);
    }
    running.assert_faithful();
}

/// Long transactions that spill into the WAL and are rolled back leave frames without a commit (#104).
#[test]
fn uncommitted_frames_are_no_state() {
    let mut settings = Settings::ordinary();
    settings.cache_pages = 10;
    settings.weights.retain(|(action, _)| {
        use conformance::workload::Action;
        matches!(action, Action::RollBack | Action::Savepoint | Action::Insert)
    });
    let mut scene = Scene::new(62, settings);
    let site = scene.directory();
    let product = product(&scene);
    let daemon = product.replicate(&scene.replication(&site)).unwrap();
    for _ in 0..6 {
        scene.steps(5);
        scene.wait_replicated(&site);
    }
    daemon.terminate(PATIENCE).unwrap();
    scene.compare_every_state(&product, &site);
}
