//! How much memory the allocator keeps that nobody uses.
//!
//! glibc gives every few threads a heap of their own, and lets each keep what its largest moment needed. Our work
//! wanders over a pool of threads, and each piece of it uses a few megabytes for a moment, so that all of these heaps
//! grow to the largest piece. One heap for all is slower only for threads that allocate all the time, which ours do not.

/// One heap, whose large pieces go back to the system at once. Call it before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_small() {
    /// From this size on an allocation is a mapping of its own: larger than the chunks that are allocated all the
    /// time, smaller than a whole object. Fixed, because glibc would raise it to the largest piece ever freed.
    const OWN_MAPPING_FROM: libc::c_int = 2 << 20;
    /// Free memory at the end of the heap that is kept.
    const KEPT: libc::c_int = 2 << 20;
    // SAFETY: sets three numbers of the allocator; an option that is refused has no effect.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_small() {}
