//! Which file a path stands for, so that none is replicated under two names: whichever of the two is closed first would
//! drop the locks of both.

use std::ffi::OsString;
use std::path::Path;

use super::discover::FileId;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Disk;

/// What a path stood for when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The file, if there was one.
    file: Option<FileId>,
    /// Where it is, or will be: the directory, by whatever name, and the name in it.
    place: Option<(FileId, OsString)>,
}

impl Identity {
    /// Of `path`. Blocks.
    ///
    /// # Errors
    /// `Usage` for a symbolic link to a file that does not exist: which one it will be cannot be told yet.
    pub fn of(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = FileId::of(disk, path);
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Self { file, place: None });
        };
        // What cannot be looked at for another reason is no link, and opening it will tell.
        let is_absent =
            || disk.metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        let is_listed =
            || disk.read_dir(directory).is_ok_and(|all| all.iter().any(|entry| name == entry.name.as_str()));
        let is_link = file.is_none() && is_absent() && is_listed();
        if is_link {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{} is a link to a file that does not exist yet; give the file's own path, or wait until it is there",
                    path.display()
                ),
            ));
        }
        let place = FileId::of(disk, directory).map(|directory| (directory, name.to_owned()));
        Ok(Self { file, place })
    }

    /// Whether `path`, which stood for `self` when it was started, is now the file that `other` was a moment ago, or will be
    /// the file that `other` will be. Blocks.
    #[must_use]
    pub fn is_also(&self, other: &Self, disk: &dyn Disk, path: &Path) -> bool {
        // A file may have taken the place of the one that was there at the start. All are looked at only if they were absent
        // then: there may be hundreds.
        let may_be = self.file.is_none() || self.file == other.file;
        let same_file = other.file.is_some() && may_be && FileId::of(disk, path) == other.file;
        same_file || self.place.is_some() && self.place == other.place
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::os;

    #[test]
    fn two_names_of_a_file_that_is_yet_to_come_are_one() {
        let (dir, disk) = (tempfile::tempdir().unwrap(), os::host().disk);
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("real")).unwrap();
        symlink("real", path("alias")).unwrap();
        let of = |name: &str| Identity::of(disk.as_ref(), &path(name));
        let member = of("real/app.db").unwrap();
        let is_also = |name: &str| member.is_also(&of(name).unwrap(), disk.as_ref(), &path("real/app.db"));
        assert!(is_also("alias/app.db") && !is_also("alias/other.db") && !is_also("app.db"));
        symlink("real/app.db", path("link.db")).unwrap();
        assert!(of("link.db").unwrap_err().message().contains("does not exist yet"));
        symlink("loop.db", path("loop.db")).unwrap();
        assert!(of("loop.db").is_ok(), "it is there, and leads nowhere");
        std::fs::write(path("real/app.db"), "x").unwrap();
        assert!(is_also("link.db") && is_also("alias/app.db"), "it was absent when the member was started");
        std::fs::write(path("other.db"), "x").unwrap();
        assert!(!is_also("other.db"));
    }
}
