//! Disk faults that a plan switches on: which call, on which file, by whom, and what happens instead.

use std::io;
use std::path::Path;

/// Kinds of disk calls a fault can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Call {
    /// Open or create.
    Open,
    /// Read content.
    Read,
    /// Write content.
    Write,
    /// Change the length.
    SetLen,
    /// Make content durable.
    Sync,
    /// Make names durable.
    SyncDir,
    /// Create, rename, link or remove a name.
    Names,
    /// Look at names and facts.
    Look,
}

/// What happens instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Effect {
    /// `EIO`.
    Eio,
    /// `ENOSPC`; a write may have stored a part.
    NoSpace,
    /// `EROFS`.
    ReadOnly,
    /// `EACCES`.
    Denied,
    /// A sync fails, and the kernel marks the pages clean although they never reach the platter.
    Forget,
    /// A sync reports success and does nothing. Against the rules: only for negative runs.
    Lie,
    /// A read returns fewer bytes than it could.
    Short,
    /// The call takes this many milliseconds longer.
    Slow(u32),
}

impl Effect {
    /// The error this effect produces, if it is one.
    #[must_use]
    pub fn error(self) -> Option<io::Error> {
        let code = match self {
            Self::Eio | Self::Forget => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
            Self::ReadOnly => libc::EROFS,
            Self::Denied => libc::EACCES,
            Self::Lie | Self::Short | Self::Slow(_) => return None,
        };
        Some(io::Error::from_raw_os_error(code))
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// Role of the process it hits (`app`, `replicator`, `operator`); `None` hits all.
    pub role: Option<String>,
    /// Hits paths that contain this text; empty hits all.
    pub path_contains: String,
    /// The call it hits.
    pub call: Call,
    /// What happens.
    pub effect: Effect,
    /// Matching calls that pass unharmed first.
    pub skip: u32,
    /// Matching calls hit after that; `u32::MAX` means until healed.
    pub times: u32,
}

impl Fault {
    /// Whether it is for this role, path and call.
    fn concerns(&self, role: &str, path: &str, call: Call) -> bool {
        self.call == call
            && self.role.as_deref().is_none_or(|wanted| wanted == role)
            && path.contains(self.path_contains.as_str())
    }
}

/// The faults switched on at a disk.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    active: Vec<Fault>,
    /// Number of calls hit so far.
    pub hits: u64,
}

impl Faults {
    /// Switches a fault on.
    pub fn add(&mut self, fault: Fault) {
        self.active.push(fault);
    }

    /// Switches all faults off.
    pub fn heal(&mut self) {
        self.active.clear();
    }

    /// Whether a disk that stays full has been switched on for files like `path`.
    #[must_use]
    pub fn is_full(&self, role: &str, path: &Path) -> bool {
        let text = path.to_string_lossy();
        let mut lasting = self.active.iter().filter(|fault| fault.times == u32::MAX);
        lasting.any(|fault| fault.effect == Effect::NoSpace && fault.concerns(role, &text, Call::Write))
    }

    /// What happens to this call: the first fault that matches and is due.
    pub fn strike(&mut self, role: &str, path: &Path, call: Call) -> Option<Effect> {
        if self.active.is_empty() {
            return None;
        }
        let text = path.to_string_lossy();
        for fault in &mut self.active {
            if !fault.concerns(role, &text, call) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= u32::from(fault.times != u32::MAX);
                self.hits += 1;
                return Some(fault.effect);
            }
        }
        None
    }
}
