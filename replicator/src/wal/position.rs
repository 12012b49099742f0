//! Where copying stands in the WAL, and whether it may go on from there.

use super::format::Header;

/// The last frame that has been copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Salt-1 of the log generation.
    pub salt1: u32,
    /// Salt-2 of the log generation.
    pub salt2: u32,
    /// Number of frames copied; 0 if the log was empty.
    pub frame: u32,
    /// Cumulative checksum of the last copied frame; with the salts it identifies everything before it.
    pub checksum: [u32; 2],
}

/// Whether frames found now continue a [`Position`] saved earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// The log is the same and unbroken: go on behind the saved frame.
    Proved,
    /// Commits may have passed unseen: the database must be compared page by page.
    Unproved,
}

/// Judges continuity across a time in which nobody pinned the log.
///
/// Equal salts *and* an equal cumulative checksum at the saved frame prove that the log up to there is the one that
/// was copied. Nothing weaker does: a log that was restarted can carry the same page at the same place.
/// `frame_checksum` is the checksum stored in the saved frame's header, read from the file now.
#[must_use]
pub fn continuity(saved: &Position, header: Option<&Header>, frame_checksum: Option<[u32; 2]>) -> Continuity {
    let Some(header) = header else { return Continuity::Unproved };
    let same_log = header.salt1 == saved.salt1 && header.salt2 == saved.salt2;
    let same_frame = saved.frame > 0 && frame_checksum == Some(saved.checksum);
    if same_log && same_frame { Continuity::Proved } else { Continuity::Unproved }
}
