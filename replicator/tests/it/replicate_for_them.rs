//! The product replicates; Litestream 0.5.17 and the product itself restore every point in time of it.

use conformance::site::Site;
use conformance::witness::V0_5_17;
use conformance::workload::Settings;

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
    assert!(status.success(), "{status}");
    // A graceful end replicates what is left.
    let committed = scene.history.committed();
    scene.history.acknowledge(committed).unwrap();
    let litestream = scene.litestream(V0_5_17);
    let count = scene.compare_every_state(&litestream, site);
    assert!(count >= 8, "only {count} states");
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
