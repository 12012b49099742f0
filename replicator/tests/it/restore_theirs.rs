//! Litestream replicated; the product restores every point in time of it.

use conformance::compare;
use conformance::replica::{Directory, Embedded, Replica};
use conformance::site::Site;
use conformance::witness::{Replicator, V0_3_13, V0_5_15, V0_5_17};
use jiff::Timestamp;

use crate::scene::{PATIENCE, Scene, product};

/// Litestream replicates a busy application, is killed once, and is stopped.
fn replicate(litestream: &Replicator, scene: &mut Scene, site: &Site, database_lines: &[&str]) {
    let mut replication = scene.replication(site);
    replication.database_lines.extend(database_lines.iter().map(|line| (*line).to_owned()));
    let daemon = litestream.replicate(&replication).unwrap();
    for _ in 0..4 {
        scene.steps(6);
        scene.wait_replicated(site);
    }
    daemon.kill().unwrap();
    let daemon = litestream.replicate(&replication).unwrap();
    for _ in 0..3 {
        scene.steps(4);
        scene.wait_replicated(site);
    }
    daemon.terminate(PATIENCE).unwrap();
}

/// The moment of every state, which is too early for it, and just after it, up to the newest: what a moment in the
/// future means is not for this test to say.
pub fn compare_every_moment(scene: &Scene, with: &Replicator, site: &Site) {
    let replica = Replica::read(&*site.store).unwrap();
    let moments: Vec<i64> = replica.restorable().map(|(_, time)| time).collect();
    let newest = moments.iter().max().copied().unwrap();
    for moment in moments.iter().flat_map(|time| [*time, *time + 1]).filter(|moment| *moment <= newest) {
        let Some(expected) = replica.before(moment) else { continue };
        let image = replica.restore(expected).unwrap();
        let text = Timestamp::from_millisecond(moment).unwrap().to_string();
        let output = scene.restore(with, site, &["-timestamp", &text]);
        let restored = std::fs::read(&output).unwrap();
        std::fs::remove_file(output).unwrap();
        compare::same_pages(image.page_size, &image.bytes, &restored)
            .unwrap_or_else(|difference| panic!("{text}, transaction {expected:016x}: {difference}"));
    }
}

fn every_state_and_moment(version: &str, mut scene: Scene, site: &Site) {
    let litestream = scene.litestream(version);
    replicate(&litestream, &mut scene, site, &[]);
    let product = product(&scene);
    let count = scene.compare_every_state(&product, site);
    assert!(count >= 6, "only {count} states");
    compare_every_moment(&scene, &product, site);
    let state = scene.restore_and_judge(&product, site, &[]).unwrap();
    assert_eq!(state.seq, scene.history.committed());
}

#[test]
fn from_litestream_0_5_15_in_a_directory() {
    let scene = Scene::calm(21);
    let site = scene.directory();
    every_state_and_moment(V0_5_15, scene, &site);
}

#[test]
fn from_litestream_0_5_15_over_s3() {
    every_state_and_moment(V0_5_15, Scene::calm(22), &Site::embedded().unwrap());
}

#[test]
fn from_litestream_0_5_17_in_a_directory() {
    let scene = Scene::calm(23);
    let site = scene.directory();
    every_state_and_moment(V0_5_17, scene, &site);
}

#[test]
fn from_litestream_0_5_17_over_s3() {
    every_state_and_moment(V0_5_17, Scene::calm(24), &Site::embedded().unwrap());
}

/// The newest state, page by page as the judge restores it.
fn newest_of_0_3(mut scene: Scene, site: &Site) {
    let litestream = scene.litestream(V0_3_13);
    replicate(&litestream, &mut scene, site, &["min-checkpoint-page-count: 20"]);
    let replica = Replica::read(&*site.store).unwrap();
    let (generation, snapshot) = replica.newest_legacy().unwrap();
    let image = replica.restore_legacy(generation, snapshot).unwrap();
    let restored = scene.restore(&product(&scene), site, &[]);
    compare::same_pages(4096, &image, &std::fs::read(&restored).unwrap()).unwrap();
    let state = compare::judge(&restored, &scene.history, scene.history.committed()).unwrap();
    assert_eq!(state.seq, scene.history.committed());
}

#[test]
fn from_litestream_0_3_13_in_a_directory() {
    let scene = Scene::calm(25);
    let site = scene.directory();
    newest_of_0_3(scene, &site);
}

#[test]
fn from_litestream_0_3_13_over_s3() {
    newest_of_0_3(Scene::calm(26), &Site::embedded().unwrap());
}

/// 0.3 cleans the path that LTX keys are joined with as it is: at the root of a bucket and behind a path with a slash at
/// its end its keys are where LTX keys are not.
#[test]
fn from_litestream_0_3_13_at_the_root_and_below_a_path_with_a_slash() {
    for (seed, path, stored, in_url) in
        [(27, None, "", ""), (28, None, "", "/"), (29, Some("app/"), "app", "/app/")]
    {
        let mut scene = Scene::calm(seed);
        let mut site = Site::embedded().unwrap();
        site.lines.retain(|line| !line.starts_with("path: "));
        site.lines.extend(path.map(|path| format!("path: {path}")));
        site.store = Box::new(Embedded::new(site.server().unwrap(), "backups", stored));
        site.url = site.url.replace("/some/app?", &format!("{in_url}?"));
        replicate(&scene.litestream(V0_3_13), &mut scene, &site, &[]);
        let (theirs, product) = (scene.litestream(V0_5_17), product(&scene));
        for restorer in [&theirs, &product] {
            let state = scene.restore_and_judge(restorer, &site, &[]).unwrap();
            assert_eq!(state.seq, scene.history.committed(), "{path:?} {in_url:?}");
        }
        // As it is configured, too.
        let text = scene.replication(&site).text(product.dialect);
        std::fs::write(scene.path("configured.yml"), text).unwrap();
        let mut command = std::process::Command::new(&product.binary);
        command.args(["restore", "-if-replica-exists", "-config"]).arg(scene.path("configured.yml"));
        command
            .envs(site.environment.iter().cloned())
            .arg("-o")
            .arg(scene.path("out.db"))
            .arg(scene.database());
        let said = command.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let state = compare::judge(&scene.path("out.db"), &scene.history, scene.history.committed()).unwrap();
        assert_eq!(state.seq, scene.history.committed());
    }
}

/// Litestream takes the URL as it is escaped for the name of the directory.
#[test]
fn from_a_file_url_that_names_another_directory_to_litestream() {
    let mut scene = Scene::calm(30);
    let mut site = Site::directory(&scene.path("My Backups"));
    site.store = Box::new(Directory::new(&scene.path("My%20Backups")));
    let url = site.url.clone();
    site.lines = vec![format!("url: {url}")];
    replicate(&scene.litestream(V0_5_17), &mut scene, &site, &[]);
    let product = product(&scene);
    let said = product.restore(&site, &scene.path("out.db"), &["-if-replica-exists"]).unwrap();
    assert_eq!(said.code, Some(1), "{}", said.output);
    assert!(said.output.contains("My%20Backups"), "{}", said.output);
    site.url = url.replace(' ', "%20");
    let state = scene.restore_and_judge(&product, &site, &[]).unwrap();
    assert_eq!(state.seq, scene.history.committed());
}
