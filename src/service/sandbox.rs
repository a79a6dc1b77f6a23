//! The sandbox of a render worker: no capability, no network, two folders, few system calls, limited memory.
//!
//! The process starts without a capability and without the environment of the service. Landlock and the filter of
//! system calls are a second line of defence. On a kernel without Landlock (before 5.13) the filter works alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
    path_beneath_rules,
};
use rustix::process::{
    Resource, Rlimit, Signal, getpriority_process, set_parent_process_death_signal, setpriority_process, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    set_capabilities, set_no_new_privs,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Puts this process into the sandbox for the rest of its life. Then the process may read files in the folders `read`
/// and `write`, and write files only in the folders `write`. Returns whether Landlock limits file access; false if the
/// kernel has no Landlock.
///
/// # Errors
/// Fails if the kernel refuses a step that every supported kernel knows.
pub(super) fn enter(read: &[&Path], write: &[&Path]) -> anyhow::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("death signal")?;
    set_no_new_privs(true).context("no new privileges")?;
    drop_capabilities().context("capabilities")?;
    for (resource, most) in [(Resource::As, MAX_MEMORY), (Resource::Nofile, MAX_FILES), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).context("limits")?;
    }
    let _ = rustix::process::nice(NICENESS); // if this fails, rendering works all the same
    let is_held = restrict_files(read, write).context("Landlock")?;
    restrict_calls().context("seccomp")?;
    Ok(is_held)
}

/// Drops every capability of the process. The systemd unit may forbid this change. Then the process has no capability
/// anyway, because the service does not pass its own capabilities to child processes ([`keep_from_children`]).
fn drop_capabilities() -> rustix::io::Result<()> {
    keep_from_children();
    let none = CapabilitySet::empty();
    let dropped = set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
    match capabilities(None) {
        Ok(left) if left.permitted.is_empty() && left.effective.is_empty() => Ok(()),
        _ => dropped,
    }
}

/// Clears the ambient capabilities of the calling thread and of threads that it starts later. Programs that these
/// threads start, e.g. render workers and the alarm command, then have no capability.
pub(crate) fn keep_from_children() {
    let _ = clear_ambient_capability_set(); // fails before Linux 4.3, which has no ambient capabilities
}

/// Calls `start`, which starts a program, and allows that program to open packet sockets. The command `callspan doctor`
/// needs this to examine a port. Only the calling thread gets the ambient capability, and only until `start` returns.
pub(crate) fn with_packet_sockets<T>(start: impl FnOnce() -> T) -> T {
    // This call can fail if root started the service by hand. Then the program has the capability anyway, so the error
    // is ignored.
    let _ = configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true);
    let started = start();
    keep_from_children();
    started
}

/// Drops the capabilities that the service does not need, for the calling thread and for threads that it starts later.
/// The systemd unit grants only the needed capabilities. But a service that root starts by hand or in a container has
/// all.
pub(crate) fn drop_unneeded_capabilities() {
    let Ok(had) = capabilities(None) else { return };
    let permitted = had.permitted & NEEDED;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    if permitted != had.permitted
        && let Err(error) = set_capabilities(None, sets)
    {
        tracing::warn!("the service keeps capabilities that it does not need: {error}");
    }
}

/// Gives the calling thread, which captures, precedence over the other threads and programs of the machine. The kernel
/// discards frames that nobody takes from its ring buffer in time. On Linux, a nice value belongs to a thread, and
/// threads that this thread starts later inherit it. The systemd unit refuses the call, but gives the whole service
/// precedence (`Nice=`).
pub(crate) fn prefer_capture() {
    if getpriority_process(None).is_ok_and(|niceness| niceness > CAPTURE_NICENESS)
        && let Err(error) = setpriority_process(None, CAPTURE_NICENESS)
    {
        tracing::info!("capturing has no precedence over other work of this machine: {error}");
    }
}

fn restrict_files(read: &[&Path], write: &[&Path]) -> anyhow::Result<bool> {
    let abi = ABI::V5;
    // The Landlock library ignores access rights that an older kernel does not know. So all rights up to ABI 5 can be
    // listed on every kernel.
    let restriction = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(restriction.ruleset != RulesetStatus::NotEnforced)
}

/// Allows only the system calls that rendering needs. Every other call fails with EPERM. The process is not killed,
/// because a C library may just probe whether a system call exists.
fn restrict_calls() -> anyhow::Result<()> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let arch = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// The capabilities that the service needs. It opens packet sockets, even later, when a network interface comes back.
/// If root runs the service, its capture thread raises its priority, and it reads and writes files of other users.
const NEEDED: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);
/// Maximum address space of the process, bytes. Rendering takes constant memory, below 100 MiB.
const MAX_MEMORY: u64 = 1 << 30;
/// Maximum number of open files: the pipes, a spool, and the files of one recording.
const MAX_FILES: u64 = 64;
/// Scheduling priority (nice value) of rendering: lower than that of the capture.
const NICENESS: i32 = 10;
/// Scheduling priority (nice value) of the thread that captures.
const CAPTURE_NICENESS: i32 = -10;

/// System calls that rendering may use: for files, memory, time, and the end of the process. No system call in this
/// list opens a socket, starts a process or mounts a file system.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_umask,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];
