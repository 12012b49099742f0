//! Reading a file that arrives in pieces, with nothing trusted until it has been checked.
//!
//! Memory is one page, one frame and what the caller pushed but has not yet had decoded, whatever the input claims.

use std::ops::Range;

use lz4_flex::block::{decompress_into, get_maximum_output_size};

use super::checksum::Crc;
use super::format::{
    HEADER_LEN, INDEX_LENGTH_LEN, PAGE_HEADER_LEN, PAGE_IS_BLOCK, TRAILER_LEN, Trailer, Varint, be_u32,
    be_u64, corrupt, get_varint,
};
use super::lz4_frame;
use super::page_index::IndexDigest;
use super::page_order::PageOrder;
use super::types::{Header, PageNumber};
use crate::error::Result;

/// Something read from a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The header; always first.
    Header(Header),
    /// A page, in ascending order of numbers. Not yet covered by a checksum: that comes with [`Event::End`].
    Page {
        /// Its number.
        number: PageNumber,
        /// Exactly one page.
        data: &'a [u8],
    },
    /// The end: index, lengths and file checksum have been found right.
    End(Trailer),
}

/// What [`Decoder::advance`] reached; a page's bytes are then in [`Decoder::page_data`].
pub(super) enum Step {
    Header(Header),
    Page(PageNumber),
    End(Trailer),
}

enum State {
    Header,
    Pages(Body),
    Index(Body),
    Trailer(Body),
    Done(Trailer),
    /// An error was returned; what follows cannot be understood.
    Failed,
}

/// What is known after the header.
struct Body {
    header: Header,
    order: PageOrder,
    /// Index entries as the frames say they should be.
    frames: IndexDigest,
    /// Index entries as the index says.
    index: IndexDigest,
    index_len: u64,
}

