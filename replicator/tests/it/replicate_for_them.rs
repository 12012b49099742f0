//! The product replicates; Litestream 0.5.17 and the product itself restore every point in time of it.

use conformance::replica::Replica;
use conformance::site::Site;
use conformance::witness::V0_5_17;
use conformance::workload::Settings;

use crate::restore_theirs::compare_every_moment;
use crate::scene::{PATIENCE, Scene, product};

/// The product follows an application that checkpoints, vacuums and restarts as it likes, and is killed in between.
fn every_state(mut scene: Scene, site: &Site) {
    let product = product(&scene);
    let replication = scene.replication(site);
    let daemon = product.replicate(&replication).unwrap();
    for _ in 0..4 {
        scene.steps(8);
        scene.wait_replicated(site);
    }
    scene.stop_app();
    scene.start_app();
    scene.steps(8);
    daemon.kill().unwrap();
    scene.steps(12);
    let daemon = product.replicate(&replication).unwrap();
    scene.wait_replicated(site);
    for _ in 0..4 {
        scene.steps(5);
        scene.wait_replicated(site);
    }
    scene.steps(5);
    let status = daemon.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status}\n{}", scene.logs());
    // A graceful end replicates what is left.
    let committed = scene.history.committed();
    scene.history.acknowledge(committed).unwrap();
    let litestream = scene.litestream(V0_5_17);
    let count = scene.compare_every_state(&litestream, site);
    assert!(count >= 8, "only {count} states");
    if site.server().is_none() {
        // On S3, 0.5.17 dates files by their upload, its own too: moments are not comparable there.
        compare_every_moment(&scene, &litestream, site);
    }
    for restorer in [&litestream, &product] {
        let state = scene.restore_and_judge(restorer, site, &[]).unwrap();
        assert_eq!(state.seq, committed);
    }
}

#[test]
fn to_a_directory() {
    let scene = Scene::new(31, Settings::ordinary());
    let site = scene.directory();
    every_state(scene, &site);
}

#[test]
fn over_s3() {
    every_state(Scene::new(32, Settings::ordinary()), &Site::embedded().unwrap());
}

#[test]
fn with_pages_of_512_and_of_65536_bytes() {
    for page_size in [512, 65536] {
        let mut settings = Settings::ordinary();
        settings.page_size = page_size;
        settings.cache_pages = 10;
        let scene = Scene::new(33, settings);
        let site = scene.directory();
        every_state(scene, &site);
    }
}

#[test]
fn with_a_drawn_application() {
    for seed in [34, 35] {
        let scene = Scene::new(seed, Settings::from_seed(seed));
        let site = scene.directory();
        every_state(scene, &site);
    }
}

/// Levels, snapshots and retention in seconds instead of hours: whatever is left at any moment, each state of it is
/// restored by both.
#[test]
fn what_compaction_and_retention_leave() {
    let mut scene = Scene::new(36, Settings::ordinary());
    let site = scene.directory();
    let product = product(&scene);
    let mut replication = scene.replication(&site);
    let short = ["levels: [{interval: 1s}, {interval: 2s}]", "snapshot: {interval: 2s, retention: 3s}"];
    replication.top_lines.extend(short.map(str::to_owned));
    replication
        .top_lines
        .extend(["l0-retention: 1s", "l0-retention-check-interval: 500ms"].map(str::to_owned));
    let daemon = product.replicate(&replication).unwrap();
    for _ in 0..18 {
        scene.steps(3);
        scene.wait_replicated(&site);
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    daemon.terminate(PATIENCE).unwrap();
    let report = Replica::read(&*site.store).unwrap().report();
    let files =
        |level| report.levels.iter().find(|found| found.level == level).map_or(0, |found| found.files);
    let merged = report.restorable.first().unwrap().txid != format!("{:016x}", 1);
    assert!(files(1) > 0 && files(9) > 1 && merged, "{report}");
    let litestream = scene.litestream(V0_5_17);
    for restorer in [&litestream, &product] {
        scene.compare_every_state(restorer, &site);
    }
}
