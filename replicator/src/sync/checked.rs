//! Reading a staged file and checking it in one pass: what the local disk has spoiled must not reach the store, and
//! what is sent must be the bytes that were checked.
//!
//! Holds one chunk at a time. Must not send anything: nobody may rely on a chunk before the last one was found right.

use bytes::Bytes;

use super::local::{LocalState, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::host::DiskFile;
use crate::ltx::{Decoder, Event, Header, Trailer};

/// Bytes decoded at once; the decoder copies them.
const SLICE_LEN: usize = 64 << 10;

/// A staged file on its way out. All calls block.
pub struct CheckedFile {
    file: Box<dyn DiskFile>,
    staged: Staged,
    len: u64,
    read: u64,
    decoder: Decoder,
    header: Option<Header>,
    trailer: Option<Trailer>,
}

impl CheckedFile {
    /// Opens it.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn open(local: &LocalState, staged: &Staged) -> Result<Self> {
        let (file, len) = local.open_staged(staged)?;
        let decoder = Decoder::new();
        Ok(Self { file, staged: *staged, len, read: 0, decoder, header: None, trailer: None })
    }

    /// Bytes in the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The header, once a chunk was read.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The trailer, once the last chunk was read: from then on all chunks together are known to be a valid file.
    #[must_use]
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// Reads the next bytes, at most `limit`, and checks them.
    ///
    /// # Errors
    /// `Corrupt` if they cannot belong to a valid file of this transaction; with the last chunk, if all chunks
    /// together are not one. What was read before is worth nothing then.
    pub fn next_chunk(&mut self, limit: usize) -> Result<Bytes> {
        let len = limit.min(usize::try_from(self.len - self.read).unwrap_or(limit));
        let mut chunk = vec![0; len];
        let io = |error| Error::io(format!("local state: cannot read {}", self.staged.name()), error);
        self.file.read_exact_at(&mut chunk, self.read).map_err(io)?;
        self.read += len as u64;
        self.check(&chunk).map_err(|error| error.context(format!("local state: {}", self.staged.name())))?;
        Ok(chunk.into())
    }

    fn check(&mut self, chunk: &[u8]) -> Result<()> {
        for slice in chunk.chunks(SLICE_LEN) {
            self.decoder.push(slice);
            while let Some(event) = self.decoder.next()? {
                if let Event::Header(header) = event {
                    self.header = Some(header);
                }
            }
        }
        if self.header.is_none_or(|header| header.max_txid != self.staged.txid) {
            return Err(Error::new(ErrorKind::Corrupt, "the file holds another transaction, or none"));
        }
        if self.read == self.len {
            self.trailer = Some(self.decoder.finish()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{OpenMode, UnixMillis, os};
    use crate::ltx::{Encoder, PageNumber, PageSize, Txid};
    use crate::sync::image::plain_header;
    use crate::wal::Position;

    /// Reads to the end in chunks of `limit`; what was read counts only if this is `Ok`.
    fn read(local: &LocalState, staged: &Staged, limit: usize) -> Result<Vec<u8>> {
        let mut file = CheckedFile::open(local, staged)?;
        let mut all = Vec::new();
        while file.trailer().is_none() {
            all.extend_from_slice(&file.next_chunk(limit)?);
        }
        Ok(all)
    }

    #[test]
    fn chunks_are_the_file_and_damage_anywhere_is_noticed_by_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalState::open(os::host().disk, dir.path()).unwrap();
        let staged = Staged { txid: Txid(5), position: Position::default(), is_base: false };
        let header = plain_header(PageSize::new(512).unwrap(), 9, Txid(5), UnixMillis(1));
        let mut encoder = Encoder::new(header).unwrap();
        let mut bytes = encoder.header_bytes().to_vec();
        for page in 2..7 {
            encoder.page(PageNumber(page), &[page as u8; 512], &mut bytes).unwrap();
        }
        encoder.finish(&mut bytes).unwrap();
        let file = local.disk().open(&local.path(&staged.name()), OpenMode::Create).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        for limit in [1 << 20, bytes.len(), bytes.len() - 1, 100] {
            assert_eq!(read(&local, &staged, limit).unwrap(), bytes, "chunks of {limit}");
        }
        for at in 0..bytes.len() {
            file.write_all_at(&[bytes[at] ^ 0x20], at as u64).unwrap();
            assert!(read(&local, &staged, 100).is_err(), "byte {at}");
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        file.set_len(bytes.len() as u64 - 1).unwrap();
        assert!(read(&local, &staged, 100).is_err(), "cut off");
        let other = Staged { txid: Txid(6), ..staged };
        local.disk().rename(&local.path(&staged.name()), &local.path(&other.name())).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        assert!(read(&local, &other, 1 << 20).is_err(), "another transaction");
    }
}
