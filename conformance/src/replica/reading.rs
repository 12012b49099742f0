//! Reading a replica that may be in use.
//!
//! An object that a running replicator deletes between the listing and the look at it is no defect, and neither is
//! one that could not be read: only what was read can be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::generations::Generations;
use super::{
    Entry, Object, Problem, Replica, SNAPSHOT_LEVEL, States, Store, Unread, hash, level_of, name_of,
};
use crate::{Defect, legacy, ltx};

/// Listings until a replica counts as changing too fast. Each time that something was deleted takes another one.
const MAX_LOOKS: usize = 20;
/// Before something that is listed and absent is looked for again. A running replicator has deleted it, and the next
/// listing says so; where listings lag, a later one does. What is still listed after all of them is lost.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Why there is nothing to judge, or what is wrong with it.
pub(super) enum Failure {
    Unread(Unread),
    Wrong(Defect),
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl From<Defect> for Failure {
    fn from(defect: Defect) -> Self {
        Self::Wrong(defect)
    }
}

impl From<Failure> for Defect {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unread(unread) => unread.into(),
            Failure::Wrong(defect) => defect,
        }
    }
}

/// What became of one object.
#[derive(Default)]
struct Found {
    entry: Option<Entry>,
    problem: Option<Problem>,
}

impl Found {
    fn only(problem: Problem) -> Self {
        Self { entry: None, problem: Some(problem) }
    }
}

/// What was read so far, and is kept from one listing to the next.
#[derive(Default)]
struct Reading {
    /// By what the listing said of each object: one that was written anew is read anew.
    found: BTreeMap<Object, Found>,
    /// In the last listing, and not there: in how many listings up to that one.
    gone: BTreeMap<Object, usize>,
}

/// Reads every object of a replica.
pub(super) fn read(store: &dyn Store) -> Result<Replica<'_>, Defect> {
    read_with(store, &PAUSES)
}

fn read_with<'a>(store: &'a dyn Store, pauses: &[Duration]) -> Result<Replica<'a>, Defect> {
    let mut reading = Reading::default();
    for looks in 1..=MAX_LOOKS {
        match reading.look(store, pauses.len()) {
            Ok(generations) => return Ok(reading.into_replica(store, generations)),
            Err(Unread::Absent(_)) => pause(pauses, reading.missed().unwrap_or(looks)),
            Err(Unread::Failed(defect)) => return Err(defect),
        }
    }
    Err(Defect::new(format!("{} changes faster than it can be read", store.location())))
}

/// The pause after something was missed so many times.
#[expect(clippy::disallowed_methods, reason = "a store outside this process lags in real time")]
fn pause(pauses: &[Duration], missed: usize) {
    if let Some(pause) = pauses.get(missed - 1).or(pauses.last()).filter(|pause| !pause.is_zero()) {
        std::thread::sleep(*pause);
    }
}

impl Reading {
    /// How often in a row the object was missed that was missed most; `None` if it is one of 0.3, which are not counted.
    fn missed(&self) -> Option<usize> {
        self.gone.values().copied().max()
    }

    /// Lists, and reads what is new: everything of LTX, and what the generations of 0.3 lead to. `Absent` if something
    /// has gone since it was listed. What was missed more than `patience` times is broken.
    fn look(&mut self, store: &dyn Store, patience: usize) -> Result<Generations, Unread> {
        let listed: BTreeSet<Object> = store.list().map_err(Unread::Failed)?.into_iter().collect();
        self.found.retain(|object, _| listed.contains(object));
        let before = std::mem::take(&mut self.gone);
        let mut absent = None;
        for object in listed.into_iter().filter(|object| !self.found.contains_key(object)).collect::<Vec<_>>()
        {
            let found = match read_object(store, &object) {
                Err(Unread::Absent(_)) if before.get(&object).is_some_and(|missed| *missed >= patience) => {
                    Found::only(Problem::broken(&object.key, "is listed again and again, and absent"))
                }
                Err(Unread::Absent(what)) => {
                    let missed = before.get(&object).map_or(1, |missed| missed + 1);
                    self.gone.insert(object, missed);
                    absent = Some(Unread::Absent(what));
                    continue;
                }
                found => found?,
            };
            self.found.insert(object, found);
        }
        absent.map_or_else(|| Generations::read(store, self.found.keys()), Err)
    }

    fn into_replica(self, store: &dyn Store, generations: Generations) -> Replica<'_> {
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        if self.found.is_empty() {
            problems.push(Problem::broken(&store.location(), "nothing is stored there"));
        }
        for found in self.found.into_values() {
            entries.extend(found.entry);
            problems.extend(found.problem);
        }
        let states = States::of(&entries, &mut problems);
        Replica { store, entries, generations, problems, states }
    }
}

fn read_object(store: &dyn Store, object: &Object) -> Result<Found, Unread> {
    let Some(level) = level_of(&object.key) else {
        // Objects of 0.3 are read when it is known which belong together.
        let is_known = legacy::parse_key(&object.key).is_some();
        let foreign = || Found::only(Problem::suspicious(&object.key, "no part of a replica has this name"));
        return Ok(if is_known { Found::default() } else { foreign() });
    };
    match read_entry(store, object, level) {
        Ok(entry) => Ok(Found { problem: doubtful_time(&entry), entry: Some(entry) }),
        Err(Failure::Wrong(defect)) => Ok(Found::only(Problem::broken(&object.key, defect.to_string()))),
        Err(Failure::Unread(unread)) => Err(unread),
    }
}

