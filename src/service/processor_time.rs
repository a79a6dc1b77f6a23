//! Reads from `/proc` how much processor time a child process has used (proc(5), `/proc/PID/stat`).

use std::time::Duration;

/// Returns the processor time that all threads of a process have used since its start. Returns `None` if `/proc` does
/// not show the process.
pub(super) fn used_by(process: u32) -> Option<Duration> {
    parse(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Parses the contents of `/proc/PID/stat`. The name of the program is in parentheses. It can contain blanks and
/// parentheses, so the fields are counted from the last parenthesis.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(FIELDS_BEFORE_TIMES).map(str::parse::<u64>);
    let ticks = times.next()?.ok()?.checked_add(times.next()?.ok()?)?;
    Some(Duration::from_millis(ticks.checked_mul(TICK_MS)?))
}

/// Number of fields between the name of the program and the field `utime`. The field `stime` follows `utime`.
const FIELDS_BEFORE_TIMES: usize = 11;
/// Length of a clock tick, ms. The kernel shows times to programs in units of 1/100 s on all supported processors
/// (`USER_HZ`).
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added_whatever_the_program_is_called() {
        let rest = " S 1 2 2 0 -1 4194560 900 0 3 0 1234 66 0 0 30 10 1 0 777 9000 800";
        for name in ["callspan", "a) b", "(((", "R 1 2 3)"] {
            assert_eq!(parse(&format!("17 ({name}){rest}")), Some(Duration::from_secs(13)), "{name}");
        }
        for broken in ["", "17 (callspan", "17 (callspan) S 1 2", "17 (a) S 1 2 2 0 -1 4194560 900 0 3 0 x 66"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn own_processor_time_grows_with_work() {
        let before = used_by(std::process::id()).expect("/proc shows this process");
        while used_by(std::process::id()).expect("/proc shows this process") < before + Duration::from_millis(30) {
            std::hint::black_box([0_u8; 4096]);
        }
        assert_eq!(used_by(0), None, "no process has this id");
    }
}
