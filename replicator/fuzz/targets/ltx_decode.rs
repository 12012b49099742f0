//! Any bytes as an LTX file: no panic, bounded memory, and the same answer however the bytes are cut into pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use replicator::ltx::{Decoder, Event, Trailer, page_checksum};

fuzz_target!(|input: &[u8]| {
    let Some((&piece, file)) = input.split_last() else { return };
    let whole = decode(file, usize::MAX);
    let pieces = decode(file, usize::from(piece) * 40 + 1);
    assert_eq!(whole, pieces);
});

/// The pages' checksums and the trailer, or the error.
fn decode(file: &[u8], piece: usize) -> Result<(Vec<u64>, Trailer), String> {
    let mut decoder = Decoder::new();
    let mut pages = Vec::new();
    for bytes in file.chunks(piece) {
        decoder.push(bytes);
        while let Some(event) = decoder.next().map_err(|error| error.to_string())? {
            if let Event::Page { number, data } = event {
                pages.push(page_checksum(number, data));
            }
        }
    }
    let trailer = decoder.finish().map_err(|error| error.to_string())?;
    Ok((pages, trailer))
}
