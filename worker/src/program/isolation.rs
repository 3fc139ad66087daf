//! How this program starts its own children, and ends when a handler lets nothing else end it.

use std::{os::unix::process::CommandExt, path::PathBuf, process::Command, time::Duration};

/// Exit code of a worker that could not drain.
const STUCK_EXIT: i32 = 1;

/// This program, called as it was, in its one-job mode.
pub(super) fn child_of_ours() -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut command = Command::new(program());
    command.arg0(name).args(arguments).arg("--child");
    command
}

/// The program of this process, on Linux also after its file was replaced.
fn program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return "/proc/self/exe".into();
    }
    std::env::current_exe().unwrap_or_default()
}

/// Handlers that block every thread keep the drain from its end, and their leases alive. Only the end of the process frees those.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, since none of the runtime may be free"
)]
pub(super) fn end_within(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        std::process::exit(STUCK_EXIT);
    });
}
