//! Files in memory and work done on the spot: what makes a target that restores fast.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use replicator::host::{
    Blocking, BoxFuture, DirEntry, Disk, DiskFile, FileMetadata, OpenMode, UnixMillis, Work,
};

type Content = Arc<Mutex<Vec<u8>>>;

/// A flat disk: every directory exists.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Content>> {
        self.0.lock().expect("no holder panics")
    }

    /// All files.
    pub fn names(&self) -> Vec<PathBuf> {
        self.files().keys().cloned().collect()
    }

    /// The content of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.files().get(path).cloned()?;
        let bytes = content.lock().expect("no holder panics").clone();
        Some(bytes)
    }
}

fn facts(len: usize) -> FileMetadata {
    FileMetadata {
        len: len as u64,
        device: 1,
        inode: 1,
        links: 1,
        modified: UnixMillis(0),
        changed_nanos: 0,
        is_dir: false,
        is_file: true,
        mode: 0o644,
        uid: 0,
        gid: 0,
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files();
        let known = files.get(path).cloned();
        let content = match (known, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (Some(content), _) => content,
            (None, _) => files.entry(path.to_owned()).or_default().clone(),
        };
        if mode == OpenMode::Truncate {
            content.lock().expect("no holder panics").clear();
        }
        Ok(Box::new(MemoryFile(content)))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        match self.files().get(path) {
            Some(content) => Ok(facts(content.lock().expect("no holder panics").len())),
            None if path.extension().is_none() => Ok(FileMetadata { is_dir: true, is_file: false, mode: 0o755, ..facts(0) }),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let files = self.files();
        let inside = files.keys().filter(|file| file.parent() == Some(path));
        let names = inside.filter_map(|file| file.file_name()?.to_str());
        Ok(names.map(|name| DirEntry { name: name.to_owned(), is_dir: false }).collect())
    }

    fn create_dir_all(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.files().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        let content = files.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        match files.insert(to.to_owned(), content) {
            None => Ok(()),
            Some(old) => {
                files.insert(to.to_owned(), old);
                Err(io::ErrorKind::AlreadyExists.into())
            }
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path, OpenMode::Create)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn set_modified(&self, _: &Path, _: UnixMillis) -> io::Result<()> {
        Ok(())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn set_permissions(&self, _: &Path, _: u32, _: u32, _: u32) -> io::Result<()> {
        Ok(())
    }
}

struct MemoryFile(Content);

/// Like a full disk: what a few kilobytes of input can make of a file has an end.
const LARGEST: u64 = 64 << 20;

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("no holder panics")
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let read = buffer.len().min(content.len() - start);
        buffer[..read].copy_from_slice(&content[start..start + read]);
        Ok(read)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if end > LARGEST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (mut content, end) = (self.content(), end as usize);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[end - data.len()..end].copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > LARGEST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.content().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn metadata(&self) -> io::Result<FileMetadata> {
        Ok(facts(self.content().len()))
    }
}

/// Runs blocking work where it is asked for.
pub struct OnTheSpot;

impl Blocking for OnTheSpot {
    fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}
