//! The merge against a model that holds everything in maps.

use super::*;
use crate::error::ErrorKind;

/// Merges whole files through [`Merge`], handing over pieces of `piece` bytes when asked.
pub(super) fn merge(files: &[Vec<u8>], piece: usize) -> Result<(Header, Pages)> {
    run(&mut Merge::new(files.len()), files, piece)
}

fn run(merge: &mut Merge, files: &[Vec<u8>], piece: usize) -> Result<(Header, Pages)> {
    let mut given = vec![0; files.len()];
    let mut header = None;
    let mut pages = Pages::new();
    let mut again = None;
    let mut copied = Vec::new();
    loop {
        match merge.next()? {
            MergeEvent::NeedInput(input) => {
                let rest = &files[input][given[input]..];
                let take = rest.len().min(piece);
                merge.push(input, &rest[..take]);
                given[input] += take;
                if given[input] == files[input].len() {
                    merge.end(input);
                }
            }
            MergeEvent::Header(found) => {
                header = Some(found);
                copied.extend_from_slice(&found.to_bytes());
                again = Some(Encoder::new(found)?);
            }
            MergeEvent::Page { number, data, block } => {
                let encoder = again.as_mut().expect("the header comes first");
                match block {
                    Some(block) => encoder.page_as_stored(number, data, block, &mut copied)?,
                    None => encoder.page(number, data, &mut copied)?,
                }
                assert!(pages.last_key_value().is_none_or(|(&last, _)| last < number.0));
                pages.insert(number.0, data.to_vec());
            }
            MergeEvent::End => {
                again.expect("comes first").finish(&mut copied)?;
                let header = header.expect("comes first");
                let (found, again, _) = decode(&copied, 999)?;
                assert!((found, &again) == (header, &pages), "blocks that are passed on make a valid file");
                return Ok((header, pages));
            }
        }
    }
}

/// Consecutive files of a database that grows and shrinks, some ranges overlapping their predecessor.
fn any_chain() -> impl Strategy<Value = Vec<(Header, Pages)>> {
    let step = (1_u32..30, any::<u64>(), 0_u64..3, 1_u64..4, any::<u32>());
    (1_u64..3, prop::collection::vec(step, 1..7)).prop_map(|(first, steps)| {
        let mut previous: Option<Header> = None;
        let mut chain = Vec::new();
        for (commit, seed, overlap, length, chosen) in steps {
            let min = previous.map_or(first, |header| {
                (header.max_txid.0 + 1 - overlap.min(header.max_txid.0 - 1)).max(first)
            });
            let max = previous.map_or(first, |header| header.max_txid.0) + length;
            let header = header(512, commit, min, max);
            // Growth is always complete: a file brings every page its predecessor did not have.
            let old_size = previous.map_or(0, |header| header.commit);
            let needed = |n: u32| header.is_full() || n > old_size || chosen >> (n % 32) & 1 == 1;
            let pages =
                (1..=commit).filter(|&n| needed(n)).map(|n| (n, page(512, seed.wrapping_add(n.into()))));
            chain.push((header, pages.collect()));
            previous = Some(header);
        }
        chain
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn newest_page_wins_up_to_the_last_size(chain in any_chain(), piece in 1_usize..3000) {
        let mut model = Pages::new();
        for (header, pages) in &chain {
            model.extend(pages.clone());
            model.retain(|&number, _| number <= header.commit);
        }
        let files: Vec<_> = chain.iter().map(|(header, pages)| encode(*header, pages)).collect();
        let (first, last) = (chain[0].0, chain[chain.len() - 1].0);
        let (found, pages) = merge(&files, piece).unwrap();
        prop_assert_eq!(
            (found.min_txid, found.max_txid, found.commit, found.timestamp),
            (first.min_txid, last.max_txid, last.commit, last.timestamp)
        );
        prop_assert_eq!(&pages, &model);
        // What a merge gives can be encoded, and merging is associative.
        let merged = encode(found, &pages);
        prop_assert_eq!(decode(&merged, 999).unwrap().1, model);
        let split = files.len() / 2;
        if split > 0 {
            let (left, left_pages) = merge(&files[..split], piece).unwrap();
            let left = encode(left, &left_pages);
            let (_, again) = merge(&[&[left][..], &files[split..]].concat(), piece).unwrap();
            prop_assert_eq!(again, pages);
        }
    }
}

fn delta(page_size: u32, min: u64, max: u64) -> Vec<u8> {
    encode(header(page_size, 3, min, max), &[(2, page(page_size, min))].into())
}

#[test]
fn refuses_inputs_that_do_not_belong_together() {
    let cases = [
        (vec![delta(512, 2, 3), delta(512, 5, 6)], "do not continue"),
        (vec![delta(512, 2, 6), delta(512, 3, 6)], "do not continue"),
        (vec![delta(512, 4, 5), delta(512, 2, 3)], "do not continue"),
        (vec![delta(512, 2, 3), delta(1024, 4, 5)], "pages of 512 and 1024 bytes"),
    ];
    for (files, message) in cases {
        let error = merge(&files, 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(message), "{error}");
    }
    merge(&[delta(512, u64::MAX - 1, u64::MAX - 1), delta(512, u64::MAX, u64::MAX)], 1000).unwrap();
}

#[test]
fn growth_without_its_pages_is_an_error_in_a_full_result() {
    let base = encode(header(512, 1, 1, 1), &[(1, page(512, 1))].into());
    let hole = encode(header(512, 3, 2, 2), &[(3, page(512, 3))].into());
    let error = merge(&[base, hole], 1000).unwrap_err();
    assert!(error.to_string().contains("page 2 is missing"), "{error}");
}

#[test]
fn every_input_must_be_complete_and_valid() {
    let files = [delta(512, 2, 3), delta(512, 4, 5), delta(512, 6, 7)];
    for victim in 0..files.len() {
        let refused = |bad: &[u8], what: &str| {
            let mut files = files.clone();
            files[victim] = bad.to_vec();
            let mut merge = Merge::new(files.len());
            assert!(run(&mut merge, &files, 64).is_err(), "{what}");
            assert_eq!(merge.faulty_input(), Some(victim), "{what}");
        };
        let good = &files[victim];
        for cut in 0..good.len() {
            refused(&good[..cut], "cut");
        }
        refused(&[&good[..], &[0]].concat(), "bytes after the end");
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        refused(&bad, "wrong checksum");
    }
}
