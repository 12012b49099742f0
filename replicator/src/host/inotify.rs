//! [`Watch`] on Linux: one inotify descriptor for all watched files.
//!
//! Watches are one-shot and armed anew once they have fired, so a busy log costs one event per look, not one per
//! write, and a log that nobody writes costs nothing. Beside writes they report that a name is gone: a file that is
//! replaced by a rename or removed loses a link, which counts as a change of its attributes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::{BoxFuture, Watch, Watcher};

/// Threads that add watches at once. Adding one looks up a path, which hangs with the file system: then those who wait
/// for a turn find changes at their intervals, and the other threads of the pool go on copying.
const ADDING: usize = 2;

/// Events remembered for which nobody waited. Between the system's answer to who adds a watch and the entry for it lie
/// microseconds.
const EARLY: usize = 1024;

/// Watches files of this machine. Creates its descriptor at the first watch, inside the tokio runtime.
pub struct InotifyWatch {
    hub: Mutex<Option<Arc<Hub>>>,
    add: Add,
}

/// Adds a watch for one event. Blocks.
type Add = Arc<dyn Fn(&mut Watches, &Path) -> io::Result<WatchDescriptor> + Send + Sync>;

impl Default for InotifyWatch {
    fn default() -> Self {
        let gone = WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let mask = WatchMask::MODIFY | gone | WatchMask::ONESHOT;
        Self::new(move |watches, path| watches.add(path, mask))
    }
}

impl InotifyWatch {
    fn new(add: impl Fn(&mut Watches, &Path) -> io::Result<WatchDescriptor> + Send + Sync + 'static) -> Self {
        Self { hub: Mutex::default(), add: Arc::new(add) }
    }
}

struct Hub {
    watches: Watches,
    waiting: Mutex<Waiting>,
    add: Add,
    turns: Arc<Semaphore>,
}

/// Who waits for which event.
#[derive(Default)]
struct Waiting {
    armed: BTreeMap<i32, Arc<Notify>>,
    /// Watches whose event nobody waited for, the latest last: it may have come before the entry of who waits for it.
    /// They are gone with their event, and the system does not use their numbers again.
    early: VecDeque<i32>,
}

impl Waiting {
    fn insert(&mut self, watch: i32, notify: Arc<Notify>) {
        if self.early.contains(&watch) {
            notify.notify_one();
        } else {
            self.armed.insert(watch, notify);
        }
    }

    fn fired(&mut self, watch: i32) {
        if let Some(notify) = self.armed.remove(&watch) {
            notify.notify_one();
            return;
        }
        if self.early.len() == EARLY {
            self.early.pop_front();
        }
        self.early.push_back(watch);
    }
}

impl Hub {
    fn start(add: Add) -> io::Result<Arc<Self>> {
        let inotify = Inotify::init()?;
        let (watches, turns) = (inotify.watches(), Arc::new(Semaphore::new(ADDING)));
        let hub = Arc::new(Self { watches, waiting: Mutex::default(), add, turns });
        // SAFETY: an `Inotify` owns one open descriptor and returns it until it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        let events = events.map_err(|error| io::Error::other(error.to_string()))?;
        tokio::spawn(dispatch(Arc::clone(&hub), events));
        Ok(hub)
    }

    /// Never held over anything that may block: async tasks take it, too.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while holding the map")
    }

    /// Whether the event has not fired yet.
    fn is_armed(&self, descriptor: &WatchDescriptor) -> bool {
        self.waiting().armed.contains_key(&descriptor.get_watch_descriptor_id())
    }

    /// Arms one event for `path`. Blocks. If nobody wants it any more the watch stays until it fires.
    fn arm(&self, path: &Path, notify: &Weak<Notify>) -> Option<WatchDescriptor> {
        let descriptor = (self.add)(&mut self.watches.clone(), path).ok()?;
        self.waiting().insert(descriptor.get_watch_descriptor_id(), notify.upgrade()?);
        Some(descriptor)
    }
}

