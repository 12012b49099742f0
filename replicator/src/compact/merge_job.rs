//! One merge: inputs in chunks → newest pages → one object, published only when every input was found complete.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::copies::LocalCopy;
use super::input::{self, Input};
use crate::bucket::{Bucket, PutCondition, PutOptions, PutOutcome, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BoxFuture, Host, UnixMillis};
use crate::ltx::{Encoder, HEADER_LEN, Header, Merge, MergeEvent};
use crate::replica::{Entry, Level, LtxName};

/// Bytes collected before they are handed to the upload.
const OUTPUT_CHUNK: usize = 256 << 10;

/// First chunks fetched at the same time.
const CONCURRENT_FIRST_CHUNKS: usize = 8;

/// What a merge published.
pub(super) struct Outcome {
    pub(super) name: LtxName,
    pub(super) size: u64,
    pub(super) timestamp: UnixMillis,
    /// How many of the inputs went into it: those after a change of page size did not.
    pub(super) inputs: usize,
}

/// A merge that published nothing.
pub(super) struct Failed {
    pub(super) error: Error,
    /// The published object whose bytes are not a valid file of that name, if that is why.
    pub(super) corrupt: Option<LtxName>,
    /// The published object that is not there, if that is why.
    pub(super) vanished: Option<LtxName>,
    /// What was read from local copies may be why.
    is_local: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, corrupt: None, vanished: None, is_local: false }
    }
}

impl Failed {
    /// An error of reading `input`, or of what was read.
    fn of(input: &Input, bucket: &dyn Bucket, error: Error) -> Self {
        let object_is = |kind| (error.kind() == kind && !input.is_local()).then_some(input.entry.name);
        let (corrupt, vanished) = (object_is(ErrorKind::Corrupt), object_is(ErrorKind::NotFound));
        let error = error.context(input.describe(bucket));
        Self { error, corrupt, vanished, is_local: input.is_local() }
    }

    /// Names what was to be published, of inputs that may each be as they should be.
    fn context(mut self, bucket: &dyn Bucket, level: Level, inputs: &[Input]) -> Self {
        if let [first, .., last] | [first @ last] = inputs {
            let name = LtxName { level, min: first.entry.name.min, max: last.entry.name.max };
            let place = format!("{}/{}", bucket.location(), name.key(bucket.layout()));
            self.error = self.error.context(format_args!("merging {} files into {place}", inputs.len()));
        }
        self
    }

    /// An error of what was read, which no input has alone.
    fn of_all(inputs: &[Input], error: Error) -> Self {
        Self { is_local: inputs.iter().any(Input::is_local), ..Self::from(error) }
    }
}

/// Where a merge reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) host: &'a Host,
    pub(super) bucket: &'a dyn Bucket,
}

/// Merges consecutive files into one of `level`. Local copies of the inputs are preferred.
///
/// # Errors
/// Nothing is published then. `Conflict` if other bytes are already there under that name.
pub(super) async fn run(
    place: Place<'_>,
    level: Level,
    mut inputs: Vec<(Entry, Option<LocalCopy>)>,
) -> Result<Outcome, Failed> {
    match attempt(place, level, &inputs).await {
        // A damaged or vanishing local copy must not stop compaction: the published objects are the truth.
        Err(Failed { error, is_local: true, .. }) => {
            tracing::warn!(%error, "merging from local copies failed; using the published objects");
            inputs.iter_mut().for_each(|(_, copy)| *copy = None);
            attempt(place, level, &inputs).await
        }
        result => result,
    }
}

async fn attempt(
    place: Place<'_>,
    level: Level,
    inputs: &[(Entry, Option<LocalCopy>)],
) -> Result<Outcome, Failed> {
    let mut inputs = input::of_merge(place.bucket, inputs);
    let firsts = open(place, &mut inputs).await?;
    let mut merge = Merge::new(inputs.len());
    for (index, first) in firsts.iter().enumerate() {
        merge.push(index, first);
    }
    drop(firsts);
    let mut output = None;
    if let Err(failed) = copy(&mut merge, &mut inputs, place, level, &mut output).await {
        // The first error says what happened; a failed clean-up leaves an invisible upload.
        if let Some(output) = output
            && let Err(error) = output.upload.abort().await
        {
            tracing::debug!(%error, "could not remove the unfinished upload of {}", output.name);
        }
        return Err(match merge.faulty_input() {
            Some(index) => Failed::of(&inputs[index], place.bucket, failed.error),
            None => failed.context(place.bucket, level, &inputs),
        });
    }
    let output = output.expect("a merge without an error began with a header");
    match output.upload.finish().await? {
        PutOutcome::Written | PutOutcome::AlreadyThere => Ok(Outcome {
            name: output.name,
            size: output.size,
            timestamp: output.timestamp,
            inputs: inputs.len(),
        }),
        PutOutcome::Conflict => {
            let place = place.bucket.location();
            let message = format!("{place}: {} exists with other content; it is left alone", output.name);
            Err(Error::new(ErrorKind::Conflict, message).into())
        }
    }
}

