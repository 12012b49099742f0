//! Newest-wins merge of consecutive files: the content of compaction and of restore.
//!
//! Sans-I/O: says which input it needs bytes of, and hands out pages in ascending order. Memory is that of one
//! [`Decoder`] per input.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::decoder::{Decoder, Step};
use super::format::corrupt;
use super::page_order::PageOrder;
use super::types::{Header, PageNumber};
use crate::error::Result;

/// What a [`Merge`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum MergeEvent<'a> {
    /// More bytes of this input are needed: [`Merge::push`] them, or [`Merge::end`] the input.
    NeedInput(usize),
    /// Header of the result: the range of all inputs, size and time of the last, no WAL position.
    Header(Header),
    /// The newest version of a page; none is past the final size, and a result that starts at transaction 1 has all.
    Page {
        /// Its number.
        number: PageNumber,
        /// Exactly one page.
        data: &'a [u8],
        /// The page as an LZ4 block, if its file stored it so.
        block: Option<&'a [u8]>,
    },
    /// All inputs have ended and all were valid.
    End,
}

/// Merges files given oldest first. Ranges must follow each other or overlap, page sizes must be equal.
pub struct Merge {
    inputs: Vec<Input>,
    /// Inputs to advance before the next page can be chosen.
    waiting: Vec<usize>,
    /// The page each of the other inputs stands at, lowest page first, newest input first among equals.
    heads: BinaryHeap<Reverse<(PageNumber, Reverse<usize>)>>,
    result: Option<(Header, PageOrder)>,
    faulty: Option<usize>,
}

struct Input {
    decoder: Decoder,
    header: Option<Header>,
    ended: bool,
}

impl Input {
    /// As [`Decoder::advance`], where `None` or the end from an ended input means that it was complete.
    fn advance(&mut self) -> Result<Option<Step>> {
        let step = self.decoder.advance()?;
        if self.ended && matches!(step, None | Some(Step::End(_))) {
            self.decoder.finish()?;
        }
        Ok(step)
    }
}

