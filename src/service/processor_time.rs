//! Reads how much processor time a child process has used.
//!
//! The processor clock of the process shows it (clock_getcpuclockid(3)). `/proc/PID/stat` shows it as well, but not to
//! the service: a worker forbids core dumps, and systemd hides such processes (`ProtectProc=invisible`).

use std::time::Duration;

/// Returns the processor time that all threads of a process have used since its start. Returns `None` if there is no
/// process with this id.
#[expect(unsafe_code, reason = "clock_getcpuclockid(3) has no safe form in std or rustix")]
pub(super) fn used_by(process: u32) -> Option<Duration> {
    let process = libc::pid_t::try_from(process).ok()?;
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: the function only writes the id of the clock.
    if unsafe { libc::clock_getcpuclockid(process, &raw mut clock) } != 0 {
        return None;
    }
    // SAFETY: the function only writes the time.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_with_work_and_not_with_sleep() {
        let own = || used_by(std::process::id()).expect("this process has a clock");
        let before = own();
        while own() < before + Duration::from_millis(30) {
            std::hint::black_box([0_u8; 4096]);
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let of_child = || used_by(child.id()).expect("the child has a clock");
        let begin = of_child();
        while own() < before + Duration::from_millis(60) {
            std::hint::black_box([0_u8; 4096]);
        }
        assert!(of_child() < begin + Duration::from_millis(20), "the child sleeps");
        child.kill().expect("ended");
        child.wait().expect("ended");
        assert_eq!(used_by(child.id()), None, "it has ended");
    }
}
