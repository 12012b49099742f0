//! Litestream against the judge, without the product: the harness works, and it sees the defects it is there to see.

use std::time::Duration;

use conformance::compare::Wrong;
use conformance::site::Site;
use conformance::witness::{V0_3_13, V0_5_15, V0_5_17};

use crate::scene::{PATIENCE, Scene};

/// Litestream replicates a busy application, is killed, goes on; every state it restores is judged.
fn replicates_what_the_judge_accepts(version: &str, mut scene: Scene, site: &Site) {
    let litestream = scene.litestream(version);
    let daemon = litestream.replicate(&scene.replication(site)).unwrap();
    scene.steps(15);
    scene.wait_replicated(site);
    daemon.kill().unwrap();
    scene.steps(5);
    let daemon = litestream.replicate(&scene.replication(site)).unwrap();
    for _ in 0..4 {
        scene.steps(3);
        scene.wait_replicated(site);
    }
    daemon.terminate(PATIENCE).unwrap();
    let count = scene.compare_every_state(&litestream, site);
    assert!(count >= 5, "only {count} states");
}

#[test]
fn litestream_0_5_15_is_judged_faithful() {
    let scene = Scene::calm(1);
    let site = scene.directory();
    replicates_what_the_judge_accepts(V0_5_15, scene, &site);
}

#[test]
fn litestream_0_5_17_is_judged_faithful_over_s3() {
    replicates_what_the_judge_accepts(V0_5_17, Scene::calm(2), &Site::embedded().unwrap());
}

#[test]
fn litestream_0_3_13_is_judged_faithful() {
    let mut scene = Scene::calm(3);
    let litestream = scene.litestream(V0_3_13);
    let site = scene.directory();
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

/// Litestream is down while the application checkpoints and restarts its WAL: 0.5.17 takes the shorter new WAL for a
/// continuation and never reads what was in between.
#[test]
fn the_judge_sees_frames_lost_while_litestream_0_5_17_was_down() {
    let mut scene = Scene::calm(4);
    scene.insert_large_rows(200);
    let litestream = scene.litestream(V0_5_17);
    let site = scene.directory();
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    // About 600 frames are replicated, less than any checkpoint needs.
    scene.update_rows(200);
    scene.wait_replicated(&site);
    daemon.kill().unwrap();
    // The application checkpoints at 1000 frames and starts its WAL over.
    scene.update_rows(200);
    scene.update_rows(40);
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
    scene.insert_large_rows(400);
    let litestream = scene.litestream(V0_5_17);
    let site = scene.directory();
    let daemon = litestream.replicate(&scene.replication(&site)).unwrap();
    scene.wait_replicated(&site);
    scene.replace_database(|scene| scene.insert_large_rows(100));
    std::thread::sleep(Duration::from_secs(1));
    scene.start_app();
    scene.update_rows(20);
    std::thread::sleep(Duration::from_secs(1));
    daemon.terminate(PATIENCE).unwrap();
    let judged = scene.restore_and_judge(&litestream, &site, &[]);
    assert!(
        matches!(judged, Err(Wrong::Mixture { .. } | Wrong::Damaged(_) | Wrong::Unreadable(_))),
        "{judged:?}"
    );
}
