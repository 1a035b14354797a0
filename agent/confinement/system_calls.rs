//! seccomp: the system calls that the shipper makes, with musl and with glibc, also when its supervisor is dead
//! (seccomp(2)). Whatever is not listed is forbidden.

use super::Violation;
use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Calls that are allowed with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Files: Landlock decides which.
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Network. Not: listen, accept.
    libc::SYS_bind, // the resolver's UDP socket; Landlock forbids TCP
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Events.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_signalfd4,
    // Threads and signals. Not: kill.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    // Time, identity, random numbers.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_uname,
];

/// The older forms of some of them, which aarch64 does not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLDER_FORMS: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_OLDER_FORMS: &[libc::c_long] = &[];

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// A condition: an argument of 32 bits, by its index.
fn argument(index: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value as u32))
}

fn rule(conditions: impl IntoIterator<Item = SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect())
}

fn equals(index: u8, value: libc::c_int) -> Result<SeccompRule, BackendError> {
    rule([argument(index, SeccompCmpOp::Eq, value)?])
}

/// The bits of `mask` of an argument are those of `value`.
fn bits(index: u8, mask: libc::c_int, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    argument(index, SeccompCmpOp::MaskedEq(u64::from(mask as u32)), value)
}

/// The rules of what is allowed.
fn allowed() -> Result<Rules, BackendError> {
    let mut rules: Rules =
        ALLOWED.iter().chain(ALLOWED_OLDER_FORMS).map(|call| (*call, Vec::new())).collect();
    let mut add = |call, alternatives| drop(rules.insert(call, alternatives));
    // No memory that holds new code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        add(call, vec![rule([bits(2, libc::PROT_EXEC, 0)?])?]);
    }
    // Threads, no processes. The flags of clone3 are in memory, where no filter sees them: see `refused_quietly`.
    add(libc::SYS_clone, vec![rule([bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?])?]);
    add(libc::SYS_clone3, Vec::new());
    let mut sockets = vec![equals(0, libc::AF_UNIX)?, equals(0, libc::AF_NETLINK)?]; // see `refused_quietly`
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let family = argument(0, SeccompCmpOp::Eq, family)?;
            sockets.push(rule([family, bits(1, 0xf, kind)?])?);
        }
    }
    add(libc::SYS_socket, sockets);
    let requests = [libc::FIONBIO as i32, libc::FIONREAD as i32, libc::FIOCLEX as i32];
    add(libc::SYS_ioctl, requests.into_iter().map(|request| equals(1, request)).collect::<Result<_, _>>()?);
    add(libc::SYS_prctl, vec![equals(0, libc::PR_SET_NAME)?]);
    // abort(3): glibc and musl raise the signal in the calling thread; a refusal ends in a crash all the same.
    let own_pid = std::process::id() as i32;
    for (call, signal) in [(libc::SYS_tgkill, 2), (libc::SYS_tkill, 1)] {
        let abort = argument(signal, SeccompCmpOp::Eq, libc::SIGABRT)?;
        add(call, vec![rule([argument(0, SeccompCmpOp::Eq, own_pid)?, abort])?]);
    }
    // Reading the limits of this process.
    let no_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    add(libc::SYS_prlimit64, vec![rule([argument(0, SeccompCmpOp::Eq, 0)?, no_limit])?]);
    Ok(rules)
}

/// The rules of what glibc tries first, and does without when the kernel says that it is not there: clone3, sockets to
/// nscd, and those that list addresses.
fn refused_quietly() -> Result<Rules, BackendError> {
    let families = [libc::AF_UNIX, libc::AF_NETLINK].into_iter().map(|family| equals(0, family));
    Ok(Rules::from([(libc::SYS_clone3, Vec::new()), (libc::SYS_socket, families.collect::<Result<_, _>>()?)]))
}

/// Refuses these calls to the whole process, with this error. Others stay as they are.
///
/// # Errors
/// When the kernel refuses the filter.
fn refuse(rules: Rules, errno: libc::c_int) -> Result<(), seccompiler::Error> {
    let action = SeccompAction::Errno(errno as u32);
    install(SeccompFilter::new(rules, SeccompAction::Allow, action, ARCHITECTURE)?)
}

fn install(filter: SeccompFilter) -> Result<(), seccompiler::Error> {
    let program = BpfProgram::try_from(filter)?;
    seccompiler::apply_filter_all_threads(&program)
}

fn try_restrict(violation: Violation) -> Result<(), seccompiler::Error> {
    let otherwise = match violation {
        Violation::Fails => SeccompAction::Errno(libc::EPERM as u32),
        Violation::Kills => SeccompAction::KillProcess,
    };
    // A call passes both filters. This one first: the other does not allow to install one.
    refuse(refused_quietly()?, libc::ENOSYS)?;
    install(SeccompFilter::new(allowed()?, otherwise, SeccompAction::Allow, ARCHITECTURE)?)
}

fn reason(error: &seccompiler::Error) -> String {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Restricts this process for good.
///
/// # Errors
/// Why it is not restricted.
pub(super) fn restrict(violation: Violation) -> Result<(), String> {
    try_restrict(violation).map_err(|error| reason(&error))
}

/// For tests: makes a kernel without Landlock of this one, for this process and what it executes.
///
/// # Errors
/// When the kernel refuses the filter.
pub(crate) fn hide_landlock() -> Result<(), String> {
    let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self];
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    refuse(rules, libc::ENOSYS).map_err(|error| reason(&error))
}

/// For tests: makes a kernel without seccomp of this one, for this process and what it executes.
///
/// # Errors
/// When the kernel refuses the filter.
pub(crate) fn hide_seccomp() -> Result<(), String> {
    refuse(Rules::from([(libc::SYS_seccomp, Vec::new())]), libc::ENOSYS).map_err(|error| reason(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_reaches_beyond_the_process_is_allowed() {
        let allowed = allowed().unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_pidfd_send_signal,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_init_module,
            libc::SYS_setuid,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_renameat2,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_memfd_create,
            libc::SYS_personality,
            libc::SYS_seccomp,
        ] {
            assert!(!allowed.contains_key(&call), "system call {call}");
        }
    }

    #[test]
    fn the_filters_fit_the_kernel() {
        const MAX_INSTRUCTIONS: usize = 4096; // BPF_MAXINSNS of linux/bpf_common.h
        for rules in [allowed().unwrap(), refused_quietly().unwrap()] {
            let filter =
                SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, ARCHITECTURE);
            let program = BpfProgram::try_from(filter.unwrap()).unwrap();
            assert!(program.len() < MAX_INSTRUCTIONS, "{} instructions", program.len());
        }
    }
}
