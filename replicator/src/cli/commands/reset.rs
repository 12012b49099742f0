//! `reset`: forgets the local state of a database.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::super::Outcome;
use super::super::args::Reset;
use super::{Context, warning_lines};
use crate::config::{self, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Disk;
use crate::sync;

/// What replication keeps below the meta directory: our own files, and those of Litestream. Other levels than 0 are no local
/// state, but those of a replica that somebody has put there.
const STATE: [&str; 2] = ["replicator", "ltx/0"];

pub(super) fn run(context: &Context<'_>, args: &Reset) -> Result<Outcome> {
    let path = match &args.database[..] {
        [one] if !one.is_empty() => context.environment.absolute(one)?,
        [] | [_] => {
            return Err(super::super::usage("database path required", "replicator reset /path/to/db"));
        }
        _ => return Err(Error::new(ErrorKind::Usage, "too many arguments")),
    };
    let disk = &*context.host.disk;
    let config = config(context, args)?;
    if let Err(error) = disk.metadata(&path) {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("database does not exist: {}", path.display()))
            }
            _ => Error::io(format!("cannot access database {}", path.display()), error),
        });
    }
    let known = config.as_ref().and_then(|config| config.find(&path));
    let meta = known.map_or_else(|| sync::default_meta_dir(&path), |database| database.options.meta_dir);
    let stdout = reset(disk, &path, &meta, args.dry_run)
        .map_err(|error| Error::io(format!("reset of {} failed", meta.display()), error))?;
    let stderr = config.map(|config| warning_lines(&config.warnings)).unwrap_or_default();
    Ok(Outcome { code: 0, stdout, stderr })
}

/// The configuration: the named one must be there, the default one need not.
fn config(context: &Context<'_>, args: &Reset) -> Result<Option<Config>> {
    let named = args.config.config.is_some() || context.environment.get("LITESTREAM_CONFIG").is_some();
    match context.config(&args.config) {
        Ok(config) => Ok(Some(config)),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => Ok(None),
        Err(error) => Err(error.context(format!("cannot read config (default {})", config::DEFAULT_PATH))),
    }
}

fn reset(disk: &dyn Disk, path: &Path, meta: &Path, dry_run: bool) -> io::Result<String> {
    let mut text = String::new();
    let mut files = Vec::new();
    let mut directories = Vec::new();
    for name in STATE {
        collect(disk, &meta.join(name), &mut files, &mut directories)?;
    }
    if directories.is_empty() {
        let _ = writeln!(text, "No local state to reset for {}", path.display());
        let _ = writeln!(text, "Nothing is kept in {}", meta.display());
        return Ok(text);
    }
    if dry_run {
        let _ = writeln!(text, "Dry run: local state would be reset for: {}", path.display());
        if files.is_empty() {
            text.push_str("No local files would be removed.\n");
            return Ok(text);
        }
        text.push_str("Files that would be removed:\n");
        for file in &files {
            let _ = writeln!(text, "  {}", file.display());
        }
        text.push_str("No files were removed.\n");
        return Ok(text);
    }
    let _ = writeln!(text, "Resetting local state for: {}", path.display());
    for file in &files {
        disk.remove_file(file)?;
    }
    // Children come after their parents in the list.
    for directory in directories.iter().rev() {
        disk.remove_dir(directory)?;
        disk.sync_dir(directory.parent().unwrap_or(meta))?;
    }
    let _ = writeln!(text, "Removed {} files in {}", files.len(), meta.display());
    text.push_str("Reset complete. The next replication starts with a full copy of the database.\n");
    Ok(text)
}

fn collect(
    disk: &dyn Disk,
    directory: &Path,
    files: &mut Vec<PathBuf>,
    directories: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let entries = match disk.read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    directories.push(directory.to_owned());
    for entry in entries {
        let path = directory.join(&entry.name);
        if entry.is_dir {
            collect(disk, &path, files, directories)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
