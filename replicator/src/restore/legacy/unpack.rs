//! Unpacks one 0.3.x object: LZ4 frame, inside age encryption if the replica was encrypted.
//!
//! The decoders pull, so the object comes from a local scratch file; they hold at most a few blocks of 4 MiB in
//! memory.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use lz4_flex::frame::FrameDecoder;

use crate::error::{Error, ErrorKind, Result};
use crate::restore::options::Identities;
use crate::restore::output::Scratch;

/// Every age file begins with this.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1";

/// Unpacked bytes handed out at once.
const CHUNK_LEN: usize = 1 << 20;

/// See the module. Blocks.
pub(super) struct Unpacker {
    frame: FrameDecoder<Watched>,
    buffer: Vec<u8>,
    total: u64,
    is_finished: bool,
}

impl Unpacker {
    /// Begins with the packed bytes that `source` gives.
    pub(super) fn open(source: impl Read + Send + 'static, identities: &Identities) -> Result<Self> {
        let mut source = BufReader::with_capacity(1 << 16, source);
        let is_encrypted = source.fill_buf().map_err(unpack_error)?.starts_with(AGE_MAGIC);
        let inner: Box<dyn Read + Send> = if is_encrypted {
            let decryptor = age::Decryptor::new_buffered(source).map_err(decrypt_error)?;
            Box::new(decryptor.decrypt(identities.iter()).map_err(decrypt_error)?)
        } else {
            Box::new(source)
        };
        let frame = FrameDecoder::new(Watched { inner, has_ended: false });
        Ok(Self { frame, buffer: vec![0; CHUNK_LEN], total: 0, is_finished: false })
    }

    /// The first bytes, as many as fit, from a source that may be cut behind them.
    pub(super) fn start<const N: usize>(mut self) -> Result<[u8; N]> {
        let mut start = [0; N];
        self.frame.read_exact(&mut start).map_err(unpack_error)?;
        Ok(start)
    }

    /// The next unpacked bytes; empty at the verified end.
    pub(super) fn next(&mut self) -> Result<&[u8]> {
        let mut filled = 0;
        while !self.is_finished && filled < self.buffer.len() {
            match self.frame.read(&mut self.buffer[filled..]).map_err(unpack_error)? {
                0 => break,
                read => filled += read,
            }
        }
        self.total += filled as u64;
        if !self.is_finished && filled < self.buffer.len() {
            self.finish()?;
            self.is_finished = true;
        }
        Ok(&self.buffer[..filled])
    }

    /// Demands the end mark of the LZ4 frame, which the decoder forgives, and reads past it: only then age has
    /// authenticated its last chunk.
    fn finish(&mut self) -> Result<()> {
        if self.frame.get_ref().has_ended {
            let message = format!("it is cut: the end mark is missing after {} bytes", self.total);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        match self.frame.read(&mut [0]).map_err(unpack_error)? {
            0 => Ok(()),
            _ => {
                let message = format!("a second LZ4 frame follows after {} bytes", self.total);
                Err(Error::new(ErrorKind::Corrupt, message))
            }
        }
    }
}

/// Knows whether the end of the input was met.
struct Watched {
    inner: Box<dyn Read + Send>,
    has_ended: bool,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.has_ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

fn decrypt_error(error: age::DecryptError) -> Error {
    match error {
        age::DecryptError::NoMatchingKeys => Error::new(
            ErrorKind::Denied,
            "it is encrypted with age, and none of the configured `age.identities` opens it",
        ),
        age::DecryptError::Io(error) => unpack_error(error),
        error => Error::with_source(ErrorKind::Corrupt, "its age header is damaged", error),
    }
}

fn unpack_error(error: io::Error) -> Error {
    match error.downcast::<LocalError>() {
        Ok(LocalError(error)) => error,
        Err(error) => Error::with_source(ErrorKind::Corrupt, "it is cut or damaged", error),
    }
}

/// Reads the first `len` bytes of a scratch file.
pub(super) struct ScratchReader {
    scratch: Arc<Scratch>,
    at: u64,
    len: u64,
}

impl ScratchReader {
    pub(super) fn new(scratch: Arc<Scratch>, len: u64) -> Self {
        Self { scratch, at: 0, len }
    }
}

impl Read for ScratchReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX).min(buffer.len());
        match self.scratch.file().read_full_at(&mut buffer[..left], self.at) {
            Ok(read) => {
                self.at += read as u64;
                Ok(read)
            }
            Err(error) => Err(io::Error::other(LocalError(self.scratch.error("read", error)))),
        }
    }
}

/// An error of the local disk on its way through decoders, which would make it look like damage.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct LocalError(Error);
