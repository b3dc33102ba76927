//! Giving memory back to the system.

#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no crate wraps this call"))]

/// Gives back what the allocator holds free, where it can: with glibc. It locks one arena after the
/// other; a thread that allocates from it meanwhile waits.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, may be called from any thread at any time, and moves nothing
    // that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
