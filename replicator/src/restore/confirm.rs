//! Whether the files on which the search for a time depended are what they seemed to be.
//!
//! The search reads headers, and the checksum that vouches for a header stands at the end of its file. The result depends
//! on the two files between which the search ended: these are held to their checksums here, and one that lies about any
//! other time cannot have moved it. The first of the two, which dates the state, must also be of that state: a file of
//! level 0 may be one of a failed attempt, which the store applied after retention had deleted the one that counts.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::ltx::{Decoder, Event, Txid};

use super::Failure;
use super::apply::Applier;
use super::fetch::{Fetcher, Object};
use super::plan::File;

/// What a confirmation needs of a restore.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    /// For reading the file being built.
    pub host: &'a Host,
    /// The replica.
    pub bucket: &'a Arc<dyn Bucket>,
    /// Requests under way at once.
    pub parallelism: NonZeroUsize,
}

impl Means<'_> {
    /// Reads the file of the first state that was found to be too late to its checksum.
    ///
    /// # Errors
    /// `ErrorKind::Corrupt` if it is damaged, or is not the one whose header was read.
    pub(super) async fn too_late(self, files: &[File], state: Txid) -> Result<(), Failure> {
        let read = files.iter().filter(|file| file.captured.is_some() && !planted!("moment-on-trust"));
        let after =
            read.filter(|file| file.name.max > state).min_by_key(|file| (file.name.max, file.name.level));
        let Some(file) = after else { return Ok(()) };
        let (mut fetcher, mut decoder) = (self.fetcher(file), Decoder::new());
        while let Some(fetched) = fetcher.next().await? {
            for chunk in &fetched.chunks {
                decoder.push(chunk);
                decode(&mut decoder, file).map_err(|error| untold(file, state, error))?;
            }
        }
        Ok(decoder.finish().map(drop).map_err(|error| untold(file, state, error))?)
    }

    /// Reads the file that dates a state to its checksum, and tells whether it is of the state that was built: whether each
    /// page that it brings is there.
    ///
    /// # Errors
    /// As for [`Means::too_late`], and of the local disk.
    pub(super) async fn is_of(self, file: &File, built: &mut Option<Applier>) -> Result<bool, Failure> {
        let state = file.name.max;
        let mut fetcher = self.fetcher(file);
        let mut comparison = Comparison { decoder: Decoder::new(), is_same: true };
        while let Some(fetched) = fetcher.next().await? {
            let applier = built.take().expect("put back after each piece");
            let file_there = file.clone();
            let work = move || {
                let compared = comparison.push(&applier, &file_there, &fetched.chunks);
                (comparison, applier, compared)
            };
            let (returned, applier, compared) = self.host.blocking(work).await;
            comparison = returned;
            *built = Some(applier);
            compared.map_err(|error| untold(file, state, error))?;
        }
        comparison.decoder.finish().map_err(|error| untold(file, state, error))?;
        Ok(comparison.is_same)
    }

    fn fetcher(self, file: &File) -> Fetcher {
        let object = Object { key: file.key.clone(), size: file.size };
        Fetcher::new(self.bucket.clone(), vec![object], self.parallelism)
    }
}

fn decode(decoder: &mut Decoder, file: &File) -> Result<()> {
    while let Some(event) = decoder.next()? {
        if let Event::Header(header) = event {
            file.check_time(&header)?;
        }
    }
    Ok(())
}

/// A file read beside the state that was built.
struct Comparison {
    decoder: Decoder,
    /// Nothing differed so far.
    is_same: bool,
}

impl Comparison {
    /// Takes the next bytes of `file`. Blocks.
    fn push(&mut self, built: &Applier, file: &File, chunks: &[Bytes]) -> Result<()> {
        let state = built.complete.expect("a state was built");
        let mut there = vec![0; state.page_size.bytes()];
        for chunk in chunks {
            self.decoder.push(chunk);
            while let Some(event) = self.decoder.next()? {
                match event {
                    Event::Header(header) => {
                        file.check_time(&header)?;
                        let (page_size, commit) = (header.page_size, header.commit);
                        self.is_same = (page_size, commit) == (state.page_size, state.commit);
                    }
                    Event::Page { number, data } if self.is_same => {
                        let offset = u64::from(number.0 - 1) * u64::from(state.page_size.get());
                        let temp = &built.temp;
                        let read = temp.file().read_exact_at(&mut there, offset);
                        read.map_err(|error| temp.error("read", error))?;
                        self.is_same = there == data;
                    }
                    Event::Page { .. } | Event::End(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// Damage in a file that dates a state.
fn untold(file: &File, state: Txid, error: Error) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let hint = if state == Txid(0) { String::new() } else { format!("; -txid {state} gives the one found") };
    error.context(format_args!("cannot tell which state was the newest before that time{hint}: {}", file.key))
}
