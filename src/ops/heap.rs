//! Settings of the C library's heap.
//!
//! Rendering a call allocates and frees some MiB. With default settings, the C library returns this memory to the
//! operating system each time. Then the next call must get every page of memory again, which is slow. So
//! [`keep_memory`] makes the library keep it, and [`HeapTrim`] returns large amounts.

/// Makes the C library keep freed memory for reuse. Must be called before the first thread starts.
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
        // SAFETY: `mallopt` takes only numbers, no pointers. If it refuses a setting, it changes nothing.
        let _ = unsafe { libc::mallopt(setting, bytes) };
    }
}

/// Returns free memory to the operating system when much has become free, e.g. after a flood of INVITEs. The C library
/// itself returns only the free end of a heap. So a single used block at the end keeps all free memory before this
/// block.
#[derive(Debug, Default)]
pub(crate) struct HeapTrim {
    /// Memory that was already returned to the operating system but that the C library still counts as free, bytes.
    returned_bytes: usize,
}

impl HeapTrim {
    /// Returns free memory to the operating system if there is more than [`KEPT_FREE_BYTES`]. Threads that allocate at
    /// the same time wait for some milliseconds.
    pub(crate) fn check(&mut self) {
        let free_bytes = free_bytes();
        self.returned_bytes = self.returned_bytes.min(free_bytes);
        if free_bytes - self.returned_bytes > KEPT_FREE_BYTES {
            trim();
            self.returned_bytes = self::free_bytes();
        }
    }
}

/// Returns the number of free bytes in all heaps, including memory that was already returned to the operating system.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallinfo2(3) has no safe form in std")]
fn free_bytes() -> usize {
    // SAFETY: `mallinfo2` takes no argument and returns numbers.
    unsafe { libc::mallinfo2() }.fordblks
}

#[cfg(not(target_env = "gnu"))]
fn free_bytes() -> usize {
    0
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim(3) has no safe form in std")]
fn trim() {
    // SAFETY: `malloc_trim` takes a number and no pointer.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Amount of free memory that the process may keep, bytes. If more is free, it is returned to the operating system.
const KEPT_FREE_BYTES: usize = 32 << 20;
/// Minimum size of a block that is mapped separately and returned to the operating system when it is freed, bytes. It
/// is larger than the blocks that rendering uses often, e.g. 6 s of samples.
const MMAP_THRESHOLD: libc::c_int = 1 << 20;
/// Size of the free end of a heap above which the C library returns it to the operating system, bytes. The main thread
/// and each rendering thread have separate heaps.
const TRIM_THRESHOLD: libc::c_int = 4 << 20;
/// Minimum number of bytes that the C library takes from the operating system when a heap is full.
const TOP_PAD: libc::c_int = 1 << 20;
