//! The workload knows its own state, repeats itself, and its history survives a kill.

use super::*;
use crate::compare::judge_image;

fn open(folder: &tempfile::TempDir) -> Connection {
    Connection::open(folder.path().join("app.db")).unwrap()
}

fn run(seed: u64, steps: usize) -> (tempfile::TempDir, Workload, History) {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::new();
    let mut app = Workload::start(open(&folder), Settings::from_seed(seed), seed, 0, &mut history).unwrap();
    for _ in 0..steps {
        app.step(&mut history).unwrap();
    }
    (folder, app, history)
}

#[test]
fn the_tracked_digest_is_that_of_the_file_after_every_action() {
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::new();
        let mut app =
            Workload::start(open(&folder), Settings::from_seed(seed), seed, 0, &mut history).unwrap();
        for step in 0..40 {
            let action = app.step(&mut history).unwrap();
            let digest = Digest::of(app.db()).unwrap();
            assert_eq!(history.state(app.seq()), Some(digest), "seed {seed}, step {step}, {action:?}");
        }
    }
}

#[test]
fn every_action_can_be_performed_alone() {
    let (_folder, mut app, mut history) = run(1, 5);
    for (action, _) in Action::ALL.into_iter().chain(Action::ALL) {
        app.perform(action, &mut history).unwrap();
        assert_eq!(history.state(app.seq()), Some(Digest::of(app.db()).unwrap()), "{action:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    let (_first, app, history) = run(7, 60);
    let (_second, again, repeated) = run(7, 60);
    assert_eq!(app.seq(), again.seq());
    assert_eq!(history.state(app.seq()), repeated.state(app.seq()));
    let (_third, other, different) = run(8, 60);
    assert_ne!(history.state(app.seq()), different.state(other.seq()));
}

#[test]
fn it_goes_on_where_it_was_left() {
    let (folder, app, mut history) = run(3, 30);
    let (seq, before) = (app.seq(), history.committed());
    app.close().unwrap();
    let mut app = Workload::start(open(&folder), Settings::from_seed(3), 4, 0, &mut history).unwrap();
    assert_eq!((app.seq(), history.committed()), (seq, before));
    for _ in 0..20 {
        app.step(&mut history).unwrap();
    }
    app.close().unwrap();
    let image = std::fs::read(folder.path().join("app.db")).unwrap();
    let state = judge_image(&image, &history, history.committed()).unwrap();
    assert_eq!(state.seq, history.committed());
}

#[test]
fn a_commit_without_an_answer_is_found_at_the_next_start() {
    let (folder, mut app, mut history) = run(5, 10);
    app.transaction(&mut history, |_| Ok(())).unwrap();
    let seq = app.seq();
    app.close().unwrap();
    // The same history as a kill between COMMIT and its note would have left it.
    let mut cut = History::new();
    for known in 1..=seq {
        cut.intend(known, history.state(known).unwrap()).unwrap();
    }
    cut.commit(seq - 1).unwrap();
    Workload::start(open(&folder), Settings::from_seed(5), 6, 0, &mut cut).unwrap();
    assert_eq!(cut.committed(), seq);
}

#[test]
fn a_database_that_takes_anothers_place_continues_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = History::new();
    let app = Workload::start(open(&folder), Settings::ordinary(), 1, 500, &mut history).unwrap();
    assert_eq!((app.seq(), history.committed()), (500, 500));
}

#[test]
fn a_history_survives_a_cut_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let mut history = History::open(&path).unwrap();
    history.intend(1, Digest(7)).unwrap();
    history.commit(1).unwrap();
    history.acknowledge(1).unwrap();
    history.intend(2, Digest(8)).unwrap();
    drop(history);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    let mut history = History::open(&path).unwrap();
    assert_eq!((history.intended(), history.committed(), history.acknowledged()), (1, 1, 1));
    // The next line must not be glued to the cut one.
    history.intend(2, Digest(9)).unwrap();
    drop(history);
    assert_eq!(History::load(&path).unwrap().state(2), Some(Digest(9)));
}
