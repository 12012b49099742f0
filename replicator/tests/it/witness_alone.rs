//! Litestream against the judge, without the product: the harness works, and it sees the defects it is there to see.

use std::time::Duration;

use conformance::compare::Wrong;
use conformance::witness::{V0_3_13, V0_5_15, V0_5_17};

use crate::scene::{PATIENCE, Scene, Site};

/// Litestream replicates a busy application, is killed, goes on; every state it restores is judged.
fn replicates_what_the_judge_accepts(version: &str, mut scene: Scene, site: &Site) {
    let litestream = scene.litestream(version);
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    scene.steps(15);
    scene.wait_replicated(&site);
    daemon.kill().unwrap();
    scene.steps(5);
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    for _ in 0..4 {
        scene.steps(3);
        scene.wait_replicated(&site);
    }
    daemon.terminate(PATIENCE).unwrap();
    let count = scene.compare_every_state(&litestream, &site);
    assert!(count >= 5, "only {count} states");
}

#[test]
fn litestream_0_5_15_is_judged_faithful() {
    let scene = Scene::calm(1);
    let site = Site::directory(&scene);
    replicates_what_the_judge_accepts(V0_5_15, scene, &site);
}

#[test]
fn litestream_0_5_17_is_judged_faithful_over_s3() {
    replicates_what_the_judge_accepts(V0_5_17, Scene::calm(2), &Site::s3());
}

#[test]
fn litestream_0_3_13_is_judged_faithful() {
    let mut scene = Scene::calm(3);
    let litestream = scene.litestream(V0_3_13);
    let site = Site::directory(&scene);
    let mut replication = scene.replication(&site);
    replication.database_lines.push("min-checkpoint-page-count: 20".to_owned());
    let daemon = litestream.replicate(&replication).unwrap();
    for _ in 0..5 {
        scene.steps(6);
        scene.wait_replicated(&site);
    }
    daemon.terminate(PATIENCE).unwrap();
    let state = scene.restore_and_judge(&litestream, &site, &[]).unwrap();
    assert_eq!(state.seq, scene.history.committed());
}

/// Rows that fill a page each, so that every update is a frame of its own page.
fn insert_large_rows(scene: &mut Scene, count: i64) {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count})
         INSERT INTO t0(id, name, number, body) SELECT i, 'first', i, randomblob(2500) FROM n"
    );
    scene.execute(&sql, 1..=count);
}

/// Updates rows, each in a commit of its own: one frame for the row, one for the mark.
fn update_rows(scene: &mut Scene, count: i64) {
    for id in 1..=count {
        scene.execute(
            &format!("UPDATE t0 SET number = number + 1, body = randomblob(2500) WHERE id = {id}"),
            id..=id,
        );
    }
}

/// Litestream is down while the application checkpoints and restarts its WAL: 0.5.17 takes the shorter new WAL for a
/// continuation and never reads what was in between.
#[test]
fn the_judge_sees_frames_lost_while_litestream_0_5_17_was_down() {
    let mut scene = Scene::calm(4);
    insert_large_rows(&mut scene, 200);
    let litestream = scene.litestream(V0_5_17);
    let site = Site::directory(&scene);
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    // About 600 frames are replicated, less than any checkpoint needs.
    update_rows(&mut scene, 200);
    scene.wait_replicated(&site);
    daemon.kill().unwrap();
    // The application checkpoints at 1000 frames and starts its WAL over.
    update_rows(&mut scene, 200);
    update_rows(&mut scene, 40);
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    scene.wait_replicated(&site);
    daemon.terminate(PATIENCE).unwrap();
    let wrong = scene.restore_and_judge(&litestream, &site, &[]).unwrap_err();
    assert!(matches!(wrong, Wrong::Mixture { .. } | Wrong::Damaged(_)), "{wrong}");
}

/// The database is replaced by a smaller one: 0.5.17 lays the new file's pages over the old base.
#[test]
fn the_judge_sees_the_chimera_of_a_replaced_file_that_litestream_0_5_17_makes() {
    let mut scene = Scene::calm(5);
    insert_large_rows(&mut scene, 400);
    let litestream = scene.litestream(V0_5_17);
    let site = Site::directory(&scene);
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    scene.wait_replicated(&site);
    scene.replace_database(|scene| insert_large_rows(scene, 100));
    std::thread::sleep(Duration::from_secs(1));
    scene.start_app();
    update_rows(&mut scene, 20);
    std::thread::sleep(Duration::from_secs(1));
    daemon.terminate(PATIENCE).unwrap();
    let judged = scene.restore_and_judge(&litestream, &site, &[]);
    assert!(
        matches!(judged, Err(Wrong::Mixture { .. } | Wrong::Damaged(_) | Wrong::Unreadable(_))),
        "{judged:?}"
    );
}
