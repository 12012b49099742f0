//! Names of files and directories: what processes see, what is durable, and the changes between.
//!
//! Keyed by absolute path; an inode number says what a name stands for. Renaming a directory is not supported.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Inode by absolute path. Compared as bytes: component by component, as paths are, takes several times as long.
type Table = BTreeMap<OsString, u64>;

/// A change of names that has not been made durable.
#[derive(Debug, Clone)]
pub struct PendingName {
    /// Position in the machine-wide order of changes.
    pub sequence: u64,
    /// What changed.
    pub change: NameChange,
}

/// One change of names; each survives a power loss wholly or not at all.
#[derive(Debug, Clone)]
pub enum NameChange {
    /// A name appears (create, mkdir, hard link).
    Link(PathBuf, u64),
    /// A name disappears.
    Unlink(PathBuf),
    /// A name moves, replacing what was there; the inode is carried along, because the new name can be durable
    /// although the old one never was.
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn apply(&self, names: &mut Table) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.into(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path.as_os_str());
            }
            Self::Rename(from, to, inode) => {
                names.remove(from.as_os_str());
                names.insert(to.into(), *inode);
            }
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let inside = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Link(path, _) | Self::Unlink(path) => inside(path),
            Self::Rename(from, to, _) => inside(from) || inside(to),
        }
    }
}

/// The name space of one disk.
#[derive(Debug, Clone, Default)]
pub struct Names {
    live: Table,
    durable: Table,
    /// In order.
    pub pending: Vec<PendingName>,
}

impl Names {
    /// What `path` stands for.
    pub fn get(&self, path: &Path) -> Option<u64> {
        self.live.get(path.as_os_str()).copied()
    }

    /// How many names stand for `inode`.
    pub fn links(&self, inode: u64) -> u64 {
        self.live.values().filter(|named| **named == inode).count() as u64
    }

    /// Changes the live names and remembers that the change is not durable.
    pub fn change(&mut self, sequence: u64, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push(PendingName { sequence, change });
    }

    /// Makes all changes that touch `dir` durable. Returns the inodes that may have lost their last name by it.
    pub fn sync(&mut self, dir: &Path) -> BTreeSet<u64> {
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.change.touches(dir));
        self.pending = rest;
        let mut involved = BTreeSet::new();
        for PendingName { change, .. } in synced {
            let (replaced, named) = match &change {
                NameChange::Link(path, inode) | NameChange::Rename(_, path, inode) => (path, Some(*inode)),
                NameChange::Unlink(path) => (path, None),
            };
            involved.extend(self.durable.get(replaced.as_os_str()).copied().into_iter().chain(named));
            change.apply(&mut self.durable);
        }
        involved
    }

    /// Names directly inside `dir` with their inodes, sorted.
    pub fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a Path, u64)> {
        // An empty last component: "/data/", with which every name inside begins.
        let inside = dir.join("").into_os_string();
        self.live
            .range(inside.clone()..)
            .take_while(move |(path, _)| path.as_encoded_bytes().starts_with(inside.as_encoded_bytes()))
            .map(|(path, inode)| (Path::new(path), *inode))
            .filter(move |(path, _)| path.parent() == Some(dir))
    }

    /// Every live name.
    pub fn all(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.live.iter().map(|(path, inode)| (Path::new(path), *inode))
    }

    /// Whether any name, live or durable or possibly so after a crash, stands for `inode`.
    pub fn mentions(&self, inode: u64) -> bool {
        self.live.values().chain(self.durable.values()).any(|named| *named == inode)
            || self.pending.iter().any(
                |p| matches!(p.change, NameChange::Link(_, i) | NameChange::Rename(_, _, i) if i == inode),
            )
    }

    /// Becomes what a power loss left: durable names plus the surviving `changes`, in order. A name whose
    /// directory did not survive is gone with it.
    pub fn reboot(&mut self, changes: &[NameChange]) {
        for change in changes {
            change.apply(&mut self.durable);
        }
        let names = self.durable.clone();
        self.durable
            .retain(|path, _| Path::new(path).parent().is_none_or(|dir| names.contains_key(dir.as_os_str())));
        self.live = self.durable.clone();
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &Names) -> Vec<String> {
        names.all().map(|(path, inode)| format!("{}={inode}", path.display())).collect()
    }

    #[test]
    fn an_unsynced_rename_may_survive_or_not_but_never_half() {
        let mut names = Names::default();
        names.change(1, NameChange::Link("/".into(), 1));
        names.change(2, NameChange::Link("/a.tmp".into(), 2));
        names.change(3, NameChange::Link("/a".into(), 3));
        assert_eq!(Vec::from_iter(names.sync(Path::new("/"))), [2, 3]);
        names.reboot(&[NameChange::Link("/".into(), 1)]);
        assert_eq!(named(&names), ["/=1", "/a=3", "/a.tmp=2"]);
        let rename = NameChange::Rename("/a.tmp".into(), "/a".into(), 2);
        names.change(4, rename.clone());
        assert_eq!(named(&names), ["/=1", "/a=2"]);
        let mut lost = names.clone();
        lost.reboot(&[]);
        assert_eq!(named(&lost), ["/=1", "/a=3", "/a.tmp=2"]);
        names.reboot(&[rename]);
        assert_eq!(named(&names), ["/=1", "/a=2"]);
    }

    #[test]
    fn a_deleted_file_is_named_until_its_directory_is_synced() {
        let (mut names, root) = (Names::default(), Path::new("/"));
        names.change(1, NameChange::Link("/a".into(), 2));
        names.sync(root);
        names.change(2, NameChange::Unlink("/a".into()));
        assert!(names.mentions(2));
        assert_eq!(Vec::from_iter(names.sync(root)), [2]);
        assert!(!names.mentions(2));
    }
}