/// Fetches the first chunk of every input, and drops the inputs from where the page size changes.
async fn open(place: Place<'_>, inputs: &mut Vec<Input>) -> Result<Vec<Bytes>, Failed> {
    let opening: Vec<_> = inputs.iter_mut().map(|input| open_one(place, input)).collect();
    let opened: Vec<_> = stream::iter(opening).buffered(CONCURRENT_FIRST_CHUNKS).try_collect().await?;
    let page_size = opened.first().map(|(header, _)| header.page_size);
    let same = opened.into_iter().take_while(|(header, _)| Some(header.page_size) == page_size);
    let firsts: Vec<Bytes> = same.map(|(_, first)| first).collect();
    inputs.truncate(firsts.len());
    Ok(firsts)
}

fn open_one<'a>(place: Place<'a>, input: &'a mut Input) -> BoxFuture<'a, Result<(Header, Bytes), Failed>> {
    Box::pin(async move {
        let first = input.next_chunk(place).await;
        let checked = first.and_then(|first| Ok((check_header(&first, &input.entry.name)?, first)));
        checked.map_err(|error| Failed::of(input, place.bucket, error))
    })
}

/// Reads the header. An object whose content is another file's must not be merged under this one's name.
fn check_header(first: &Bytes, name: &LtxName) -> Result<Header> {
    let bytes = first.first_chunk::<HEADER_LEN>();
    let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, "too short for an LTX file"))?;
    let header = Header::from_bytes(bytes)?;
    if (header.min_txid, header.max_txid) == (name.min, name.max) {
        return Ok(header);
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("holds transactions {}-{}, its name says otherwise", header.min_txid, header.max_txid),
    ))
}

/// Gives the merge the next chunk of an input, or its end.
async fn feed(merge: &mut Merge, inputs: &mut [Input], index: usize, place: Place<'_>) -> Result<(), Failed> {
    let input = &mut inputs[index];
    let chunk = input.next_chunk(place).await;
    let chunk = chunk.map_err(|error| Failed::of(input, place.bucket, error))?;
    if chunk.is_empty() {
        merge.end(index);
    } else {
        merge.push(index, &chunk);
    }
    Ok(())
}

/// Copies the merged pages into an upload, which begins with the header.
async fn copy(
    merge: &mut Merge,
    inputs: &mut [Input],
    place: Place<'_>,
    level: Level,
    output: &mut Option<Output>,
) -> Result<(), Failed> {
    let mut encoder = None;
    loop {
        match merge.next().map_err(|error| Failed::of_all(inputs, error))? {
            MergeEvent::NeedInput(index) => feed(merge, inputs, index, place).await?,
            MergeEvent::Header(header) => {
                let begun = Encoder::new(header).map_err(|error| Failed::of_all(inputs, error))?;
                let begun = encoder.insert(begun);
                let output = output.insert(Output::begin(place, level, &header).await?);
                output.buffer.extend_from_slice(&begun.header_bytes());
            }
            MergeEvent::Page { number, data, block } => {
                let (Some(encoder), Some(output)) = (&mut encoder, &mut *output) else {
                    unreachable!("a merge begins with a header")
                };
                let encoded = match block {
                    Some(block) => encoder.page_as_stored(number, data, block, &mut output.buffer),
                    None => encoder.page(number, data, &mut output.buffer),
                };
                encoded.map_err(|error| Failed::of_all(inputs, error))?;
                output.flush(OUTPUT_CHUNK).await?;
            }
            MergeEvent::End => break,
        }
    }
    let (Some(encoder), Some(output)) = (encoder, output) else {
        unreachable!("a merge begins with a header")
    };
    let mut tail = encoder.into_tail().map_err(|error| Failed::of_all(inputs, error))?;
    while tail.write_some(&mut output.buffer).is_none() {
        output.flush(OUTPUT_CHUNK).await?;
    }
    output.flush(1).await?;
    Ok(())
}

/// An upload and the bytes on their way to it.
struct Output {
    name: LtxName,
    timestamp: UnixMillis,
    upload: Box<dyn Upload>,
    buffer: Vec<u8>,
    size: u64,
}

impl Output {
    async fn begin(place: Place<'_>, level: Level, header: &Header) -> Result<Self> {
        let name = LtxName { level, min: header.min_txid, max: header.max_txid };
        let key = name.key(place.bucket.layout());
        let options = PutOptions { timestamp: Some(header.timestamp) };
        let upload = place.bucket.upload(&key, PutCondition::IfAbsent, options).await?;
        Ok(Self { name, timestamp: header.timestamp, upload, buffer: Vec::new(), size: 0 })
    }

    /// Hands over what has been collected, if it is at least `threshold` bytes.
    async fn flush(&mut self, threshold: usize) -> Result<()> {
        if self.buffer.len() < threshold {
            return Ok(());
        }
        self.size += self.buffer.len() as u64;
        self.upload.write(Bytes::from(std::mem::take(&mut self.buffer))).await
    }
}
