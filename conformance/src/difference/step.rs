//! The requests: a seed gives a sequence over few keys, so that they meet.

use crate::workload::Random;

/// Keys of a sequence; few, with everything that tends to be encoded wrongly.
pub const KEYS: [&str; 6] = ["a", "a/b", "a b+c", "ü/é", "a%2Fb", "z.ltx"];
/// Sizes of bodies.
const SIZES: [usize; 5] = [0, 1, 300, 4096, 70_000];
/// Ranges, good and bad, of objects of those sizes.
const RANGES: [&str; 8] = [
    "bytes=0-0",
    "bytes=1-",
    "bytes=-7",
    "bytes=100-199",
    "bytes=4000-999999",
    "bytes=70000-",
    "bytes=-0",
    "bytes=5-2",
];

/// An ETag in a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Etag {
    /// That of the key's newest object, as the server itself gave it.
    Right,
    /// One that nothing has.
    Stale,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A plain PUT.
    Put(&'static str, usize),
    /// PUT with `If-None-Match: *`.
    Create(&'static str, usize),
    /// PUT with `If-Match`.
    Replace(&'static str, usize, Etag),
    /// A plain GET.
    Get(&'static str),
    /// GET with a range.
    Range(&'static str, &'static str),
    /// GET with `If-Match`.
    GetIf(&'static str, Etag),
    /// GET with `If-None-Match`.
    GetUnless(&'static str, Etag),
    /// HEAD.
    Head(&'static str),
    /// A listing: prefix, start-after, max-keys, delimiter.
    List(&'static str, Option<&'static str>, u32, bool),
    /// DELETE.
    Delete(&'static str),
    /// A batch deletion.
    DeleteBatch(Vec<&'static str>),
    /// An upload of parts of these sizes, completed in this order of parts.
    Multipart(&'static str, Vec<usize>, Vec<u32>),
    /// An upload that is given up, then looked for.
    Abort(&'static str),
}

impl Step {
    /// Whether it may change what is stored.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Self::Get(_)
                | Self::Range(..)
                | Self::GetIf(..)
                | Self::GetUnless(..)
                | Self::Head(_)
                | Self::List(..)
        )
    }

    /// Its kind, as part of a signature.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Put(..) => "put",
            Self::Create(..) => "put if-none-match",
            Self::Replace(_, _, Etag::Right) => "put if-match",
            Self::Replace(_, _, Etag::Stale) => "put if-match stale",
            Self::Get(_) => "get",
            Self::Range(_, "bytes=-0") => "get range of no bytes",
            Self::Range(_, "bytes=5-2") => "get range that ends before it begins",
            Self::Range(..) => "get range",
            Self::GetIf(_, Etag::Right) => "get if-match",
            Self::GetIf(_, Etag::Stale) => "get if-match stale",
            Self::GetUnless(_, Etag::Right) => "get if-none-match",
            Self::GetUnless(_, Etag::Stale) => "get if-none-match stale",
            Self::Head(_) => "head",
            Self::List(_, _, 0, _) => "list no keys",
            Self::List(_, _, _, true) => "list with delimiter",
            Self::List(..) => "list",
            Self::Delete(_) => "delete",
            Self::DeleteBatch(_) => "delete batch",
            Self::Multipart(_, sizes, order) if order.len() < sizes.len() => "multipart without a part",
            Self::Multipart(_, _, order) if order.is_sorted() => "multipart",
            Self::Multipart(..) => "multipart in wrong order",
            Self::Abort(_) => "abort",
        }
    }
}

/// The sequence of a seed, over some of [`KEYS`].
#[must_use]
pub fn steps(seed: u64, count: usize, keys: &[&'static str]) -> Vec<Step> {
    let mut random = Random::new(seed, "difference");
    (0..count).map(|_| step(&mut random, keys)).collect()
}

fn step(random: &mut Random, keys: &[&'static str]) -> Step {
    let (key, size) = (random.pick(keys), random.pick(&SIZES));
    let etag = random.pick(&[Etag::Right, Etag::Right, Etag::Stale]);
    match random.below(24) {
        0..=4 => Step::Put(key, size),
        5..=6 => Step::Create(key, size),
        7 => Step::Replace(key, size, etag),
        8..=9 => Step::Get(key),
        10..=12 => Step::Range(key, random.pick(&RANGES)),
        13 => Step::GetIf(key, etag),
        14 => Step::GetUnless(key, etag),
        15 => Step::Head(key),
        16..=18 => Step::List(
            random.pick(&["", "a", "a/", "ü", "none"]),
            random.pick(&[None, None, Some("a"), Some("a/b"), Some("zz")]),
            random.pick(&[1000, 1000, 2, 1, 0]),
            random.one_in(3),
        ),
        19..=20 => Step::Delete(key),
        21 => Step::DeleteBatch(keys.iter().copied().filter(|_| random.one_in(2)).chain([key]).collect()),
        22 => {
            let (sizes, order) = random.pick(&[
                (&[300][..], &[1][..]),
                (&[300], &[1]),
                // Parts but the last must have 5 MiB.
                (&[300, 1], &[1, 2]),
                (&[300, 1], &[2, 1]),
                (&[300, 1], &[1]),
                (&[5 << 20, 1], &[1, 2]),
            ]);
            Step::Multipart(key, sizes.to_vec(), order.to_vec())
        }
        _ => Step::Abort(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_all_kinds_turn_up() {
        assert_eq!(steps(7, 50, &KEYS), steps(7, 50, &KEYS));
        assert_ne!(steps(7, 50, &KEYS), steps(8, 50, &KEYS));
        let kinds: std::collections::BTreeSet<_> =
            (0..60).flat_map(|seed| steps(seed, 50, &KEYS)).map(|step| step.kind()).collect();
        assert_eq!(kinds.len(), 22, "{kinds:?}");
    }
}
