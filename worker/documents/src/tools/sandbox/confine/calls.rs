//! seccomp: the calls that no reader of files needs.
//!
//! A tool makes no socket, and does to other processes nothing at all: it sends no signal, sets no limit, shares no memory. And it changes no
//! file but by a descriptor that it was allowed to open for writing. Of that, Landlock forbids signals since Linux 6.12 only, to
//! truncate since 6.2, and to change owner, mode, times and attributes never; so these calls are refused on every kernel.
//!
//! A tool may signal itself, which is how `abort` ends it. Its children, which have other numbers, may not even that: their `abort` ends them
//! by a fault.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Sockets, and what makes them without asking for one.
const SOCKETS: [i64; 5] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// What reaches into other processes, or slows them.
const PROCESSES: [i64; 23] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_ioprio_set,
];

/// Of the newest kernels, with the same number on every machine; `libc` does not name them yet.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

/// What changes a file by its name, or one that is open for reading only. Of `openat2` the flags cannot be seen from here.
const FILES: [i64; 18] = [
    libc::SYS_truncate,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
];

/// The older forms of these, which newer kinds of machines never had.
#[cfg(target_arch = "x86_64")]
const FILES_OLD: [i64; 6] = [
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const FILES_OLD: [i64; 0] = [];

/// Name a process first. `rt_sigqueueinfo` too: `sigqueue` to oneself.
const SIGNALS: [i64; 5] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// The bit that marks a call of the x32 table, which some kernels of x86-64 have beside the usual one.
const X32: i64 = 0x4000_0000;
/// Calls that have other numbers there; none of them has an excuse.
const X32_OWN: std::ops::Range<i64> = 512..550;

/// From now on. False: this kind of machine has no filter. A call of another architecture's table kills the process.
pub(super) fn take() -> Result<bool, String> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(false);
    };
    let refusal = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = rules().and_then(|rules| {
        SeccompFilter::new(with_x32(rules), SeccompAction::Allow, refusal, architecture)
    });
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|e| e.to_string())?;
    // A kernel that was built without it says so, and is named in the log and by the doctor.
    Ok(apply_filter(&program).is_ok())
}

/// What is refused: the call whatever it asks for, or in any of these cases.
fn rules() -> Result<Rules, BackendError> {
    let always = [&SOCKETS[..], &PROCESSES, &FILES, &FILES_OLD].concat();
    let mut rules: Rules = always.into_iter().map(|call| (call, Vec::new())).collect();
    for call in SIGNALS {
        rules.insert(call, vec![case(0, SeccompCmpOp::Ne, std::process::id())?]);
    }
    // Zero is the process that asks.
    rules.insert(libc::SYS_prlimit64, vec![case(0, SeccompCmpOp::Ne, 0)?]);
    // With an owner of a descriptor, the kernel would send the signals.
    rules.insert(
        libc::SYS_fcntl,
        vec![
            case(1, SeccompCmpOp::Eq, F_SETOWN)?,
            case(1, SeccompCmpOp::Eq, F_SETOWN_EX)?,
        ],
    );
    rules.insert(libc::SYS_openat, emptied_unwritten(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, emptied_unwritten(1)?);
    Ok(rules)
}

const F_SETOWN: u32 = libc::F_SETOWN.cast_unsigned();
/// Linux's own; `libc` does not name it everywhere.
const F_SETOWN_EX: u32 = 15;

/// To open a file emptied, and not for writing: before Linux 6.2 Landlock asks only whether it may be read, or nothing.
fn emptied_unwritten(flags: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let mask = u64::from((libc::O_TRUNC | libc::O_ACCMODE).cast_unsigned());
    let neither =
        [libc::O_RDONLY, libc::O_ACCMODE].map(|mode| (libc::O_TRUNC | mode).cast_unsigned());
    neither
        .into_iter()
        .map(|asked| case(flags, SeccompCmpOp::MaskedEq(mask), asked))
        .collect()
}

/// The kernel reads these arguments as 32 bits.
fn case(argument: u8, is: SeccompCmpOp, value: u32) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        is,
        value.into(),
    )?])
}