async fn dispatch(hub: Arc<Hub>, mut events: AsyncFd<Inotify>) {
    let mut buffer = vec![0; 64 << 10];
    // An error ends notification; everything is then found at the intervals, as on other systems.
    while let Ok(mut guard) = events.readable_mut().await {
        let read = guard.try_io(|inotify| inotify.get_mut().read_events(&mut buffer));
        let Ok(Ok(read)) = read else { continue };
        let mut waiting = hub.waiting();
        for event in read {
            waiting.fired(event.wd.get_watch_descriptor_id());
        }
    }
}

struct InotifyWatcher {
    hub: Arc<Hub>,
    files: Vec<(PathBuf, Option<WatchDescriptor>)>,
    notify: Arc<Notify>,
    /// Under way, perhaps since an earlier call.
    adding: Option<JoinHandle<Vec<Added>>>,
}

/// The index of a file, and its watch, if it can be watched.
type Added = (usize, Option<WatchDescriptor>);

impl InotifyWatcher {
    /// Files whose event has fired, or that are not watched yet.
    fn unarmed(&self) -> Vec<(usize, PathBuf)> {
        let is_armed =
            |armed: &Option<WatchDescriptor>| armed.as_ref().is_some_and(|it| self.hub.is_armed(it));
        let unarmed = self.files.iter().enumerate().filter(|(_, (_, armed))| !is_armed(armed));
        unarmed.map(|(index, (path, _))| (index, path.clone())).collect()
    }

    fn add(&self, files: Vec<(usize, PathBuf)>, turn: OwnedSemaphorePermit) -> JoinHandle<Vec<Added>> {
        // Weak, so that what comes late does not take the place of the watcher that came after this one.
        let (hub, notify) = (Arc::clone(&self.hub), Arc::downgrade(&self.notify));
        #[expect(clippy::disallowed_methods, reason = "part of the host")]
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            files.into_iter().map(|(index, path)| (index, hub.arm(&path, &notify))).collect()
        })
    }
}

impl Watch for InotifyWatch {
    fn watch(&self, paths: &[PathBuf]) -> Option<Box<dyn Watcher>> {
        let mut hub = self.hub.lock().expect("nothing panics while holding the hub");
        if hub.is_none() {
            *hub = Hub::start(Arc::clone(&self.add)).ok();
        }
        let hub = Arc::clone(hub.as_ref()?);
        let files = paths.iter().map(|path| (path.clone(), None)).collect();
        Some(Box::new(InotifyWatcher { hub, files, notify: Arc::default(), adding: None }))
    }
}

impl Watcher for InotifyWatcher {
    fn arm(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // What is still armed from an earlier wait reports what changes from now on as well.
            let unarmed = self.unarmed();
            if self.adding.is_none() && !unarmed.is_empty() {
                let turn = Arc::clone(&self.hub.turns).acquire_owned().await;
                self.adding = turn.ok().map(|turn| self.add(unarmed, turn));
            }
            if let Some(adding) = &mut self.adding {
                let added = adding.await;
                self.adding = None;
                for (index, armed) in added.unwrap_or_default() {
                    self.files[index].1 = armed;
                }
            }
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.notify.notified())
    }

    fn is_complete(&self) -> bool {
        self.files.iter().all(|(_, armed)| armed.is_some())
    }
}

