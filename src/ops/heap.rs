//! Settings of the C library's heap.
//!
//! A rendering allocates and frees some MiB. With the default settings, the C library returns this memory to the system
//! each time. Then the rendering of the next call must get every page again.

/// Sets the C library so that the process keeps freed memory for reuse. Must be called before the first thread starts.
pub(crate) fn keep_memory() {
    #[cfg(target_env = "gnu")]
    set(&[
        (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
        (libc::M_TOP_PAD, TOP_PAD),
    ]);
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt(3) has no safe form in std")]
fn set(settings: &[(libc::c_int, libc::c_int)]) {
    for &(setting, bytes) in settings {
        // SAFETY: the call takes numbers only. A refused call changes nothing.
        let _ = unsafe { libc::mallopt(setting, bytes) };
    }
}

/// Returns free memory to the system if there is much of it, e.g. after a flood of INVITEs. The C library itself
/// returns only what is free at the end of a heap, and one block in use keeps all before it.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "mallinfo2(3) and malloc_trim(3) have no safe form in std")
)]
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the function takes no argument and returns numbers.
        let free_bytes = unsafe { libc::mallinfo2() }.fordblks;
        if free_bytes > KEPT_FREE_BYTES {
            // SAFETY: the function takes a number. Threads that allocate meanwhile wait for some milliseconds.
            let _ = unsafe { libc::malloc_trim(0) };
        }
    }
}

/// Free memory of all heaps that may stay with the process, bytes.
#[cfg(target_env = "gnu")]
const KEPT_FREE_BYTES: usize = 32 << 20;
/// Smallest block that is mapped by itself and returned to the system when it is freed, bytes. The window of a
/// channel, 6 s of samples, is smaller.
const MMAP_THRESHOLD: libc::c_int = 1 << 20;
/// Free memory at the end of a heap above which it is returned to the system, bytes. The main thread and each rendering
/// thread have a heap of their own.
const TRIM_THRESHOLD: libc::c_int = 4 << 20;
/// Memory by which a heap grows at once, bytes.
const TOP_PAD: libc::c_int = 1 << 20;
