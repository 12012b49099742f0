//! One replica, several replicators in turn: each goes on where the other stopped.

use conformance::process::{Process, wait_for};
use conformance::replica::Replica;
use conformance::site::Site;
use conformance::witness::{Replicator, V0_3_13, V0_5_15, V0_5_17};

use crate::scene::{PATIENCE, Scene, product};

/// A replicator's turn: it follows the application for a while and is stopped.
fn turn(scene: &mut Scene, site: &Site, with: &Replicator) {
    let daemon = with.replicate(&scene.replication(site)).unwrap();
    for _ in 0..3 {
        scene.steps(5);
        scene.wait_replicated(site);
    }
    daemon.terminate(PATIENCE).unwrap();
}

/// Whoever comes next continues the numbers: nobody starts a chain of his own.
fn newest(site: &Site) -> u64 {
    let report = Replica::read(&*site.store).unwrap().report();
    assert!(report.whole, "{report}");
    let newest = report.restorable.last().map(|point| point.txid.clone()).unwrap();
    u64::from_str_radix(&newest, 16).unwrap()
}

/// The other one, the product, the other one, the product; the application goes on between turns too.
fn in_turns(other: &Replicator, mut scene: Scene, site: &Site, restorers: &[&Replicator]) {
    let product = product(&scene);
    let mut last = 0;
    for with in [other, &product, other, &product] {
        scene.steps(2);
        turn(&mut scene, site, with);
        let now = newest(site);
        assert!(now >= last + 3, "{} went from {last} to {now}", with.binary.display());
        last = now;
        let state = scene.restore_and_judge(restorers[0], site, &[]).unwrap();
        assert_eq!(state.seq, scene.history.committed());
    }
    for restorer in restorers {
        scene.compare_every_state(restorer, site);
    }
}

#[test]
fn with_litestream_0_5_17_in_a_directory() {
    let scene = Scene::calm(41);
    let site = scene.directory();
    let (litestream, product) = (scene.litestream(V0_5_17), product(&scene));
    in_turns(&litestream, scene, &site, &[&litestream, &product]);
}

#[test]
fn with_litestream_0_5_17_over_s3() {
    let (scene, site) = (Scene::calm(42), Site::embedded().unwrap());
    let (litestream, product) = (scene.litestream(V0_5_17), product(&scene));
    in_turns(&litestream, scene, &site, &[&litestream, &product]);
}

/// 0.5.15 cannot read what 0.5.16 and later write, nor what the product writes, so only the product comes after it.
#[test]
fn after_litestream_0_5_15() {
    let mut scene = Scene::calm(43);
    let site = scene.directory();
    let (old, new, product) = (scene.litestream(V0_5_15), scene.litestream(V0_5_17), product(&scene));
    turn(&mut scene, &site, &old);
    let before = newest(&site);
    turn(&mut scene, &site, &product);
    assert!(newest(&site) > before);
    for restorer in [&new, &product] {
        scene.compare_every_state(restorer, &site);
    }
}

/// Beside a 0.3 backup the product starts a chain of its own; the backup stays, and the newer of both is restored.
#[test]
fn after_litestream_0_3_13() {
    let mut scene = Scene::calm(44);
    let site = scene.directory();
    let (old, new, product) = (scene.litestream(V0_3_13), scene.litestream(V0_5_17), product(&scene));
    turn(&mut scene, &site, &old);
    let before = Replica::read(&*site.store).unwrap().report().legacy;
    turn(&mut scene, &site, &product);
    assert_eq!(Replica::read(&*site.store).unwrap().report().legacy, before, "the old backup was touched");
    for restorer in [&new, &product] {
        let state = scene.restore_and_judge(restorer, &site, &[]).unwrap();
        assert_eq!(state.seq, scene.history.committed());
    }
}

/// Litestream deletes from level 0 whatever lies below the end of level 1. The product does not compact its first full
/// copy into level 1, so there has to be a snapshot before there is a level 1. (Without one, every state before
/// Litestream's own first snapshot was lost, and the newest one too if that snapshot failed.)
#[test]
fn what_litestreams_retention_deletes_was_no_longer_needed() {
    let mut scene = Scene::calm(45);
    let site = scene.directory();
    let (litestream, product) = (scene.litestream(V0_5_17), product(&scene));
    let replica = scene.path("replica");
    let level = |level: u8| -> Vec<String> {
        let folder = replica.join(format!("ltx/{level}"));
        let names = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let config = |scene: &Scene, l0_retention: &str| {
        let text = format!(
            "l0-retention: {l0_retention}\nl0-retention-check-interval: 1s\nlevels: [{{interval: 1s}}, {{interval: 4s}}]\n\
             dbs:\n- path: {}\n  monitor-interval: 100ms\n  replica: {{type: file, path: {}, sync-interval: 50ms}}\n",
            scene.database().display(),
            scene.path("replica").display()
        );
        std::fs::write(scene.path("short.yml"), text).unwrap();
    };
    let start = |scene: &Scene, with: &Replicator| {
        let mut command = std::process::Command::new(&with.binary);
        command.args(["replicate", "-config"]).arg(scene.path("short.yml"));
        Process::start(&mut command, &with.folder.join("replicate.log")).unwrap()
    };
    config(&scene, "1h");
    let daemon = start(&scene, &product);
    wait_for("two files in level 1", PATIENCE, || {
        scene.steps(1);
        assert!(level(1).is_empty() || !level(9).is_empty(), "level 1 came before a snapshot");
        (level(1).len() >= 2).then_some(())
    })
    .unwrap();
    scene.wait_replicated(&site);
    daemon.terminate(PATIENCE).unwrap();
    let first_snapshot = level(9)[0].clone();
    let states = |level1: Vec<String>| -> Vec<String> {
        level1
            .iter()
            .map(|name| name[17..33].to_owned())
            .filter(|txid| **txid > first_snapshot[17..33])
            .collect()
    };
    let promised = states(level(1));
    assert!(!promised.is_empty());

    config(&scene, "1s");
    let daemon = start(&scene, &litestream);
    wait_for("Litestream's retention", PATIENCE, || {
        scene.steps(1);
        std::thread::sleep(std::time::Duration::from_millis(300));
        (!level(0).iter().any(|name| name.starts_with("0000000000000001-"))).then_some(())
    })
    .unwrap();
    scene.wait_replicated(&site);
    daemon.terminate(PATIENCE).unwrap();
    for restorer in [&litestream, &product] {
        for txid in &promised {
            std::fs::remove_file(scene.restore(restorer, &site, &["-txid", txid])).unwrap();
        }
        let state = scene.restore_and_judge(restorer, &site, &[]).unwrap();
        assert_eq!(state.seq, scene.history.committed());
    }
    assert!(level(9).contains(&first_snapshot), "{:?}", level(9));
}
