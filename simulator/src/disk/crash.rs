//! Power loss: which changes that had reached only the page cache survive, whole, torn or as garbage.
//!
//! A profile restricts what is legal; a style says how this one crash leans. Each surviving or lost change is a
//! named choice, so a shrinker can simplify a crash change by change. Must not touch state: it only decides.

use std::sync::Arc;

use super::content::{Change, FileBytes};
use super::names::{NameChange, Names};
use crate::choices::{Choices, mix};

/// What a file system promises about changes that were never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Persistence {
    /// POSIX says nothing: any subset, in any order, sector by sector, with garbage where a write was torn.
    Posix,
    /// Like ext4 `data=ordered`: names and lengths survive as a prefix of history, overwrites in any subset.
    Ordered,
    /// Everything survives as a prefix of history; the last change may be torn.
    Prefix,
}

/// The physical properties of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hardware {
    /// Bytes written atomically, or not at all.
    pub sector: u32,
    /// A write that is torn leaves bytes outside its range alone.
    pub powersafe_overwrite: bool,
    /// See [`Persistence`].
    pub persistence: Persistence,
}

impl Default for Hardware {
    /// The worst that is legal.
    fn default() -> Self {
        Self { sector: 512, powersafe_overwrite: true, persistence: Persistence::Posix }
    }
}

/// How one crash leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    AllLost,
    AllKept,
    /// Each change on its own, kept with this probability per mille.
    Coin(u64),
    /// Newest names with the oldest content.
    NamesOnly,
    /// The newest content without its names.
    ContentOnly,
}

/// One power loss being decided.
pub struct Crash<'a> {
    choices: &'a Choices,
    hardware: Hardware,
    id: u64,
    style: Style,
    cut: u64,
}

impl<'a> Crash<'a> {
    /// The crash `id` (any number that names it) when the machine-wide sequence had reached `newest` and the oldest
    /// change still pending is `oldest`.
    pub fn new(choices: &'a Choices, hardware: Hardware, id: u64, oldest: u64, newest: u64) -> Self {
        let style = match choices.below("crash.style", id, 8) {
            0 => Style::AllLost,
            1 => Style::AllKept,
            2 => Style::Coin(900),
            3 => Style::Coin(100),
            4 => Style::NamesOnly,
            5 => Style::ContentOnly,
            _ => Style::Coin(500),
        };
        let span = newest.saturating_sub(oldest) + 2;
        let cut = oldest + choices.below("crash.cut", id, span);
        Self { choices, hardware, id, style, cut }
    }

    fn coin(&self, name: &'static str, instance: u64, kept_per_mille: u64) -> bool {
        self.choices.below(name, mix(self.id) ^ instance, 1000) >= 1000 - kept_per_mille
    }

    /// The name changes that survive.
    pub fn names(&self, names: &Names) -> Vec<NameChange> {
        let survives = |sequence: u64| match self.hardware.persistence {
            Persistence::Prefix | Persistence::Ordered => sequence < self.cut,
            Persistence::Posix => match self.style {
                Style::AllLost | Style::ContentOnly => false,
                Style::AllKept | Style::NamesOnly => true,
                Style::Coin(kept) => self.coin("crash.name", sequence, kept),
            },
        };
        names.pending.iter().filter(|p| survives(p.sequence)).map(|p| p.change.clone()).collect()
    }

    /// The content changes of one file that survive.
    pub fn content(&self, file: &FileBytes) -> Vec<Change> {
        let mut kept = Vec::new();
        for pending in &file.pending {
            self.change(pending.sequence, &pending.change, file.durable.len(), &mut kept);
        }
        kept
    }

    fn change(&self, sequence: u64, change: &Change, durable_len: u64, kept: &mut Vec<Change>) {
        let before_cut = sequence < self.cut;
        let extends = match change {
            Change::SetLen(_) => true,
            Change::Write { offset, data } => offset + data.len() as u64 > durable_len,
        };
        let share = match self.hardware.persistence {
            Persistence::Prefix if before_cut => 1000,
            Persistence::Prefix if sequence == self.cut => 500,
            Persistence::Prefix => 0,
            Persistence::Ordered if extends => 1000 * u64::from(before_cut),
            Persistence::Ordered | Persistence::Posix => match self.style {
                Style::AllLost | Style::NamesOnly => 0,
                Style::AllKept | Style::ContentOnly => 1000,
                Style::Coin(kept) => kept,
            },
        };
        match (change, share) {
            (_, 0) => {}
            (_, 1000) => kept.push(change.clone()),
            (Change::SetLen(_), share) => {
                if self.coin("crash.length", sequence, share) {
                    kept.push(change.clone());
                }
            }
            (Change::Write { offset, data }, share) => self.tear(sequence, *offset, data, share, kept),
        }
    }

    /// Decides one write: whole, lost, or sector by sector.
    fn tear(&self, sequence: u64, offset: u64, data: &Arc<[u8]>, share: u64, kept: &mut Vec<Change>) {
        let torn = self.coin("crash.torn", sequence, 300);
        if !torn {
            if self.coin("crash.write", sequence, share) {
                kept.push(Change::Write { offset, data: Arc::clone(data) });
            }
            return;
        }
        let sector = u64::from(self.hardware.sector);
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let next = ((at / sector + 1) * sector).min(end);
            let piece = &data[(at - offset) as usize..(next - offset) as usize];
            let instance = mix(sequence) ^ (at - offset);
            if self.coin("crash.sector", instance, share) {
                kept.push(Change::Write { offset: at, data: Arc::from(piece) });
            } else if self.hardware.persistence == Persistence::Posix
                && self.coin("crash.garbage", instance, 100)
            {
                kept.push(self.garbage(instance, at, next));
            }
            at = next;
        }
    }

    /// What an interrupted sector write may leave: noise over the written range, or over the whole sector where
    /// the hardware does not protect the neighbours.
    fn garbage(&self, instance: u64, start: u64, end: u64) -> Change {
        let sector = u64::from(self.hardware.sector);
        let (start, end) = if self.hardware.powersafe_overwrite {
            (start, end)
        } else {
            (start / sector * sector, end.div_ceil(sector) * sector)
        };
        let mut noise = vec![0; (end - start) as usize];
        self.choices.stream("crash.noise", mix(self.id) ^ instance).fill(&mut noise);
        Change::Write { offset: start, data: Arc::from(noise) }
    }
}
