//! Cut, flipped and forged input: precise errors, no panic, no memory.

use super::*;
use crate::error::ErrorKind;

fn samples() -> Vec<Vec<u8>> {
    let pages: Pages = [(1, page(512, 1)), (2, page(512, 2)), (5, page(512, 3))].into();
    let every: Pages = (1..=5).map(|n| (n, page(512, n.into()))).collect();
    let frame =
        Coding::Frame { linked: true, block_checksums: true, content_checksum: true, content_size: true };
    vec![
        encode(header(512, 5, 2, 3), &pages),
        encode(header(512, 5, 1, 3), &every),
        naive_file(&header(512, 5, 2, 3), 0, &pages, LITESTREAM_FRAME),
        naive_file(&header(512, 5, 2, 3), 0, &pages, frame),
    ]
}

fn must_fail(file: &[u8], what: &str) -> String {
    match decode(file, 300) {
        Ok(_) => panic!("{what} was accepted"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            error.to_string()
        }
    }
}

/// The encoder of Litestream writes none without checksum tracking, and nothing can be made of one.
#[test]
fn a_database_of_no_pages_is_an_error() {
    let file = naive_file(&header(512, 0, 2, 3), 0, &Pages::new(), LITESTREAM_FRAME);
    assert!(must_fail(&file, "an empty database").contains("0 pages"));
}

#[test]
fn every_cut_is_an_error() {
    for file in samples() {
        for len in 0..file.len() {
            let message = must_fail(&file[..len], "a cut file");
            assert!(message.contains("cut after"), "{len}: {message}");
        }
        let longer = [&file[..], &[0]].concat();
        assert!(must_fail(&longer, "a longer file").contains("after the end"));
    }
}

/// The checksum covers pages uncompressed, so a flip in the compressed bytes is caught by it, or by the page's length,
/// unless the block still inflates to the same page; every other flip must fail.
#[test]
fn every_flipped_bit_is_an_error() {
    for file in samples() {
        let (_, pages, _) = decode(&file, usize::MAX).unwrap();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match decode(&flipped, usize::MAX) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}"),
                Ok((_, found, _)) => assert_eq!(found, pages, "bit {bit}"),
            }
        }
    }
}

#[test]
fn forged_lengths_are_refused_before_memory_is_spent() {
    let file = encode(header(512, 5, 2, 3), &[(2, page(512, 3))].into());
    let mut forged = file.clone();
    forged[106..110].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(must_fail(&forged, "a huge block").contains("page 2: 4294967295 compressed bytes"));

    let framed = naive_file(&header(512, 5, 2, 3), 0, &[(2, page(512, 3))].into(), LITESTREAM_FRAME);
    let mut forged = framed.clone();
    forged[113..117].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    assert!(must_fail(&forged, "a huge LZ4 frame block").contains("LZ4 frame of at least"));

    // A frame of endless one-byte blocks.
    let mut forged = framed[..113].to_vec();
    for _ in 0..2000 {
        forged.extend([1, 0, 0, 0x80, 7]);
    }
    assert!(must_fail(&forged, "endless blocks").contains("blocks"));

    // An index that never ends.
    let mut forged = file[..file.len() - 24].to_vec();
    forged.pop();
    forged.extend([9; 30_000]);
    assert!(must_fail(&forged, "an endless index").contains("more entries"));
    // A number that never ends.
    let index_at = file.len() - 25 - 4;
    let mut forged = file[..index_at].to_vec();
    forged.extend([0xff; 40]);
    assert!(must_fail(&forged, "an endless number").contains("64 bits"));
}

#[test]
fn headers_are_checked_field_by_field() {
    let good = header(512, 5, 2, 3);
    let cases: [(Header, &str); 6] = [
        (Header { flags: 8, ..good }, "unknown header flags 0x8"),
        (Header { min_txid: Txid(0), ..good }, "starts at 0"),
        (Header { max_txid: Txid(1), ..good }, "is empty"),
        (Header { wal_offset: -1, ..good }, "negative WAL position"),
        (Header { wal_size: 9, ..good }, "without a WAL offset"),
        (Header { flags: 0, ..good }, "pre-apply checksum 0000000000000000"),
    ];
    for (header, message) in cases {
        let found = must_fail(&naive_file(&header, 0, &Pages::new(), Coding::Literals), message);
        assert!(found.contains(message), "{found}");
    }
    let mut file = encode(good, &Pages::new());
    file[8..12].copy_from_slice(&1000_u32.to_be_bytes());
    assert!(must_fail(&file, "page size").contains("page size 1000"));
    file[0] = b'X';
    assert!(must_fail(&file, "magic").contains("does not begin with LTX1"));
}

#[test]
fn page_order_is_checked() {
    let pages = |numbers: &[u32]| numbers.iter().map(|&n| (n, vec![0; 512])).collect::<Pages>();
    let lock = header(512, u32::MAX, 2, 3);
    let cases = [
        (header(512, 5, 2, 3), pages(&[6]), "outside the database of 5 pages"),
        (header(512, 5, 1, 3), pages(&[1, 2, 4]), "page 3 is missing"),
        (header(512, 5, 1, 3), pages(&[1, 2]), "pages end at 2"),
        (lock, pages(&[2_097_153]), "lock page"),
    ];
    for (header, pages, message) in cases {
        let found = must_fail(&naive_file(&header, 0, &pages, Coding::Literals), message);
        assert!(found.contains(message), "{found}");
    }
    // The same page twice.
    let once = naive_file(&header(512, 5, 2, 3), 0, &pages(&[2]), Coding::Literals);
    let frame_end = once.len() - 6 - 5 - 8 - 16;
    let twice = [&once[..frame_end], &once[100..frame_end]].concat();
    assert!(must_fail(&twice, "a repeated page").contains("page 2 comes after page 2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn noise_never_panics(sample in 0_usize..4, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), piece in 1_usize..700) {
        let mut file = samples().swap_remove(sample);
        let intact = decode(&file, piece).unwrap().1;
        for (at, value) in edits {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Ok((_, pages, _)) = decode(&file, piece) {
            prop_assert_eq!(pages, intact);
        }
    }

    #[test]
    fn a_failed_decoder_stays_failed(cut in 0_usize..400) {
        let mut file = samples().swap_remove(0);
        file[4] = 0xff;
        let mut decoder = Decoder::new();
        decoder.push(&file[..100 + cut]);
        prop_assert!(decoder.next().is_err());
        decoder.push(&file[100 + cut..]);
        prop_assert!(decoder.next().is_err());
        prop_assert!(decoder.finish().is_err());
    }
}
