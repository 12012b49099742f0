//! Writing a file: header, pages, index, trailer, as Litestream 0.5.16 and later read them.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::checksum::Crc;
use super::format::{HEADER_LEN, PAGE_HEADER_LEN, Trailer, block_page_header};
use super::page_index::{IndexLog, IndexWriter};
use super::page_order::PageOrder;
use super::types::{Header, PageNumber};
use crate::error::{Error, ErrorKind, Result};

/// Encodes one file into buffers of the caller. Output is the same for the same input.
///
/// Write [`Encoder::header_bytes`] first, then what [`Encoder::page`] appends, then what [`Encoder::finish`] appends.
pub struct Encoder {
    header: Header,
    order: PageOrder,
    crc: Crc,
    index: IndexLog,
    table: CompressTable,
    compressed: Box<[u8]>,
}

impl Encoder {
    /// Starts a file.
    ///
    /// # Errors
    /// `Internal` if the header breaks a rule of the format or is one Litestream could not restore: checksum
    /// tracking, an empty database.
    pub fn new(header: Header) -> Result<Self> {
        header.check().map_err(misuse)?;
        if header.flags != Header::NO_CHECKSUM {
            return Err(misuse("checksum tracking is not written: Litestream cannot restore it".to_owned()));
        }
        let page_bytes = header.page_size.bytes();
        let table =
            if page_bytes < usize::from(u16::MAX) { CompressTable::small() } else { CompressTable::large() };
        let mut crc = Crc::new();
        crc.update(&header.to_bytes());
        Ok(Self {
            header,
            order: PageOrder::new(&header),
            crc,
            index: IndexLog::new(),
            table,
            compressed: vec![0; get_maximum_output_size(page_bytes)].into_boxed_slice(),
        })
    }

    /// The header being written.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The first bytes of the file.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.header.to_bytes()
    }

    /// Appends one page to `out`.
    ///
    /// # Errors
    /// `Internal` if the page may not come here: out of order, past the end, the lock page, the wrong length, or a
    /// hole in a file that must hold every page.
    pub fn page(&mut self, number: PageNumber, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.accept(number, data)?;
        let len = compress_into_with_table(data, &mut self.compressed, &mut self.table)
            .expect("the buffer has the maximum output size");
        let head = self.note(number, data, len);
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.compressed[..len]);
        Ok(())
    }

    /// As [`Encoder::page`], for a page whose LZ4 block is at hand from a file that was decoded: nothing is compressed
    /// again. `block` must be the one that `data` was decompressed from.
    ///
    /// # Errors
    /// As [`Encoder::page`].
    pub fn page_as_stored(
        &mut self,
        number: PageNumber,
        data: &[u8],
        block: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.accept(number, data)?;
        let head = self.note(number, data, block.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(block);
        Ok(())
    }

    fn accept(&mut self, number: PageNumber, data: &[u8]) -> Result<()> {
        if data.len() != self.header.page_size.bytes() {
            return Err(misuse(format!("page {} has {} bytes", number.0, data.len())));
        }
        self.order.accept(number).map_err(misuse)
    }

    /// Adds a page to checksum and index; returns what precedes its `len` compressed bytes.
    fn note(&mut self, number: PageNumber, data: &[u8], len: usize) -> [u8; PAGE_HEADER_LEN + 4] {
        let head = block_page_header(number, u32::try_from(len).expect("at most 1.1 pages"));
        self.crc.update(&head);
        self.crc.update(data);
        self.index.push(number, (head.len() + len) as u64);
        head
    }

    /// Appends the index and the trailer to `out`. The index takes up to 15 bytes per page; with very many pages,
    /// [`Encoder::into_tail`] gives it in pieces.
    ///
    /// # Errors
    /// As [`Encoder::into_tail`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Trailer> {
        let mut tail = self.into_tail()?;
        loop {
            if let Some(trailer) = tail.write_some(out) {
                return Ok(trailer);
            }
        }
    }

    /// Ends the pages; what follows them comes from the [`Tail`].
    ///
    /// # Errors
    /// `Internal` if pages are missing from a file that must hold every page.
    pub fn into_tail(self) -> Result<Tail> {
        self.order.finish().map_err(misuse)?;
        Ok(Tail { crc: self.crc, index: self.index.into_writer(), index_len: 0, begun: false })
    }
}

/// The end of a file being written: end of pages, index, trailer.
pub struct Tail {
    crc: Crc,
    index: IndexWriter,
    index_len: u64,
    begun: bool,
}

impl Tail {
    /// Appends at most about 100 kB to `out`. The trailer is returned with the last bytes of the file; do not call
    /// again after that.
    pub fn write_some(&mut self, out: &mut Vec<u8>) -> Option<Trailer> {
        let start = out.len();
        if !self.begun {
            self.begun = true;
            out.extend_from_slice(&[0; PAGE_HEADER_LEN]);
        }
        let index_start = out.len();
        let more = self.index.write_some(out);
        if !more {
            out.push(0);
        }
        self.index_len += (out.len() - index_start) as u64;
        if more {
            self.crc.update(&out[start..]);
            return None;
        }
        out.extend_from_slice(&self.index_len.to_be_bytes());
        let post_apply_checksum = 0_u64;
        self.crc.update(&out[start..]);
        self.crc.update(&post_apply_checksum.to_be_bytes());
        let trailer = Trailer { post_apply_checksum, file_checksum: self.crc.stored() };
        out.extend_from_slice(&trailer.to_bytes());
        Some(trailer)
    }
}

fn misuse(message: String) -> Error {
    Error::new(ErrorKind::Internal, format!("cannot write LTX: {message}"))
}
