//! [`Watch`] on Linux: one inotify descriptor for all watched files.
//!
//! Watches are one-shot and armed anew once they have fired, so a busy log costs one event per look, not one per
//! write, and a log that nobody writes costs nothing. Beside writes they report that a name is gone: a file that is
//! replaced by a rename or removed loses a link, which counts as a change of its attributes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::sync::Notify;

use super::{BoxFuture, Watch, Watcher};

/// Watches files of this machine. Creates its descriptor at the first watch, inside the tokio runtime.
#[derive(Default)]
pub struct InotifyWatch {
    hub: Mutex<Option<Arc<Hub>>>,
}

struct Hub {
    watches: Mutex<Watches>,
    waiting: Mutex<BTreeMap<i32, Arc<Notify>>>,
}

impl Hub {
    fn start() -> std::io::Result<Arc<Self>> {
        let inotify = Inotify::init()?;
        let watches = Mutex::new(inotify.watches());
        let hub = Arc::new(Self { watches, waiting: Mutex::default() });
        // SAFETY: an `Inotify` owns one open descriptor and returns it until it is dropped.
        let events = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        let events = events.map_err(|error| std::io::Error::other(error.to_string()))?;
        tokio::spawn(dispatch(Arc::clone(&hub), events));
        Ok(hub)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Notify>>> {
        self.waiting.lock().expect("nothing panics while holding the map")
    }

    /// Whether the event has not fired yet.
    fn is_armed(&self, descriptor: &WatchDescriptor) -> bool {
        self.waiting().contains_key(&descriptor.get_watch_descriptor_id())
    }

    /// Arms one event for `path`. The map is locked meanwhile, so that the event finds its entry.
    fn arm(&self, path: &Path, notify: &Arc<Notify>) -> Option<WatchDescriptor> {
        let mut waiting = self.waiting();
        let gone = WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let mask = WatchMask::MODIFY | gone | WatchMask::ONESHOT;
        let mut watches = self.watches.lock().expect("nothing panics while holding the watches");
        let descriptor = watches.add(path, mask).ok()?;
        waiting.insert(descriptor.get_watch_descriptor_id(), Arc::clone(notify));
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
            if let Some(notify) = waiting.remove(&event.wd.get_watch_descriptor_id()) {
                notify.notify_one();
            }
        }
    }
}

struct InotifyWatcher {
    hub: Arc<Hub>,
    files: Vec<(PathBuf, Option<WatchDescriptor>)>,
    notify: Arc<Notify>,
}

impl Watch for InotifyWatch {
    fn watch(&self, paths: &[PathBuf]) -> Option<Box<dyn Watcher>> {
        let mut hub = self.hub.lock().expect("nothing panics while holding the hub");
        if hub.is_none() {
            *hub = Hub::start().ok();
        }
        let hub = Arc::clone(hub.as_ref()?);
        let files = paths.iter().map(|path| (path.clone(), None)).collect();
        Some(Box::new(InotifyWatcher { hub, files, notify: Arc::default() }))
    }
}

impl Watcher for InotifyWatcher {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        // Armed before the future is first polled: what changes from now on is reported. What is still armed from an
        // earlier wait reports that as well, and arming costs a system call and a lookup of the path.
        for (path, armed) in &mut self.files {
            if !armed.as_ref().is_some_and(|descriptor| self.hub.is_armed(descriptor)) {
                *armed = self.hub.arm(path, &self.notify);
            }
        }
        Box::pin(self.notify.notified())
    }

    fn is_complete(&self) -> bool {
        self.files.iter().all(|(_, armed)| armed.is_some())
    }
}

impl Drop for InotifyWatcher {
    fn drop(&mut self) {
        for descriptor in self.files.drain(..).filter_map(|(_, armed)| armed) {
            self.hub.waiting().remove(&descriptor.get_watch_descriptor_id());
            let mut watches = self.hub.watches.lock().expect("nothing panics while holding the watches");
            // It fails if the watch has fired already.
            let _ = watches.remove(descriptor);
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
        assert!(tokio::time::timeout(quiet, watcher.changed()).await.is_err(), "nothing happened");
        assert!(watcher.is_complete());
        for _ in 0..3 {
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
            let changed = watcher.changed();
            change();
            let reported = tokio::time::timeout(Duration::from_secs(5), changed).await;
            assert!(reported.is_ok(), "{what}");
            if what == "moved away" {
                create("db");
            }
        }
        drop(watcher.changed());
        assert!(!watcher.is_complete(), "the removed file cannot be watched");
    }
}