impl Merge {
    /// A merge of `inputs` files, numbered from 0 (oldest).
    ///
    /// # Panics
    /// If `inputs` is 0.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        assert!(inputs > 0, "a merge needs an input");
        let input = || Input { decoder: Decoder::new(), header: None, ended: false };
        Self {
            inputs: (0..inputs).map(|_| input()).collect(),
            waiting: (0..inputs).rev().collect(),
            heads: BinaryHeap::new(),
            result: None,
            faulty: None,
        }
    }

    /// Adds the next bytes of an input that [`MergeEvent::NeedInput`] named.
    pub fn push(&mut self, input: usize, bytes: &[u8]) {
        self.inputs[input].decoder.push(bytes);
    }

    /// Says that an input has no more bytes than those pushed. Whether it is complete shows in [`Merge::next`].
    pub fn end(&mut self, input: usize) {
        self.inputs[input].ended = true;
    }

    /// Header of an input, once it has been read.
    #[must_use]
    pub fn input_header(&self, input: usize) -> Option<&Header> {
        self.inputs[input].header.as_ref()
    }

    /// After an error: the input whose bytes were wrong, if it was one alone.
    #[must_use]
    pub fn faulty_input(&self) -> Option<usize> {
        self.faulty
    }

    /// The next event. After [`MergeEvent::End`] it stays at the end.
    ///
    /// # Errors
    /// `Corrupt` if an input is invalid (see [`Merge::faulty_input`]), or the inputs do not belong together.
    #[expect(clippy::should_implement_trait, reason = "lends a page, which Iterator cannot")]
    pub fn next(&mut self) -> Result<MergeEvent<'_>> {
        if self.result.is_none() {
            while let Some(&input) = self.waiting.last() {
                if !self.read_header(input)? {
                    return Ok(MergeEvent::NeedInput(input));
                }
                self.waiting.pop();
            }
            let header = self.combined_header()?;
            self.result = Some((header, PageOrder::new(&header)));
            self.waiting = (0..self.inputs.len()).rev().collect();
            return Ok(MergeEvent::Header(header));
        }
        loop {
            while let Some(&input) = self.waiting.last() {
                if !self.read_page(input)? {
                    return Ok(MergeEvent::NeedInput(input));
                }
                self.waiting.pop();
            }
            let (header, order) = self.result.as_mut().expect("set above");
            let Some(Reverse((number, Reverse(newest)))) = self.heads.pop() else {
                order.finish().map_err(corrupt)?;
                return Ok(MergeEvent::End);
            };
            self.waiting.push(newest);
            while let Some(&Reverse((other, Reverse(older)))) = self.heads.peek()
                && other == number
            {
                self.heads.pop();
                self.waiting.push(older);
            }
            if number.0 <= header.commit {
                order.accept(number).map_err(corrupt)?;
                let winner = planted!("oldest-input-wins", self.waiting[self.waiting.len() - 1], newest);
                // The winner's page stays in its decoder until that one advances.
                let decoder = &self.inputs[winner].decoder;
                return Ok(MergeEvent::Page {
                    number,
                    data: decoder.page_data(),
                    block: decoder.page_block(),
                });
            }
        }
    }

    /// Reads the header of an input; `false` if it needs bytes.
    fn read_header(&mut self, index: usize) -> Result<bool> {
        match self.advance(index)? {
            Some(Step::Header(header)) => {
                self.inputs[index].header = Some(header);
                Ok(true)
            }
            Some(Step::Page(_) | Step::End(_)) => unreachable!("a decoder starts with its header"),
            None => Ok(false),
        }
    }

    /// Moves an input to its next page or its end; `false` if it needs bytes, or needs to be told that there are
    /// none: bytes after the end of a file are an error.
    fn read_page(&mut self, index: usize) -> Result<bool> {
        match self.advance(index)? {
            Some(Step::Page(number)) => {
                self.heads.push(Reverse((number, Reverse(index))));
                Ok(true)
            }
            Some(Step::End(_)) | None => Ok(self.inputs[index].ended),
            Some(Step::Header(_)) => unreachable!("a decoder gives its header once"),
        }
    }

    fn advance(&mut self, index: usize) -> Result<Option<Step>> {
        let step = self.inputs[index].advance();
        if step.is_err() {
            self.faulty = Some(index);
        }
        step
    }

    /// Checks that the inputs belong together and derives the header of the result.
    fn combined_header(&self) -> Result<Header> {
        let headers: Vec<Header> =
            self.inputs.iter().map(|input| input.header.expect("all headers were read")).collect();
        for (index, pair) in headers.windows(2).enumerate() {
            let [previous, next] = pair else { unreachable!("windows of 2") };
            if previous.page_size != next.page_size {
                return Err(corrupt(format!(
                    "inputs {index} and {} have pages of {} and {} bytes",
                    index + 1,
                    previous.page_size.get(),
                    next.page_size.get()
                )));
            }
            // Not `previous.max + 1`, which overflows for the highest id.
            if next.min_txid.0 - 1 > previous.max_txid.0 || next.max_txid <= previous.max_txid {
                return Err(corrupt(format!(
                    "transactions {}-{} do not continue {}-{}",
                    next.min_txid, next.max_txid, previous.min_txid, previous.max_txid
                )));
            }
        }
        let first = headers[0];
        let last = headers[headers.len() - 1];
        Ok(Header {
            flags: Header::NO_CHECKSUM,
            page_size: first.page_size,
            commit: planted!(
                "merge-never-shrinks",
                headers.iter().map(|h| h.commit).max().unwrap_or(0),
                last.commit
            ),
            min_txid: first.min_txid,
            max_txid: last.max_txid,
            timestamp: planted!("merge-has-first-time", first, last).timestamp,
            pre_apply_checksum: 0,
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            node_id: 0,
        })
    }
}
