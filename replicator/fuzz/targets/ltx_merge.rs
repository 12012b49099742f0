//! Any bytes, cut where an LTX file seems to begin, as the inputs of a merge. A merge that succeeds gives a file that
//! can be written and read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use replicator::Result;
use replicator::ltx::{Decoder, Encoder, Merge, MergeEvent};

const MAX_INPUTS: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_last() else { return };
    let mut starts: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, window)| window == b"LTX1").map(|(at, _)| at).collect();
    starts.truncate(MAX_INPUTS);
    if starts.is_empty() {
        return;
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let files: Vec<&[u8]> = starts.iter().zip(ends).map(|(&start, end)| &bytes[start..end]).collect();
    if let Ok(merged) = merge(&files, usize::from(piece) * 40 + 1) {
        let mut decoder = Decoder::new();
        decoder.push(&merged);
        while decoder.next().expect("our own output is valid").is_some() {}
        decoder.finish().expect("our own output is complete");
    }
});

fn merge(files: &[&[u8]], piece: usize) -> Result<Vec<u8>> {
    let mut merge = Merge::new(files.len());
    let mut rest = files.to_vec();
    let mut output = Vec::new();
    let mut encoder = None;
    loop {
        match merge.next()? {
            MergeEvent::NeedInput(index) => {
                let (now, later) = rest[index].split_at(piece.min(rest[index].len()));
                rest[index] = later;
                if now.is_empty() {
                    merge.end(index);
                } else {
                    merge.push(index, now);
                }
            }
            MergeEvent::Header(header) => {
                let begun = encoder.insert(Encoder::new(header)?);
                output.extend_from_slice(&begun.header_bytes());
            }
            MergeEvent::Page { number, data, .. } => {
                let encoder = encoder.as_mut().expect("the header comes first");
                encoder.page(number, data, &mut output).expect("a merge gives pages that can be written");
            }
            MergeEvent::End => break,
        }
    }
    encoder.expect("the header comes first").finish(&mut output)?;
    Ok(output)
}
