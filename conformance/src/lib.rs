//! What a correct replica and a usable S3 endpoint are, independent of the product's code.
//!
//! The library imports nothing of the project: its decoders are written from the formats, so that the product and
//! its judge cannot share a mistake.
//!
//! | question | module |
//! | --- | --- |
//! | What do these bytes say? | [`ltx`], [`wal`], [`legacy`] |
//! | What does an S3 endpoint do, exactly and when it misbehaves? | [`server`] |
//! | Is this endpoint good enough, and with which settings? | [`checks`] on [`targets`] through [`client`], told by [`verdict`] |
//! | Do two endpoints answer alike, where nobody thought of asking? | [`difference`] |
//! | What did the application commit, and is this file one of those states? | [`workload`], [`compare`] |
//! | Is this replica whole, and what can be restored from it? | [`replica`] |
//! | Who else can read and write it, and where? | [`witness`] (Litestream's own binaries), [`process`], [`site`] |

pub mod ltx;

pub mod wal;

pub mod legacy;

pub mod workload;

pub mod compare;

pub mod server;

pub mod client;

pub mod targets;

pub mod checks;

pub mod verdict;

pub mod difference;

pub mod replica;

pub mod site;

pub mod process;

pub mod witness;

/// What is wrong with bytes that claim to be something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Defect {
    message: String,
}

impl Defect {
    /// A defect, described for a person.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// Says where it was found: `place: message`.
    #[must_use]
    pub fn context(self, place: impl std::fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message) }
    }
}
