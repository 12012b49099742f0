//! What the caller of a restore asks for.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::Txid;

/// Which state to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// The newest state the replica holds.
    #[default]
    Latest,
    /// Exactly the state after this transaction id.
    Txid(Txid),
    /// The newest state captured strictly before this time (0.3.x objects: at or before).
    Timestamp(UnixMillis),
}

/// How thoroughly SQLite checks the result before it appears under its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IntegrityCheck {
    /// Not at all; every byte was still verified against its LTX checksum.
    None,
    /// `PRAGMA quick_check`.
    #[default]
    Quick,
    /// `PRAGMA integrity_check`, which also compares indexes with their tables.
    Full,
}

impl IntegrityCheck {
    /// The spelling on the command line and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

impl std::str::FromStr for IntegrityCheck {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::None, Self::Quick, Self::Full].into_iter().find(|check| check.as_str() == text).ok_or_else(
            || Error::new(ErrorKind::Usage, format!("integrity check {text:?} is not none, quick or full")),
        )
    }
}

/// Everything a restore needs to know besides where the replica is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file to create.
    pub output: PathBuf,
    /// Which state.
    pub target: Target,
    /// Pieces of objects fetched at once; each holds a few MiB of memory.
    pub parallelism: NonZeroUsize,
    /// An existing, non-empty output is success without doing anything.
    pub if_db_not_exists: bool,
    /// A replica that provably holds nothing is success without doing anything.
    pub if_replica_exists: bool,
    /// An existing output and its `-wal`, `-shm` and `-journal` are replaced, after the new file is complete.
    pub force: bool,
    /// Only plan: the disk is not touched.
    pub dry_run: bool,
    /// Check of the result.
    pub integrity_check: IntegrityCheck,
    /// Choices that only exist for replicas written by Litestream 0.3.x.
    pub legacy: LegacyOptions,
}

impl Options {
    /// Defaults of the command line: latest state, eight pieces at once, quick check.
    #[must_use]
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            target: Target::Latest,
            parallelism: NonZeroUsize::new(8).expect("eight is not zero"),
            if_db_not_exists: false,
            if_replica_exists: false,
            force: false,
            dry_run: false,
            integrity_check: IntegrityCheck::default(),
            legacy: LegacyOptions::default(),
        }
    }
}

/// Choices for replicas written by Litestream 0.3.x. Naming a generation or an index means that only the 0.3.x
/// objects are looked at.
#[derive(Debug, Clone, Default)]
pub struct LegacyOptions {
    /// Only this generation (16 hexadecimal digits).
    pub generation: Option<String>,
    /// Nothing after this WAL index.
    pub index: Option<u64>,
    /// Keys for encrypted backups.
    pub identities: Identities,
}

/// age identities (`AGE-SECRET-KEY-1…`). Never printed.
#[derive(Clone, Default)]
pub struct Identities(Vec<age::x25519::Identity>);

impl Identities {
    /// Parses the texts of a configuration. Each may be a whole key file: lines with keys, comments and empty lines.
    ///
    /// # Errors
    /// `Usage`, naming the position of the bad one but not its text, which is a secret.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self> {
        let mut all = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let bad = |what: String| Error::new(ErrorKind::Usage, format!("age.identities[{index}] {what}"));
            let before = all.len();
            for (line, text) in (1..).zip(text.as_ref().lines().map(str::trim)) {
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                let key = text.parse().map_err(|reason: &str| {
                    bad(format!("has something else than AGE-SECRET-KEY-1… on its line {line}: {reason}"))
                })?;
                all.push(key);
            }
            if all.len() == before {
                return Err(bad("holds no key: write AGE-SECRET-KEY-1…".to_owned()));
            }
        }
        Ok(Self(all))
    }

    /// In the form that age's decryptor takes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn identities_may_have_the_form_of_a_key_file() {
        let key = || age::x25519::Identity::generate().to_string().expose_secret().to_owned();
        let file =
            format!("# created: 2023-01-01T00:00:00Z\n# public key: age1x\n{}\n\n  {}  \r\n", key(), key());
        assert_eq!(Identities::parse(&[file.clone(), key()]).unwrap().0.len(), 3);
        for bad in ["", "# nothing but a comment\n", "AGE-SECRET-KEY-1X", "age1x"] {
            let error = Identities::parse(&[file.as_str(), bad]).unwrap_err().to_string();
            assert!(error.contains("age.identities[1]"), "{error}");
            assert!(!error.contains("KEY-1X"), "{error}");
        }
    }
}