/// Decodes one file: [`Decoder::push`] some bytes, take events from [`Decoder::next`] until it gives `None`, repeat,
/// and after the last bytes call [`Decoder::finish`].
pub struct Decoder {
    /// Bytes pushed; those before `at` have been consumed.
    buffer: Vec<u8>,
    at: usize,
    /// File offset of `buffer[at]`.
    offset: u64,
    state: State,
    crc: Crc,
    page: Vec<u8>,
    /// Where the last page lies in `buffer` as an LZ4 block, until more is pushed.
    block: Option<Range<usize>>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        let (buffer, page) = (Vec::new(), Vec::new());
        Self { buffer, at: 0, offset: 0, state: State::Header, crc: Crc::new(), page, block: None }
    }

    /// Adds the next bytes of the file. They are copied; drain [`Decoder::next`] before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.block = None;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, or `None` if more bytes are needed (or the end has been returned).
    ///
    /// # Errors
    /// `Corrupt`, with the byte offset, if the bytes are not a valid file. Nothing useful follows an error.
    #[expect(clippy::should_implement_trait, reason = "lends its page buffer, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>> {
        Ok(self.advance()?.map(|step| match step {
            Step::Header(header) => Event::Header(header),
            Step::Page(number) => Event::Page { number, data: &self.page },
            Step::End(trailer) => Event::End(trailer),
        }))
    }

    /// Ends the input.
    ///
    /// # Errors
    /// `Corrupt` if the file is not complete.
    pub fn finish(&self) -> Result<Trailer> {
        let missing = match &self.state {
            State::Done(trailer) if self.rest().is_empty() => return Ok(*trailer),
            State::Done(_) => return Err(self.trailing()),
            State::Header => "its header",
            State::Pages(_) => "its pages",
            State::Index(_) => "its page index",
            State::Trailer(_) => "its trailer",
            State::Failed => return Err(corrupt("the file was already found to be invalid")),
        };
        let read = self.offset + self.rest().len() as u64;
        Err(corrupt(format!("file is cut after {read} bytes, inside {missing}")))
    }

    pub(super) fn advance(&mut self) -> Result<Option<Step>> {
        let result = self.step();
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The page of the last [`Step::Page`].
    pub(super) fn page_data(&self) -> &[u8] {
        &self.page
    }

    /// The same page as the LZ4 block that it was stored as; `None` if it was a frame.
    pub(super) fn page_block(&self) -> Option<&[u8]> {
        self.block.clone().map(|block| &self.buffer[block])
    }

    fn step(&mut self) -> Result<Option<Step>> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Header => self.read_header(),
            State::Pages(body) => self.read_page(body),
            State::Index(body) => self.read_index(body),
            State::Trailer(body) => self.read_trailer(body),
            State::Done(trailer) => {
                if !self.rest().is_empty() {
                    return Err(self.trailing());
                }
                self.state = State::Done(trailer);
                Ok(None)
            }
            State::Failed => Err(corrupt("the file was already found to be invalid")),
        }
    }

    fn read_header(&mut self) -> Result<Option<Step>> {
        let Some(bytes) = self.rest().first_chunk::<HEADER_LEN>() else {
            self.state = State::Header;
            return Ok(None);
        };
        let bytes = *bytes;
        let header = Header::from_bytes(&bytes)?;
        self.crc.update(&bytes);
        self.consume(HEADER_LEN);
        self.page = vec![0; header.page_size.bytes()];
        self.state = State::Pages(Body {
            header,
            order: PageOrder::new(&header),
            frames: IndexDigest::new(),
            index: IndexDigest::new(),
            index_len: 0,
        });
        Ok(Some(Step::Header(header)))
    }

    fn read_page(&mut self, mut body: Body) -> Result<Option<Step>> {
        let Some(&head) = self.rest().first_chunk::<PAGE_HEADER_LEN>() else {
            self.state = State::Pages(body);
            return Ok(None);
        };
        if head == [0; PAGE_HEADER_LEN] {
            body.order.finish().map_err(|message| self.wrong(&message))?;
            self.crc.update(&head);
            self.consume(PAGE_HEADER_LEN);
            return self.read_index(body);
        }
        let number = PageNumber(be_u32(&head[0..4]));
        let flags = u16::from_be_bytes([head[4], head[5]]);
        let frame_len = match flags {
            PAGE_IS_BLOCK => self.block_page(),
            0 => self.frame_page(),
            _ => Err(format!("unknown page flags {flags:#06x}")),
        };
        let frame_len = frame_len.map_err(|message| self.wrong(&format!("page {}: {message}", number.0)))?;
        let Some(frame_len) = frame_len else {
            self.state = State::Pages(body);
            return Ok(None);
        };
        body.order.accept(number).map_err(|message| self.wrong(&message))?;
        // Everything up to the payload is hashed as stored, the payload uncompressed.
        let stored = if flags == PAGE_IS_BLOCK { PAGE_HEADER_LEN + 4 } else { PAGE_HEADER_LEN };
        self.crc.update(&self.buffer[self.at..self.at + stored]);
        self.crc.update(&self.page);
        self.block = (flags == PAGE_IS_BLOCK).then(|| self.at + stored..self.at + frame_len);
        body.frames.push(u64::from(number.0), self.offset, frame_len as u64);
        self.consume(frame_len);
        self.state = State::Pages(body);
        Ok(Some(Step::Page(number)))
    }

    /// Decodes the block-coded page at the front into `page`; returns the bytes from its header to its end, `None`
    /// if they are not all here.
    fn block_page(&mut self) -> Result<Option<usize>, String> {
        const START: usize = PAGE_HEADER_LEN + 4;
        let rest = &self.buffer[self.at..];
        let Some(len) = rest.get(PAGE_HEADER_LEN..START) else { return Ok(None) };
        let len = be_u32(len) as usize;
        let page_len = self.page.len();
        if len > get_maximum_output_size(page_len) {
            return Err(format!("{len} compressed bytes for a page of {page_len}"));
        }
        let Some(block) = rest.get(START..START + len) else { return Ok(None) };
        match decompress_into(block, &mut self.page) {
            Ok(n) if n == page_len => Ok(Some(START + len)),
            Ok(n) => Err(format!("LZ4 block holds {n} bytes, a page has {page_len}")),
            Err(error) => Err(format!("LZ4 block: {error}")),
        }
    }

    /// As [`Decoder::block_page`], for a frame-coded page.
    fn frame_page(&mut self) -> Result<Option<usize>, String> {
        let frame = &self.buffer[self.at + PAGE_HEADER_LEN..];
        let Some(len) = lz4_frame::len(frame, self.page.len())? else { return Ok(None) };
        lz4_frame::decode(&frame[..len], &mut self.page)?;
        Ok(Some(PAGE_HEADER_LEN + len))
    }

    fn read_index(&mut self, mut body: Body) -> Result<Option<Step>> {
        let mut used = 0;
        let ended = loop {
            let entry = match index_entry(&self.rest()[used..]) {
                Ok(Entry::Frame { .. }) if body.index.entries() == body.frames.entries() => {
                    Err("page index has more entries than the file has pages")
                }
                entry => entry,
            };
            match entry {
                Ok(Entry::Cut) => break false,
                Ok(Entry::Terminator) => {
                    used += 1;
                    break true;
                }
                Ok(Entry::Frame { page, offset, frame_len, len }) => {
                    body.index.push(page, offset, frame_len);
                    used += len;
                }
                Err(message) => {
                    self.consume(used);
                    return Err(self.wrong(message));
                }
            }
        };
        self.crc.update(&self.buffer[self.at..self.at + used]);
        self.consume(used);
        body.index_len += used as u64;
        if !ended {
            self.state = State::Index(body);
            return Ok(None);
        }
        if !body.index.matches(&body.frames) {
            return Err(self.wrong("page index does not describe the pages of the file"));
        }
        self.read_trailer(body)
    }

    fn read_trailer(&mut self, body: Body) -> Result<Option<Step>> {
        let Some(&bytes) = self.rest().first_chunk::<{ INDEX_LENGTH_LEN + TRAILER_LEN }>() else {
            self.state = State::Trailer(body);
            return Ok(None);
        };
        let index_len = be_u64(&bytes[..INDEX_LENGTH_LEN]);
        if index_len != body.index_len {
            return Err(
                self.wrong(&format!("page index says it has {index_len} bytes and has {}", body.index_len))
            );
        }
        let trailer = bytes[INDEX_LENGTH_LEN..].try_into().expect("16 bytes");
        let trailer = Trailer::from_bytes(trailer);
        self.crc.update(&bytes[..INDEX_LENGTH_LEN + 8]);
        if self.crc.stored() != trailer.file_checksum && !planted!("checksum-ignored") {
            return Err(corrupt(format!(
                "file checksum of transactions {}-{} is {:016x}, its content gives {:016x}",
                body.header.min_txid,
                body.header.max_txid,
                trailer.file_checksum,
                self.crc.stored()
            )));
        }
        self.consume(bytes.len());
        self.state = State::Done(trailer);
        Ok(Some(Step::End(trailer)))
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
        self.offset += len as u64;
    }

    fn wrong(&self, message: &str) -> crate::Error {
        corrupt(format!("at byte {}: {message}", self.offset))
    }

    fn trailing(&self) -> crate::Error {
        self.wrong("bytes after the end of the file")
    }
}

enum Entry {
    Cut,
    Terminator,
    Frame { page: u64, offset: u64, frame_len: u64, len: usize },
}

/// Reads one entry of the page index.
fn index_entry(bytes: &[u8]) -> Result<Entry, &'static str> {
    let mut values = [0; 3];
    let mut used = 0;
    for (field, value) in values.iter_mut().enumerate() {
        match get_varint(&bytes[used..]) {
            Varint::Value(0, 1) if field == 0 => return Ok(Entry::Terminator),
            Varint::Value(0, _) if field == 0 => return Err("page index names page 0"),
            Varint::Value(number, len) => {
                *value = number;
                used += len;
            }
            Varint::Cut => return Ok(Entry::Cut),
            Varint::TooLong => return Err("page index holds a number of more than 64 bits"),
        }
    }
    let [page, offset, frame_len] = values;
    Ok(Entry::Frame { page, offset, frame_len, len: used })
}