fn read_entry(store: &dyn Store, object: &Object, level: u8) -> Result<Entry, Failure> {
    let bytes = store.get(&object.key)?;
    let file = ltx::parse(&bytes)?;
    let header = file.header;
    let wrong = |what: String| Err(Failure::Wrong(Defect::new(what)));
    let name = (header.min_txid, header.max_txid);
    if name_of(&object.key) != Some(name) {
        return wrong(format!("holds transactions {:016x}-{:016x}", name.0, name.1));
    }
    if level == 0 && name.0 != name.1 {
        return wrong("a level 0 object covers more than one transaction".to_owned());
    }
    if level == SNAPSHOT_LEVEL && name.0 != 1 {
        return wrong("a snapshot does not start at transaction 1".to_owned());
    }
    if object.size != bytes.len() as u64 {
        return wrong(format!("{} bytes were listed, {} were read", object.size, bytes.len()));
    }
    let hashes = file.pages.iter().map(|(number, content)| (*number, hash(content))).collect();
    Ok(Entry { object: object.clone(), level, header, forms: file.forms, hashes })
}

fn doubtful_time(entry: &Entry) -> Option<Problem> {
    let Entry { object, header, .. } = entry;
    let is_doubtful = object.time_is_attached && object.time != Some(header.timestamp);
    let what = || format!("its time {:?} is not that of its header, {}", object.time, header.timestamp);
    is_doubtful.then(|| Problem::suspicious(&object.key, what()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::path::Path;

    use super::*;
    use crate::replica::Directory;

    /// A replica of which something happens to an object when it is read.
    struct Moving<'a> {
        inner: Directory,
        /// Hidden from the listings after it was read so many times, and absent from the first read on.
        deleted: &'a str,
        lists_before: Cell<usize>,
        /// Read with this outcome whatever is there.
        odd: Option<(&'a str, Unread)>,
        reads: RefCell<Vec<String>>,
    }

    impl<'a> Moving<'a> {
        fn new(set: &str, deleted: &'a str) -> Self {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
            Self {
                inner: Directory::new(&golden.join(set)),
                deleted,
                lists_before: Cell::new(1),
                odd: None,
                reads: RefCell::default(),
            }
        }
    }

    impl Store for Moving<'_> {
        fn location(&self) -> String {
            "there".to_owned()
        }

        fn list(&self) -> Result<Vec<Object>, Defect> {
            let mut objects = self.inner.list()?;
            objects.retain(|object| self.lists_before.get() > 0 || object.key != self.deleted);
            Ok(objects)
        }

        fn get(&self, key: &str) -> Result<Vec<u8>, Unread> {
            self.reads.borrow_mut().push(key.to_owned());
            if key == self.deleted {
                self.lists_before.set(self.lists_before.get() - 1);
                return Err(Unread::Absent(Defect::new("gone")));
            }
            match &self.odd {
                Some((odd, unread)) if *odd == key => Err(unread.clone()),
                _ => self.inner.get(key),
            }
        }
    }

    const THIRD: &str = "ltx/0/0000000000000003-0000000000000003.ltx";

    #[test]
    fn what_a_running_replicator_deletes_is_not_missed() {
        let store = Moving::new("0.5.17-4096", THIRD);
        let replica = read(&store).unwrap();
        assert!(replica.report().whole, "{}", replica.report());
        assert_eq!(replica.entries().len(), 9);
        let reads = store.reads.borrow();
        assert_eq!(reads.len(), 10, "each once: {reads:?}");
    }

    #[test]
    fn a_generation_that_is_deleted_meanwhile_is_listed_again() {
        let last = "generations/24a7e1693b7ea52a/wal/00000005_00001038.wal.lz4";
        let store = Moving::new("0.3.13-4096", last);
        let report = read(&store).unwrap().report();
        assert!(report.whole, "{report}");
        assert!(report.legacy[0].bytes.is_some());
    }

    #[test]
    fn what_cannot_be_read_is_not_called_broken() {
        let first = "generations/24a7e1693b7ea52a/snapshots/00000001.snapshot.lz4";
        for (set, key) in [("0.5.17-4096", THIRD), ("0.3.13-4096", first)] {
            let mut store = Moving::new(set, "");
            store.odd = Some((key, Unread::Failed(Defect::new("503 SlowDown"))));
            assert_eq!(read(&store).err().unwrap().to_string(), "503 SlowDown");
        }
    }

    #[test]
    fn what_is_always_listed_and_never_there_is_broken() {
        let mut store = Moving::new("0.5.17-4096", "");
        store.odd = Some((THIRD, Unread::Absent(Defect::new("404"))));
        let report = read_with(&store, &[Duration::ZERO; 6]).unwrap().report();
        assert!(!report.whole && report.to_string().contains("again and again"), "{report}");
        assert_eq!(store.reads.borrow().iter().filter(|key| *key == THIRD).count(), 7);
    }

    #[test]
    fn what_old_listings_still_show_is_not_missed() {
        let store = Moving::new("0.5.17-4096", THIRD);
        // In the listing that came first and in the next three.
        store.lists_before.set(4);
        let report = read_with(&store, &[Duration::ZERO; 6]).unwrap().report();
        assert!(report.whole, "{report}");
        assert_eq!(store.reads.borrow().iter().filter(|key| *key == THIRD).count(), 4);
    }
}
