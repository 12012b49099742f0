//! Which bug is awake: at most one in a process.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::list::BUGS;

/// Index in [`BUGS`]; `usize::MAX` while all sleep.
static AWAKE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Position of a bug in [`BUGS`]. Evaluated while compiling, so that a name that is not in the list does not build.
///
/// # Panics
/// If there is no bug of that name.
#[must_use]
pub const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while index < BUGS.len() {
        if is_same(BUGS[index].name.as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("no planted bug has this name: add it to the list")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Whether the bug at `index` is awake.
#[must_use]
pub fn is_awake(index: usize) -> bool {
    #[cfg(test)]
    if *NAMED.get_or_init(named) == index {
        return true;
    }
    AWAKE.load(Ordering::Relaxed) == index
}

/// Of the crate's own tests: the bug named by `PLANTED`, so that it can be seen that a test fails with it.
#[cfg(test)]
static NAMED: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

#[cfg(test)]
fn named() -> usize {
    std::env::var("PLANTED").map_or(usize::MAX, |name| index_of(&name))
}

/// Wakes one bug and sends any other to sleep; `None` sends all to sleep. To be called between runs. Returns whether
/// there is such a bug.
pub fn wake(name: Option<&str>) -> bool {
    let index = match name {
        None => usize::MAX,
        Some(name) => match BUGS.iter().position(|bug| bug.name == name) {
            Some(index) => index,
            None => return false,
        },
    };
    AWAKE.store(index, Ordering::Relaxed);
    true
}