impl Drop for InotifyWatcher {
    fn drop(&mut self) {
        for descriptor in self.files.drain(..).filter_map(|(_, armed)| armed) {
            self.hub.waiting().armed.remove(&descriptor.get_watch_descriptor_id());
            // It fails if the watch has fired already.
            let _ = self.hub.watches.clone().remove(descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::{OpenMode, os};

    #[tokio::test]
    async fn a_write_is_reported_once_per_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-wal");
        let file = os::host().disk.open(&path, OpenMode::Create).unwrap();
        let watch = InotifyWatch::default();
        let mut watcher = watch.watch(std::slice::from_ref(&path)).unwrap();
        let quiet = Duration::from_millis(50);
        watcher.arm().await;
        assert!(tokio::time::timeout(quiet, watcher.changed()).await.is_err(), "nothing happened");
        assert!(watcher.is_complete());
        for _ in 0..3 {
            watcher.arm().await;
            let changed = watcher.changed();
            file.write_all_at(b"x", 0).unwrap();
            file.write_all_at(b"y", 0).unwrap();
            tokio::time::timeout(Duration::from_secs(5), changed).await.unwrap();
        }
    }

    /// Whoever relies on notification examines the names of the files only seldom.
    #[tokio::test]
    async fn a_file_that_loses_its_name_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let disk = os::host().disk;
        let create = |name: &str| disk.open(&path(name), OpenMode::Create).unwrap();
        // Held open, as we hold databases: then nothing is deleted, and only the number of links changes.
        let _held = [create("db"), create("db-wal")];
        let watch = InotifyWatch::default();
        let mut watcher = watch.watch(&[path("db"), path("db-wal")]).unwrap();
        let changes: [(&str, &dyn Fn()); 4] = [
            ("replaced", &|| {
                create("new");
                disk.rename(&path("new"), &path("db")).unwrap();
            }),
            ("moved away", &|| disk.rename(&path("db"), &path("old")).unwrap()),
            ("removed", &|| disk.remove_file(&path("db-wal")).unwrap()),
            ("written again", &|| create("db").write_all_at(b"x", 0).unwrap()),
        ];
        for (what, change) in changes {
            watcher.arm().await;
            let changed = watcher.changed();
            change();
            let reported = tokio::time::timeout(Duration::from_secs(5), changed).await;
            assert!(reported.is_ok(), "{what}");
            if what == "moved away" {
                create("db");
            }
        }
        watcher.arm().await;
        assert!(!watcher.is_complete(), "the removed file cannot be watched");
    }

    /// The lookup of a path on a network file system that is away used to hold a worker of the runtime, and the lock that
    /// all watchers take, the other one.
    #[test]
    fn a_file_system_that_hangs_holds_up_only_its_own_watcher() {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let (hang, inner) = (Mutex::new(hang), InotifyWatch::default());
        let watch = InotifyWatch::new(move |watches, path| {
            if path.ends_with("hanging") {
                // Ends when the other side is gone.
                let _ = hang.lock().unwrap().recv();
            }
            (inner.add)(watches, path)
        });
        let (done, is_done) = std::sync::mpsc::channel();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let mut hanging = watch.watch(&[path("hanging")]).unwrap();
            let soon = Duration::from_millis(20);
            for _ in 0..2 * ADDING {
                assert!(tokio::time::timeout(soon, hanging.arm()).await.is_err());
            }
            assert!(!hanging.is_complete());
            let file = os::host().disk.open(&path("sound"), OpenMode::Create).unwrap();
            let mut sound = watch.watch(&[path("sound")]).unwrap();
            sound.arm().await;
            file.write_all_at(b"x", 0).unwrap();
            sound.changed().await;
            done.send(()).unwrap();
        });
        let in_time = is_done.recv_timeout(Duration::from_secs(10));
        drop(release);
        runtime.shutdown_background();
        in_time.unwrap();
    }

    #[tokio::test]
    async fn an_event_that_comes_before_its_entry_is_not_lost() {
        let mut waiting = Waiting::default();
        let notify = Arc::new(Notify::new());
        for watch in 1..=3 * EARLY {
            waiting.fired(i32::try_from(watch).unwrap());
        }
        assert_eq!(waiting.early.len(), EARLY);
        waiting.insert(i32::try_from(3 * EARLY).unwrap(), Arc::clone(&notify));
        assert!(waiting.armed.is_empty());
        tokio::time::timeout(Duration::from_secs(5), notify.notified()).await.unwrap();
    }
}
