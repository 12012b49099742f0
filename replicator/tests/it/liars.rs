//! A server that lies, while writing or while reading: a restore is a committed state or an error, never a mixture.
//!
//! What cannot be noticed from outside (a write that is acknowledged and thrown away, a listing that hides its end) may
//! cost the newest states; what is there must still be exact.

use std::sync::Arc;
use std::time::Duration;

use conformance::compare;
use conformance::replica::Replica;
use conformance::server::{Fault, Lie, Outcome, RequestFacts, Verb};
use conformance::site::Site;

use crate::scene::{PATIENCE, Scene, product};

const READS: &[(Lie, Verb)] = &[
    (Lie::ShortBody, Verb::GetObject),
    (Lie::IgnoreRange, Verb::GetObject),
    (Lie::ShiftRange, Verb::GetObject),
    (Lie::EmptyForMissing, Verb::GetObject),
    (Lie::WrongEtag, Verb::GetObject),
    (Lie::WrongHeadSize, Verb::HeadObject),
    (Lie::EmptyForMissing, Verb::HeadObject),
    (Lie::UnorderedList, Verb::ListObjects),
    (Lie::EmptyList, Verb::ListObjects),
    (Lie::GapsInList, Verb::ListObjects),
    (Lie::ListStartsOver, Verb::ListObjects),
    (Lie::ListEndsEarly, Verb::ListObjects),
    (Lie::IgnoreStartAfter, Verb::ListObjects),
    (Lie::IgnorePrefix, Verb::ListObjects),
    (Lie::WrongListSize, Verb::ListObjects),
];

const WRITES: &[(Lie, Verb)] = &[
    (Lie::AckWithoutStore, Verb::PutObject),
    (Lie::StoreHalf, Verb::PutObject),
    (Lie::StoreFlippedBit, Verb::PutObject),
    (Lie::LoseMetadata, Verb::PutObject),
    (Lie::IgnoreCondition, Verb::PutObject),
    (Lie::WrongEtag, Verb::PutObject),
    (Lie::BatchDeleteLeavesAll, Verb::DeleteObjects),
];

/// Tells the lie on every second request of its kind, so that a run gets somewhere.
fn lie(site: &Site, lie: Lie, verb: Verb) {
    let told = std::sync::atomic::AtomicU64::new(0);
    let plan = move |request: &RequestFacts| {
        let concerned = request.verb == verb;
        if concerned && told.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1 {
            Outcome::Lie(lie).into()
        } else {
            Fault::default()
        }
    };
    site.server().unwrap().set_faults(Arc::new(plan));
}

fn tell_the_truth(site: &Site) {
    site.server().unwrap().set_faults(Arc::new(|_: &RequestFacts| Fault::default()));
}

/// Restores; a state that came out must be one that was committed. Returns whether there was one.
fn exact_or_refused(scene: &Scene, site: &Site, flags: &[&str], what: &str) -> bool {
    let ours = product(scene);
    let output = ours.folder.join("restored.db");
    let said = ours.restore(site, &output, flags).unwrap();
    if said.code != Some(0) {
        assert!(!output.exists(), "{what}: refused, and left a file: {}", said.output);
        assert!(said.output.contains("Error"), "{what}: refused without a word: {}", said.output);
        return false;
    }
    compare::judge(&output, &scene.history, 0)
        .unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{}", said.output));
    std::fs::remove_file(output).unwrap();
    true
}

#[test]
fn a_server_that_lies_to_a_reader_gives_an_exact_state_or_an_error() {
    let mut scene = Scene::calm(77);
    let site = Site::embedded().unwrap();
    let daemon = product(&scene).replicate(&scene.replication(&site)).unwrap();
    for _ in 0..6 {
        scene.steps(5);
        scene.wait_replicated(&site);
    }
    assert!(daemon.terminate(PATIENCE).unwrap().success(), "{}", scene.logs());
    let newest = Replica::read(&*site.store).unwrap().restorable().last().unwrap().0;
    let newest = format!("{newest:016x}");
    let mut refused = 0;
    for &(told, verb) in READS {
        lie(&site, told, verb);
        exact_or_refused(&scene, &site, &[], &format!("{told:?} on {verb:?}"));
        // A state that is named is that state, whatever the listing says.
        let what = format!("{told:?} on {verb:?}, -txid {newest}");
        let ours = product(&scene);
        let output = ours.folder.join("named.db");
        let said = ours.restore(&site, &output, &["-txid", &newest]).unwrap();
        if said.code == Some(0) {
            let judged = compare::judge(&output, &scene.history, scene.history.acknowledged());
            judged.unwrap_or_else(|wrong| panic!("{what}: {wrong}\n{}", said.output));
            std::fs::remove_file(output).unwrap();
        } else {
            refused += 1;
        }
    }
    assert!(refused > 0, "no lie was told where it matters");
    tell_the_truth(&site);
    scene.restore_and_judge(&product(&scene), &site, &[]).unwrap();
}

#[test]
fn a_server_that_lies_to_a_writer_never_makes_a_restore_wrong() {
    let mut refused = 0;
    for &(told, verb) in WRITES {
        let mut scene = Scene::calm(78);
        let site = Site::embedded().unwrap();
        lie(&site, told, verb);
        let daemon = product(&scene).replicate(&scene.replication(&site)).unwrap();
        for _ in 0..8 {
            scene.steps(4);
            std::thread::sleep(Duration::from_millis(150));
        }
        // Whether a stop can succeed depends on the lie.
        let _ = daemon.terminate(PATIENCE);
        tell_the_truth(&site);
        if !exact_or_refused(&scene, &site, &[], &format!("{told:?} on {verb:?}")) {
            refused += 1;
        }
    }
    assert!(refused > 0, "no lie was told where it matters");
}
