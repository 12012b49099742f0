//! What the encoder writes, and what it refuses.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decodes_to_what_was_encoded((header, pages) in any_file(), piece in 1_usize..100_000) {
        let file = encode(header, &pages);
        let (read, found, _) = decode(&file, piece).unwrap();
        prop_assert_eq!(read, header);
        prop_assert_eq!(&found, &pages);
        prop_assert!(file.len() as u64 >= MIN_FILE_LEN);
        // The same by a decoder that shares nothing with ours.
        prop_assert_eq!(conformance::ltx::parse(&file).unwrap().pages, pages);
    }

    #[test]
    fn page_checksum_agrees_with_another_crc(number in 1_u32.., data in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bytes = [&number.to_be_bytes()[..], &data].concat();
        prop_assert_eq!(page_checksum(PageNumber(number), &data), oracle_crc(&bytes));
    }
}

#[test]
fn the_oracle_is_crc_64_go_iso() {
    assert_eq!(oracle_crc(b"123456789"), 0xb909_56c7_75a4_1001);
}

#[test]
fn all_but_the_compressed_bytes_are_laid_out_as_specified() {
    let header = header(512, 3, 1, 1);
    let pages: Pages = (1..=3).map(|n| (n, vec![u8::try_from(n).unwrap(); 512])).collect();
    let file = encode(header, &pages);
    assert_eq!(file[..4], *b"LTX1");
    assert_eq!(file[4..8], [0, 0, 0, 2], "flags: no checksum tracking");
    assert_eq!(file[72..100], [0; 28], "node id and reserved bytes");
    let mut at = 100;
    let mut index = Vec::new();
    let mut hashed = file[..100].to_vec();
    for (&number, data) in &pages {
        assert_eq!(file[at..at + 6], [0, 0, 0, number.to_le_bytes()[0], 0, 1]);
        let len = u32::from_be_bytes(file[at + 6..at + 10].try_into().unwrap()) as usize;
        assert_eq!(lz4_flex::block::decompress(&file[at + 10..at + 10 + len], 512).unwrap(), *data);
        hashed.extend(&file[at..at + 10]);
        hashed.extend(data);
        for value in [u64::from(number), at as u64, 10 + len as u64] {
            leb128(value, &mut index);
        }
        at += 10 + len;
    }
    index.push(0);
    let tail = [&[0; 6][..], &index, &(index.len() as u64).to_be_bytes(), &[0; 8]].concat();
    assert_eq!(file[at..file.len() - 8], tail);
    hashed.extend(tail);
    assert_eq!(file[file.len() - 8..], oracle_crc(&hashed).to_be_bytes());
}

#[test]
fn a_long_index_comes_in_bounded_pieces_and_equals_the_whole() {
    // Gaps, so that both forms of log entries occur, and enough pages for several pieces.
    let commit = 40_000;
    let header = header(512, commit, 2, 2);
    let mut encoder = Encoder::new(header).unwrap();
    let mut file = encoder.header_bytes().to_vec();
    let data = page(512, 1);
    for number in (1..=commit).filter(|n| n % 100 < 60) {
        encoder.page(PageNumber(number), &data, &mut file).unwrap();
    }
    let mut tail = encoder.into_tail().unwrap();
    let mut pieces = 0;
    let trailer = loop {
        let before = file.len();
        let trailer = tail.write_some(&mut file);
        assert!(file.len() - before < 200_000);
        pieces += 1;
        if let Some(trailer) = trailer {
            break trailer;
        }
    };
    assert!(pieces > 2, "{pieces} pieces");
    let (_, pages, found) = decode(&file, 1 << 20).unwrap();
    assert_eq!((pages.len(), found), (24_000, trailer));
}

#[test]
fn the_lock_page_is_skipped_and_refused() {
    let lock = PageSize::new(65536).unwrap().lock_page().0;
    assert_eq!(lock, 16385);
    let header = header(65536, lock + 1, 1, 1);
    let mut encoder = Encoder::new(header).unwrap();
    let data = vec![0; 65536];
    let mut out = encoder.header_bytes().to_vec();
    for number in 1..lock {
        encoder.page(PageNumber(number), &data, &mut out).unwrap();
    }
    let error = encoder.page(PageNumber(lock), &data, &mut out).unwrap_err();
    assert!(error.to_string().contains("lock page"), "{error}");
    encoder.page(PageNumber(lock + 1), &data, &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    let mut decoder = Decoder::new();
    let mut seen = 0;
    for piece in out.chunks(1 << 20) {
        decoder.push(piece);
        while decoder.next().unwrap().is_some() {
            seen += 1;
        }
    }
    decoder.finish().unwrap();
    assert_eq!(seen, lock + 2, "header, every page but one, end");
}

/// Encodes pages in the order given and returns the first refusal.
fn refusal(header: Header, pages: &[u32]) -> String {
    let mut encoder = match Encoder::new(header) {
        Ok(encoder) => encoder,
        Err(error) => return error.to_string(),
    };
    let data = vec![0; header.page_size.bytes()];
    let mut out = Vec::new();
    for &number in pages {
        if let Err(error) = encoder.page(PageNumber(number), &data, &mut out) {
            return error.to_string();
        }
    }
    encoder.finish(&mut out).expect_err("must be refused").to_string()
}

#[test]
fn refuses_what_litestream_could_not_restore() {
    let full = header(512, 3, 1, 4);
    let delta = header(512, 3, 2, 4);
    let cases = [
        (full, vec![2], "page 1 is missing"),
        (full, vec![1, 3], "page 2 is missing"),
        (full, vec![1, 2], "pages end at 2"),
        (full, vec![], "pages end at 0"),
        (delta, vec![2, 2], "page 2 comes after page 2"),
        (delta, vec![3, 1], "page 1 comes after page 3"),
        (delta, vec![4], "outside the database of 3 pages"),
        (delta, vec![0], "outside the database"),
        (Header { commit: 0, ..delta }, vec![], "0 pages"),
        (Header { flags: 0, pre_apply_checksum: 1 << 63, ..delta }, vec![], "checksum tracking"),
        (Header { flags: 4, ..delta }, vec![], "unknown header flags"),
        (Header { min_txid: Txid(0), ..delta }, vec![], "starts at 0"),
        (Header { min_txid: Txid(5), ..delta }, vec![], "is empty"),
        (Header { wal_salt1: 1, ..delta }, vec![], "without a WAL offset"),
        (Header { pre_apply_checksum: 1 << 63, ..full }, vec![], "pre-apply"),
    ];
    for (header, pages, message) in cases {
        let refusal = refusal(header, &pages);
        assert!(refusal.contains(message), "{pages:?}: {refusal}");
    }
    let mut encoder = Encoder::new(delta).unwrap();
    assert!(encoder.page(PageNumber(1), &[0; 100], &mut Vec::new()).is_err(), "short page");
}