/// The same by the other table.
fn with_x32(rules: Rules) -> Rules {
    if !cfg!(target_arch = "x86_64") {
        return rules;
    }
    let same = rules
        .iter()
        .map(|(call, cases)| (call | X32, cases.clone()))
        .collect::<Vec<_>>();
    let own = X32_OWN.map(|call| (call | X32, Vec::new()));
    rules.into_iter().chain(same).chain(own).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

    use rustix::{
        fs::{Access, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags},
        io::Errno,
        process::{Pid, Resource, Rlimit, Signal},
    };

    use super::*;

    /// In a thread that has the filter and nothing of Landlock, which is more than an old kernel takes.
    fn filtered<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            assert_eq!(take(), Ok(true), "this machine has no seccomp");
            act()
        });
        thread.join().unwrap()
    }

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "whole").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    // X70
    #[test]
    fn x70_a_file_is_changed_by_a_descriptor_for_writing_and_by_nothing_else() {
        let (_folder, path) = file();
        let at = path.clone();
        filtered(move || {
            let emptied =
                |mode| rustix::fs::open(&at, mode | OFlags::TRUNC, Mode::empty()).map(drop);
            assert_eq!(
                [OFlags::RDONLY, OFlags::RWMODE].map(emptied),
                [Err(Errno::PERM); 2]
            );
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                last_modification: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
            };
            let read = rustix::fs::open(&at, OFlags::RDONLY, Mode::empty()).unwrap();
            let refused = [
                rustix::fs::chmod(&at, Mode::from(0o777)),
                rustix::fs::fchmod(&read, Mode::from(0o777)),
                rustix::fs::chown(&at, None, None),
                rustix::fs::utimensat(CWD, &at, &times, rustix::fs::AtFlags::empty()),
                rustix::fs::futimens(&read, &times),
                rustix::fs::setxattr(&at, "user.a", b"b", XattrFlags::empty()),
            ];
            assert_eq!(refused, [Err(Errno::PERM); 6]);
            // The one call that nothing here can make without unsafe code: by the name of a file.
            assert!(!truncated_by_name(&at));
            assert_eq!(std::fs::read_to_string(&at).unwrap(), "whole");
            std::fs::OpenOptions::new()
                .write(true)
                .open(&at)
                .unwrap()
                .set_len(1)
                .unwrap();
            std::fs::write(at.with_extension("new"), "new").unwrap();
            std::fs::write(&at, "other").unwrap();
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(
            rustix::fs::access(&path, Access::WRITE_OK).is_ok()
                && (!has_perl() || truncated_by_name(&path)),
            "it could be truncated"
        );
    }

    /// `truncate(2)`, if there is a Perl to make it.
    fn truncated_by_name(path: &Path) -> bool {
        let call = Command::new("perl")
            .args(["-e", "exit !truncate($ARGV[0], 0)"])
            .arg(path)
            .status();
        call.is_ok_and(|status| status.success())
    }

    fn has_perl() -> bool {
        Command::new("perl").arg("-v").output().is_ok()
    }

    // X70
    #[test]
    fn x70_a_tool_signals_and_limits_itself_and_nobody_else() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let id = Pid::from_child(&other);
        filtered(move || {
            let ourselves = rustix::process::getpid();
            let signalled = [Some(id), Pid::from_raw(1)]
                .map(|pid| rustix::process::kill_process(pid.unwrap(), Signal::KILL));
            assert_eq!(signalled, [Err(Errno::PERM); 2]);
            let groups = [
                rustix::process::kill_current_process_group(Signal::CONT),
                rustix::process::kill_process_group(ourselves, Signal::CONT),
                rustix::process::kill_process(ourselves, Signal::CONT),
            ];
            assert_eq!(groups, [Err(Errno::PERM), Err(Errno::PERM), Ok(())]);
            let none = Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            assert_eq!(
                rustix::process::prlimit(Some(id), Resource::Cpu, none),
                Err(Errno::PERM)
            );
            let same = rustix::process::getrlimit(Resource::Core);
            assert!(rustix::process::setrlimit(Resource::Core, same).is_ok());
            assert_eq!(
                rustix::process::setpriority_process(Some(id), 10),
                Err(Errno::PERM)
            );
            assert_eq!(
                rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).map(drop),
                Err(Errno::PERM)
            );
        });
        assert!(other.try_wait().unwrap().is_none(), "it lives");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
