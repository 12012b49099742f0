//! Every decision of the simulated world: a value that depends only on (seed, name, instance).
//!
//! Not "the next draw of a shared generator": removing one step of a run leaves every unrelated decision where it
//! was, which is what makes whole-run shrinking work. Zero is by convention the benign value of each choice, so a
//! shrinker may mute whole groups by name. Must not know what is being decided.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// One decision taken, in order: the tape of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What was decided.
    pub name: &'static str,
    /// Which one of them.
    pub instance: u64,
    /// Values lie in `0..bound`.
    pub bound: u64,
    /// What came out.
    pub value: u64,
}

#[derive(Debug, Default)]
struct State {
    counters: BTreeMap<(&'static str, u64), u64>,
    /// Number of draws per name: shows that a kind of decision happened at all.
    draws: BTreeMap<&'static str, u64>,
    digest: u64,
    tape: Option<Vec<Taken>>,
}

/// The decisions of one run. Cheap to clone; all clones are the same run.
#[derive(Debug, Clone)]
pub struct Choices {
    seed: u64,
    muted: Arc<Vec<String>>,
    state: Arc<Mutex<State>>,
}

impl Choices {
    /// Decisions of the run `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, muted: Arc::default(), state: Arc::default() }
    }

    /// The same run, but every choice whose name starts with one of `prefixes` comes out as zero.
    #[must_use]
    pub fn muting(seed: u64, prefixes: Vec<String>) -> Self {
        Self { seed, muted: Arc::new(prefixes), state: Arc::default() }
    }

    /// Keeps every decision from now on, for [`Choices::tape`].
    pub fn keep_tape(&self) {
        self.lock().tape.get_or_insert_default();
    }

    /// The run's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number in `0..bound` for instance `instance` of `name`; asking again gives the same answer.
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn below(&self, name: &'static str, instance: u64, bound: u64) -> u64 {
        assert!(bound > 0, "a choice needs at least one alternative: {name}");
        let muted = self.muted.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let value = if muted || bound == 1 { 0 } else { reduce(self.draw(name, instance), bound) };
        let mut state = self.lock();
        state.digest = mix(state.digest ^ mix(hash_name(name) ^ instance) ^ value);
        *state.draws.entry(name).or_default() += 1;
        if let Some(tape) = &mut state.tape {
            tape.push(Taken { name, instance, bound, value });
        }
        value
    }

    /// As [`Choices::below`] for the next instance of `name` within `scope` (a process, an actor, a file).
    pub fn next_below(&self, name: &'static str, scope: u64, bound: u64) -> u64 {
        let instance = {
            let mut state = self.lock();
            let counter = state.counters.entry((name, scope)).or_default();
            *counter += 1;
            mix(scope) ^ *counter
        };
        self.below(name, instance, bound)
    }

    /// Whether the next instance of `name` in `scope` happens, with probability `per_mille`/1000.
    pub fn chance(&self, name: &'static str, scope: u64, per_mille: u64) -> bool {
        // The benign value is 0 = "does not happen", so the hit range is at the top.
        self.next_below(name, scope, 1000) >= 1000 - per_mille.min(1000)
    }

    /// An independent stream of bytes for bulk content (row data, garbage sectors).
    #[must_use]
    pub fn stream(&self, name: &'static str, instance: u64) -> Stream {
        Stream(self.generator(name, instance))
    }

    /// How often each name was asked, sorted by name.
    #[must_use]
    pub fn draws(&self) -> Vec<(&'static str, u64)> {
        self.lock().draws.iter().map(|(name, count)| (*name, *count)).collect()
    }

    /// A fingerprint of every decision taken so far, in order.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// The decisions since [`Choices::keep_tape`].
    #[must_use]
    pub fn tape(&self) -> Vec<Taken> {
        self.lock().tape.clone().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while a choice is taken")
    }

    fn draw(&self, name: &'static str, instance: u64) -> u64 {
        self.generator(name, instance).next_u64()
    }

    fn generator(&self, name: &'static str, instance: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&hash_name(name).to_le_bytes());
        key[16..24].copy_from_slice(&instance.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// Bytes and numbers that do not need to be shrunk one by one.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Fills `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice needs at least one alternative");
        reduce(self.0.next_u64(), bound)
    }
}

/// Maps 64 random bits to `0..bound`; the bias (below 2^-32 for our bounds) does not matter here, portability does.
fn reduce(bits: u64, bound: u64) -> u64 {
    let product = u128::from(bits) * u128::from(bound);
    (product >> 64) as u64
}

/// FNV-1a: stable across platforms and compilers.
#[must_use]
pub fn hash_name(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// SplitMix64's finalizer: spreads small differences over all bits.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_depends_on_its_name_and_instance_only() {
        let one = Choices::new(7);
        let two = Choices::new(7);
        let _ = two.below("unrelated", 1, 100);
        assert_eq!(one.below("crash.at", 3, 1000), two.below("crash.at", 3, 1000));
        assert_ne!(one.digest(), two.digest(), "the digest sees every decision");
    }

    #[test]
    fn seeds_names_and_instances_differ() {
        let values: std::collections::BTreeSet<u64> = (0..4)
            .flat_map(|seed| {
                let choices = Choices::new(seed);
                [("a", 1), ("a", 2), ("b", 1)].map(|(name, instance)| choices.below(name, instance, u64::MAX))
            })
            .collect();
        assert_eq!(values.len(), 12);
    }

    #[test]
    fn muted_names_are_zero_and_chance_is_benign() {
        let choices = Choices::muting(7, vec!["fault".into()]);
        assert!((0..100).all(|_| !choices.chance("fault.eio", 0, 999)));
        assert!((0..100).any(|_| choices.chance("yield", 0, 500)));
    }

    #[test]
    fn the_tape_names_every_decision() {
        let choices = Choices::new(1);
        choices.keep_tape();
        let value = choices.below("x", 5, 10);
        assert_eq!(choices.tape(), [Taken { name: "x", instance: 5, bound: 10, value }]);
    }
}
