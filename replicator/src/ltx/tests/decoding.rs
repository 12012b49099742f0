//! Files of other writers.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reads_every_coding(
        (header, pages) in any_file(),
        coding in prop_oneof![Just(Coding::Literals), any_frame()],
        piece in 1_usize..20_000,
    ) {
        let file = naive_file(&header, 0, &pages, coding);
        let (read, found, _) = decode(&file, piece).unwrap();
        prop_assert_eq!(read, header);
        prop_assert_eq!(found, pages);
    }
}

fn any_frame() -> impl Strategy<Value = Coding> {
    any::<(bool, bool, bool, bool)>().prop_map(|(linked, block_checksums, content_checksum, content_size)| {
        Coding::Frame { linked, block_checksums, content_checksum, content_size }
    })
}

#[test]
fn reads_one_byte_at_a_time() {
    let pages: Pages = (1..=5).map(|n| (n, page(512, n.into()))).collect();
    for file in
        [encode(header(512, 5, 1, 9), &pages), naive_file(&header(512, 5, 1, 9), 0, &pages, LITESTREAM_FRAME)]
    {
        assert_eq!(decode(&file, 1).unwrap().1, pages);
    }
}

#[test]
fn accepts_files_with_checksum_tracking() {
    let header = Header { flags: 0, pre_apply_checksum: 1 << 63 | 5, ..header(1024, 9, 7, 7) };
    let pages: Pages = [(2, page(1024, 2)), (9, page(1024, 3))].into();
    let file = naive_file(&header, 1 << 63 | 6, &pages, LITESTREAM_FRAME);
    let (read, found, trailer) = decode(&file, 300).unwrap();
    assert_eq!((read, found, trailer.post_apply_checksum), (header, pages, 1 << 63 | 6));
}

#[test]
fn accepts_an_index_with_padded_numbers() {
    // Legal LEB128 that our writer would not choose: the entry is compared by value.
    let header = header(512, 1, 1, 1);
    let pages: Pages = [(1, vec![3; 512])].into();
    let file = encode(header, &pages);
    let index_at = file.len() - 16 - 8 - usize::try_from(index_len(&file)).unwrap();
    let mut padded = file[..index_at].to_vec();
    padded.extend([0x81, 0x00]); // 1, in two bytes
    padded.extend(&file[index_at + 1..file.len() - 24]);
    let len = padded.len() - index_at;
    padded.extend((len as u64).to_be_bytes());
    padded.extend([0; 8]);
    let hashed = [&padded[..110], &pages[&1], &padded[index_at - 6..]].concat();
    padded.extend(oracle_crc(&hashed).to_be_bytes());
    assert_eq!(decode(&padded, 7).unwrap().1, pages);
}

fn index_len(file: &[u8]) -> u64 {
    u64::from_be_bytes(file[file.len() - 24..file.len() - 16].try_into().unwrap())
}
