//! How a tool is started: through the helper that confines it, or through a shell that only limits it.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};
#[cfg(target_os = "linux")]
use std::{process::Stdio, sync::mpsc, time::Duration};

use super::limits::Limits;

/// Sets the limits, then becomes the program. A refused limit is passed over: either a tighter one is in force
/// already, or the system has none of that kind (macOS: `-v`). The soft CPU limit comes one second before the hard
/// one, so that the signal is SIGXCPU, which tells its reason, and not SIGKILL, which does not.
const SCRIPT: &str = "cpu=$1; memory=$2; file=$3; shift 3
ulimit -c 0 2>/dev/null
ulimit -S -t \"$cpu\" 2>/dev/null; ulimit -H -t $((cpu + 1)) 2>/dev/null
ulimit -v \"$memory\" 2>/dev/null
ulimit -f \"$file\" 2>/dev/null
exec \"$@\"";

/// The program of this process, also after its file was replaced.
#[cfg(target_os = "linux")]
const OURSELVES: &str = "/proc/self/exe";

/// A program that has not said in this time what it can will not start a tool either.
#[cfg(target_os = "linux")]
const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// What stands between the worker and its tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Launcher {
    /// A shell. It limits CPU, memory and file size; everything that the worker's user may do, the tool may too.
    #[default]
    Shell,
    /// A program whose `main` calls [`super::helper`] first thing.
    Helper(PathBuf),
}

/// What a tool cannot do here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Read what is not its own or the system's, look into other processes, write or change anything outside its folder.
    pub files: bool,
    /// Reach the network, or any socket; signal other processes, or change their limits.
    pub others: bool,
    /// Outlive the worker.
    pub life: bool,
}

impl Launcher {
    /// This very program, if its `main` calls [`super::helper`]. The shell where no helper can confine anything.
    pub fn ourselves() -> Self {
        #[cfg(target_os = "linux")]
        return Self::Helper(PathBuf::from(OURSELVES));
        #[cfg(not(target_os = "linux"))]
        Self::Shell
    }

    /// This way if it works here, else the shell: a `main` that does something else first never becomes the helper, and every tool
    /// would fail. With what it isolates. Takes milliseconds, and blocks.
    pub fn tried(self) -> (Self, Isolation) {
        match self.asked() {
            Some(isolation) => (self, isolation),
            None => (Self::Shell, Isolation::default()),
        }
    }

    /// What the helper says of this machine; `None`: nothing.
    #[cfg(target_os = "linux")]
    fn asked(&self) -> Option<Isolation> {
        let Self::Helper(program) = self else {
            return None;
        };
        let mut command = Command::new(program);
        command
            .args([super::confine::ARGUMENT, super::confine::PROBE])
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let (answer, heard) = mpsc::channel();
        // Without a deadline of its own; a helper that hangs keeps this thread and nothing else.
        std::thread::spawn(move || answer.send(command.output()));
        let said = String::from_utf8(heard.recv_timeout(ASK_DEADLINE).ok()?.ok()?.stdout).ok()?;
        let word = |name: &str| {
            said.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.parse().ok())
        };
        Some(Isolation::by(word("landlock=")?, word("seccomp=")?))
    }

    #[cfg(not(target_os = "linux"))]
    fn asked(&self) -> Option<Isolation> {
        None
    }

    /// The command that becomes `program` within `limits`, without its folder, environment and pipes.
    pub(super) fn command(
        &self,
        program: &Path,
        limits: &Limits,
        work_dir: &Path,
        data_dir: Option<&Path>,
    ) -> Command {
        match self {
            Self::Shell => shell(program, limits),
            #[cfg(target_os = "linux")]
            Self::Helper(helper) => {
                let mut command = Command::new(helper);
                command
                    .arg(super::confine::ARGUMENT)
                    .args(limits.helper_arguments());
                command
                    .arg(std::process::id().to_string())
                    .arg(work_dir)
                    .arg(data_dir.unwrap_or(Path::new("")))
                    .arg(program);
                command
            }
            #[cfg(not(target_os = "linux"))]
            Self::Helper(_) => shell(program, limits),
        }
    }
}

fn shell(program: &Path, limits: &Limits) -> Command {
    let mut command = Command::new("/bin/sh");
    let script: [OsString; 3] = ["-c", SCRIPT, "sh"].map(OsStr::new).map(Into::into);
    command
        .args(script)
        .args(limits.shell_arguments())
        .arg(program);
    command
}

impl Isolation {
    /// With the helper. No Landlock forbids every change of a file, and an old one hardly any but to write: that takes both.
    #[cfg(target_os = "linux")]
    fn by(landlock: bool, seccomp: bool) -> Self {
        Self {
            files: landlock && seccomp,
            others: seccomp,
            life: true,
        }
    }

    /// What a tool can do here although it should not; empty: nothing.
    pub fn gaps(self) -> Vec<&'static str> {
        let gaps = [
            (
                self.files,
                "read and write what the worker's user may, its environment included",
            ),
            (
                self.others,
                "reach the network, and stop what the worker's user may",
            ),
            (self.life, "outlive the worker"),
        ];
        gaps.into_iter()
            .filter(|(closed, _)| !closed)
            .map(|(_, gap)| gap)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // X70
    #[test]
    fn a_program_that_is_no_helper_is_not_asked_to_start_tools_and_all_gaps_are_named() {
        for program in ["/bin/true", "/nowhere/millstream"] {
            let (launcher, isolation) = Launcher::Helper(program.into()).tried();
            assert_eq!(
                (launcher, isolation.gaps().len()),
                (Launcher::Shell, 3),
                "{program}"
            );
        }
        assert!(
            Isolation {
                files: true,
                others: true,
                life: true
            }
            .gaps()
            .is_empty()
        );
    }

    // X70
    #[cfg(target_os = "linux")]
    #[test]
    fn x70_files_are_called_confined_only_where_both_landlock_and_seccomp_are() {
        let gaps = |landlock, seccomp| Isolation::by(landlock, seccomp).gaps().len();
        assert_eq!(
            [
                gaps(true, true),
                gaps(true, false),
                gaps(false, true),
                gaps(false, false)
            ],
            [0, 2, 1, 2]
        );
    }
}
