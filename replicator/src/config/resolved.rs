//! The complete, checked configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::GlobMatcher;

use super::section::Problem;
use crate::bucket::settings::{Secret, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{LogFormat, LogLevel};
use crate::sync;

/// Everything a run needs.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file it came from, if any.
    pub source: Option<PathBuf>,
    /// What is odd about it, by line.
    pub warnings: Vec<Problem>,
    /// Databases, and directories of them.
    pub databases: Vec<Entry>,
    /// Bind address (`host:port` or `:port`) of the metrics server.
    pub metrics_addr: Option<String>,
    /// Command to run as a child while replicating.
    pub exec: Option<String>,
    /// How to log.
    pub logging: Logging,
    /// Whom to tell that all is well.
    pub heartbeat: Option<Heartbeat>,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logging {
    /// Least severity shown.
    pub level: LogLevel,
    /// Shape of the lines.
    pub format: LogFormat,
    /// Standard error instead of standard output.
    pub stderr: bool,
}

/// A URL that is fetched regularly while every database is in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// `http://` or `https://`.
    pub url: String,
    /// Time between two calls.
    pub interval: Duration,
}

/// One entry of `dbs:`.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A database file.
    Database(Database),
    /// A directory of database files.
    Directory(Directory),
}

/// A database and its replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// Settings of its replication, its path among them.
    pub options: sync::Options,
    /// Where it is replicated to.
    pub replica: Replica,
    /// Restore it first if the file is absent.
    pub restore_if_absent: bool,
}

/// A replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// Where it is.
    pub settings: Settings,
    /// What `-replica` calls it; its type if no name was given.
    pub name: String,
    /// Keys that open encrypted backups of Litestream 0.3.
    pub age_identities: Vec<Secret>,
    /// Line of `age:`, if encryption was asked for. Nothing may be written then: this program only reads
    /// encrypted backups.
    pub encryption_line: Option<u64>,
}

impl Replica {
    /// The type, as it appears in tables: `s3` or `file`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.settings {
            Settings::S3(_) => "s3",
            Settings::Directory(_) => "file",
        }
    }
}

/// A directory whose files, as far as they match, are databases to be replicated.
#[derive(Debug, Clone)]
pub struct Directory {
    /// The directory.
    pub path: PathBuf,
    /// Pattern for file names.
    pub pattern: FilePattern,
    /// Look into subdirectories.
    pub recursive: bool,
    /// Follow files that appear and vanish.
    pub watch: bool,
    /// Where local state goes.
    pub meta: DirectoryMeta,
    /// What is the same for each of its databases; paths are replaced by [`Directory::database`].
    pub template: Database,
}

/// A pattern for file names: `*`, `?`, `[…]`.
#[derive(Clone)]
pub struct FilePattern(pub(super) GlobMatcher);

impl FilePattern {
    /// Whether a file name, without its directory, matches.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl fmt::Debug for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.glob().glob())
    }
}

/// Where the local state of a directory's databases goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryMeta {
    /// Beside each database.
    Sibling,
    /// `BASE/sub/.name.db-litestream` (`meta-path`).
    Hidden(PathBuf),
    /// `BASE/sub/name.db-litestream` (`meta-dir`).
    Plain(PathBuf),
}

impl Config {
    /// The database at an absolute path, listed or in a listed directory. An entry of its own goes before a directory in
    /// which it lies, wherever the two stand: so it is replicated.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Database> {
        let own = self.databases.iter().find_map(|entry| match entry {
            Entry::Database(database) => (database.options.db == path).then(|| database.clone()),
            Entry::Directory(_) => None,
        });
        own.or_else(|| self.databases.iter().find_map(|entry| in_directory(entry, path)))
    }

    /// Refuses to write where encryption was asked for.
    ///
    /// # Errors
    /// `Unsupported`, naming the lines.
    pub fn check_writable(&self) -> Result<()> {
        let replicas = self.databases.iter().map(|entry| match entry {
            Entry::Database(database) => &database.replica,
            Entry::Directory(directory) => &directory.template.replica,
        });
        let lines: Vec<String> = replicas
            .filter_map(|replica| replica.encryption_line)
            .map(|line| format!("line {line}: age encryption"))
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} is only supported for reading backups made by Litestream 0.3; replicating would store the \
                 database unencrypted. Remove age: and use the store's own encryption (sse-customer-key, \
                 sse-kms-key-id) if you need it",
                lines.join(", ")
            ),
        ))
    }
}

fn in_directory(entry: &Entry, path: &Path) -> Option<Database> {
    let Entry::Directory(directory) = entry else { return None };
    let relative = path.strip_prefix(&directory.path).ok()?;
    let name = relative.file_name()?.to_str()?;
    let is_direct = relative.parent() == Some(Path::new(""));
    (directory.pattern.is_match(name) && (directory.recursive || is_direct))
        .then(|| directory.database(relative))
}

impl Directory {
    /// The database at `relative` below this directory: its own local state, its own place in the replica.
    #[must_use]
    pub fn database(&self, relative: &Path) -> Database {
        let mut database = self.template.clone();
        let name = relative.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        database.options.db = self.path.join(relative);
        database.options.meta_dir = match &self.meta {
            DirectoryMeta::Sibling => sync::default_meta_dir(&database.options.db),
            DirectoryMeta::Hidden(base) => base.join(relative.with_file_name(format!(".{name}-litestream"))),
            DirectoryMeta::Plain(base) => base.join(relative.with_file_name(format!("{name}-litestream"))),
        };
        match &mut database.replica.settings {
            Settings::Directory(directory) => directory.path.push(relative),
            Settings::S3(s3) => {
                let relative = relative.to_string_lossy();
                s3.path = match s3.path.trim_end_matches('/') {
                    "" | "." => relative.into_owned(),
                    base => format!("{base}/{relative}"),
                };
            }
        }
        database
    }
}
