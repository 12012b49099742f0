//! Entropy and time that third-party code takes behind our back, made part of the run.
//!
//! Defining these C symbols in the program replaces the C library's: the standard library's `HashMap` seeds, `getrandom`
//! and everything above it, `Instant` and `SystemTime` call them. Outside a run, and on other threads, they ask the
//! kernel as before. Linux with a dynamic C library only; elsewhere the lane without HTTP needs none of this.

use std::cell::Cell;

use crate::choices::mix;

thread_local! {
    /// (seed, numbers drawn) of the run on this thread; seed 0 means that none is on.
    static ENTROPY: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Entropy on this thread comes from `seed` until this is dropped.
pub struct Seeded(());

/// Begins a run on this thread.
#[must_use]
pub fn seed(seed: u64) -> Seeded {
    ENTROPY.set((mix(seed) | 1, 0));
    Seeded(())
}

impl Drop for Seeded {
    fn drop(&mut self) {
        ENTROPY.set((0, 0));
    }
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As for `getrandom(2)`: `buffer` must have room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let (seed, mut drawn) = ENTROPY.get();
    if seed == 0 {
        // SAFETY: the same call, with the caller's own arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as libc::ssize_t };
    }
    for at in 0..len {
        drawn += 1;
        // SAFETY: inside the caller's buffer.
        unsafe { *buffer.cast::<u8>().add(at) = mix(seed ^ mix(drawn)) as u8 };
    }
    ENTROPY.set((seed, drawn));
    len as libc::ssize_t
}

#[cfg(test)]
mod tests {
    #[test]
    fn hash_maps_of_this_thread_follow_the_seed() {
        use std::hash::BuildHasher as _;
        let keys = || {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let _seeded = super::seed(5);
                    std::hash::RandomState::new().hash_one(1)
                });
                thread.join().expect("no panic")
            })
        };
        assert_eq!(keys(), keys());
    }
}
