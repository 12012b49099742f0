//! The backups of Litestream 0.3 in a replica, and what they lead to.

use std::collections::BTreeMap;

use super::reading::Failure;
use super::{LegacyReport, Object, Problem, Store, Unread};
use crate::{Defect, legacy};

/// What 0.3 left.
#[derive(Default)]
pub(super) struct Generations {
    /// (generation, part) → key.
    parts: BTreeMap<(String, legacy::Part), Object>,
    /// What each snapshot leads to.
    pub reports: Vec<LegacyReport>,
    /// Those that lead to nothing.
    pub problems: Vec<Problem>,
}

impl Generations {
    /// Restores every snapshot among these objects.
    pub(super) fn read<'a>(
        store: &dyn Store,
        objects: impl Iterator<Item = &'a Object>,
    ) -> Result<Self, Unread> {
        let named = objects.filter_map(|object| Some((legacy::parse_key(&object.key)?, object.clone())));
        let mut generations = Self { parts: named.collect(), ..Self::default() };
        let snapshots: Vec<_> =
            generations.snapshots().map(|(generation, index)| (generation.to_owned(), index)).collect();
        for (generation, index) in snapshots {
            generations.judge(store, generation, index)?;
        }
        Ok(generations)
    }

    fn judge(&mut self, store: &dyn Store, generation: String, index: u64) -> Result<(), Unread> {
        let bytes = match self.restore(store, &generation, index) {
            Ok(image) => Some(image.len() as u64),
            Err(Failure::Unread(unread)) => return Err(unread),
            Err(Failure::Wrong(defect)) => {
                let key = format!("generations/{generation}");
                self.problems.push(Problem::broken(&key, defect.to_string()));
                None
            }
        };
        self.reports.push(LegacyReport { generation, snapshot: format!("{index:08x}"), bytes });
        Ok(())
    }

    /// The newest state that a snapshot leads to.
    pub(super) fn restore(
        &self,
        store: &dyn Store,
        generation: &str,
        snapshot: u64,
    ) -> Result<Vec<u8>, Failure> {
        let mut base = None;
        let mut segments = BTreeMap::new();
        for ((owner, part), object) in &self.parts {
            if owner != generation {
                continue;
            }
            let read = || -> Result<_, Failure> {
                let bytes = store.get(&object.key)?;
                Ok(legacy::inflate(&bytes).map_err(|defect| defect.context(&object.key))?)
            };
            match *part {
                legacy::Part::Snapshot { index } if index == snapshot => base = Some(read()?),
                legacy::Part::Segment { index, offset } if index >= snapshot => {
                    segments.insert((index, offset), read()?);
                }
                _ => {}
            }
        }
        let base = base.ok_or_else(|| Defect::new(format!("there is no snapshot {snapshot:08x}")))?;
        Ok(legacy::restore(snapshot, &base, &segments)?)
    }

    /// Generation and index of each snapshot.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts.keys().filter_map(|(generation, part)| match part {
            legacy::Part::Snapshot { index } => Some((generation.as_str(), *index)),
            legacy::Part::Segment { .. } => None,
        })
    }

    /// The newest snapshot of the generation that was written to last.
    pub(super) fn newest(&self) -> Option<(&str, u64)> {
        let ((generation, _), _) = self.parts.iter().max_by_key(|(_, object)| object.time)?;
        self.snapshots().filter(|(owner, _)| owner == generation).last()
    }
}
