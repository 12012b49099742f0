//! Choices that a seed repeats.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A stream of choices.
#[derive(Debug, Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream with this name; streams of one seed are independent.
    #[must_use]
    pub fn new(seed: u64, stream: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let name = stream.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        rng.set_stream(name);
        Self(rng)
    }

    /// A number from 0 up to, not including, `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// Whether something with this chance happens now.
    pub fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    /// One of several.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).expect("an index")]
    }

    /// One of several, by weight.
    ///
    /// # Panics
    /// If there are none.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, u64)]) -> T {
        let mut at = self.below(choices.iter().map(|(_, weight)| weight).sum());
        for (choice, weight) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        choices.first().expect("something to choose from").0
    }

    /// Text of up to `longest` bytes that LZ4 can shorten.
    pub fn text(&mut self, longest: u64) -> String {
        const WORDS: [&str; 8] = ["page ", "frame ", "salt ", "wal ", "commit ", "log ", "row ", "index "];
        let length = usize::try_from(self.below(longest + 1)).expect("a length");
        let mut text = String::new();
        while text.len() < length {
            text.push_str(self.pick(&WORDS));
        }
        text.truncate(length);
        text
    }

    /// Up to `longest` bytes that nothing can shorten.
    pub fn bytes(&mut self, longest: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.below(longest + 1)).expect("a length")];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
