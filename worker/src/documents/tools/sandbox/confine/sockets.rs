//! seccomp: a tool makes no socket of any family, and none of the calls that reach into other processes or around the filter.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// What no reader of files needs. The second row would make sockets without asking for one, the third reaches into other processes.
const REFUSED: [i64; 11] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// The bit that marks a call of the x32 table, which some kernels of x86-64 have beside the usual one.
const X32: i64 = 0x4000_0000;

/// From now on. False: this kind of machine has no filter. A call of another architecture's table kills the process.
pub(super) fn take() -> Result<bool, String> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let rules: BTreeMap<i64, _> = REFUSED.iter().flat_map(|call| [*call, *call | X32]).map(|call| (call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    // A kernel that was built without it says so, and is named in the log and by the doctor.
    Ok(apply_filter(&program).is_ok())
}
