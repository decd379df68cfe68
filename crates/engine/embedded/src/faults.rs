//! Failures on demand, for tests: with the feature `faults`, one chosen call of those that make and
//! remove containers fails as if the kernel had refused it. Without the feature this is nothing.

#[cfg(feature = "faults")]
mod armed {
    #![allow(unsafe_code, reason = "a mapping that forked processes share")]

    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    use rustix::io::Errno;

    /// Calls that still succeed (negative: none fails any more), and the error of the one that fails.
    struct Shared {
        left: AtomicI64,
        error: AtomicI64,
    }

    static SHARED: OnceLock<&'static Shared> = OnceLock::new();

    fn shared() -> &'static Shared {
        SHARED.get_or_init(|| {
            // SAFETY: a new mapping, never unmapped, of more than the structure's size and aligned to
            // a page; zeroes are valid atomics.
            unsafe {
                let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let page = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
                assert_ne!(page, libc::MAP_FAILED, "a page is there");
                let shared = &*page.cast::<Shared>();
                shared.left.store(-1, Ordering::SeqCst);
                shared
            }
        })
    }

    /// After `calls` that succeed one fails with `error`: in this process and in those that it forks
    /// after the first time that it comes here.
    pub fn arm(calls: i64, error: i32) {
        shared().error.store(error.into(), Ordering::SeqCst);
        shared().left.store(calls, Ordering::SeqCst);
    }

    /// None fails any more. Returns whether one was still to come.
    pub fn disarm() -> bool {
        shared().left.swap(-1, Ordering::SeqCst) >= 0
    }

    /// Whether the call that follows is to fail.
    pub(crate) fn strike() -> rustix::io::Result<()> {
        let Some(shared) = SHARED.get() else { return Ok(()) };
        match shared.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(Errno::from_raw_os_error(shared.error.load(Ordering::SeqCst) as i32)),
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "faults")]
pub(crate) use armed::strike;
#[cfg(feature = "faults")]
pub use armed::{arm, disarm};

/// Never fails.
#[cfg(not(feature = "faults"))]
#[inline(always)]
#[allow(clippy::unnecessary_wraps, reason = "the other one fails")]
pub(crate) fn strike() -> rustix::io::Result<()> {
    Ok(())
}
