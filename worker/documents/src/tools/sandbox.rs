//! Runs one program on one hostile file: limited, confined where the machine allows it, and always to an end (P4, F34).
//!
//! CPU time, memory and file size are limited before the child becomes the program, without unsafe code: by the helper
//! ([`confine`](helper)) or by a shell's `ulimit`. Invariants: at most `stdout_bytes_max` + [`STDERR_BYTES_MAX`] bytes are
//! held; the child is dead when [`Sandbox::run`] returns or its future is dropped; its environment has no variable of ours.
//!
//! That alone keeps no secret from a parser that a hostile file has taken over: it has the worker's user. The helper confines
//! such a program, on a Linux that has Landlock and seccomp. The program makes no socket and signals no other process. It
//! changes nothing outside its folder, and reads only the system's files and its own, not the worker's `/proc`. It ends with
//! the worker. What of this holds on a machine is asked of it ([`Launcher::tried`]), logged at the start and told by the
//! doctor. A child of the tool is confined alike, and is killed with it when a run is cut short. After a run that ended well,
//! or a worker that was killed, it may stay, without files and sockets.
//!
//! It does not know what the programs print or what their exit codes mean.

#[cfg(target_os = "linux")]
mod confine;
mod judge;
mod launcher;
mod limits;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::error::ToolError;
use super::tool::Tool;
#[cfg(target_os = "linux")]
pub use confine::helper;
pub use launcher::{Isolation, Launcher};
pub use limits::Limits;

/// Nothing is confined by a helper on this system.
#[cfg(not(target_os = "linux"))]
pub fn helper() -> Option<std::process::ExitCode> {
    None
}

/// Kept of what a program says on stderr. The rest is read and dropped: poppler prints one line per broken object,
/// which can be megabytes for a file that it then reads well enough.
pub const STDERR_BYTES_MAX: usize = 64 * 1024;

/// What must fit into the folder after a program has written files.
const ROOM_BYTES_MIN: usize = 64 * 1024;

/// How long a killed child may take to vanish before it is left to tokio's reaper; a kill is normally instant.
const REAP_DEADLINE: Duration = Duration::from_secs(5);

/// Where programs are found and where they may put temporary files. Cheap to clone; one per worker will do.
#[derive(Debug, Clone)]
pub struct Sandbox {
    search_path: OsString,
    work_dir: PathBuf,
    tessdata_dir: Option<PathBuf>,
    launcher: Launcher,
}

/// How a program ended that stayed within its limits.
#[derive(Debug)]
pub struct Finished {
    /// The exit code, 0 for success.
    pub exit_code: i32,
    /// All that it printed.
    pub stdout: Vec<u8>,
    /// The first [`STDERR_BYTES_MAX`] bytes of its complaints, invalid UTF-8 replaced.
    pub stderr: String,
}

/// What was read until the program ended, or the reason why it was not waited for.
enum Collected {
    Ended {
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        status: ExitStatus,
    },
    OutputTooLong,
}

impl Sandbox {
    /// Programs come from `search_path` (the form of `PATH`); `work_dir` is their folder for temporary files.
    pub fn new(search_path: impl Into<OsString>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            search_path: search_path.into(),
            work_dir: work_dir.into(),
            tessdata_dir: None,
            launcher: Launcher::Shell,
        }
    }

    /// Uses Tesseract's language data from `dir` and not from where it was installed.
    #[must_use]
    pub fn with_tessdata_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.tessdata_dir = Some(dir.into());
        self
    }

    /// Starts programs in this way; without it, by a shell.
    #[must_use]
    pub fn with_launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = launcher;
        self
    }

    /// The folder of Tesseract's language data, if it is not the installed one.
    pub fn tessdata_dir(&self) -> Option<&Path> {
        self.tessdata_dir.as_deref()
    }

    /// Runs `tool` with `args` to its end, within `limits`.
    ///
    /// A file name among `args` must be absolute (see [`absolute`]): it could else be taken for an option.
    pub async fn run(
        &self,
        tool: Tool,
        args: &[OsString],
        limits: &Limits,
    ) -> Result<Finished, ToolError> {
        let program = tool.find_in(&self.search_path)?;
        let finished = self.run_program(tool.name(), &program, args, limits).await;
        if limits.file_bytes_max > 0 {
            // Programs that find the disk full leave half a file behind and may say nothing of it, or blame the document.
            self.check_room(tool.name()).await?;
        }
        finished
    }

    /// Whether something can still be written beside what the program has written.
    async fn check_room(&self, name: &str) -> Result<(), ToolError> {
        let probe = self.work_dir.join("room");
        let written = tokio::fs::write(&probe, vec![0; ROOM_BYTES_MIN]).await;
        // It goes with the folder if it cannot be removed.
        let _ = tokio::fs::remove_file(&probe).await;
        written.map_err(|source| {
            ToolError::io(
                &format!("the folder for the files of {name} takes no more"),
                &source,
            )
        })
    }

    async fn run_program(
        &self,
        name: &str,
        program: &Path,
        args: &[OsString],
        limits: &Limits,
    ) -> Result<Finished, ToolError> {
        let started = Instant::now();
        let mut child = self
            .command(program, args, limits)
            .spawn()
            .map_err(|source| ToolError::io(&format!("{name} could not be started"), &source))?;
        let group = Group::of(&child);
        let collected =
            tokio::time::timeout(limits.wall, collect(&mut child, limits.stdout_bytes_max)).await;
        match collected {
            Ok(Ok(Collected::Ended {
                stdout,
                stderr,
                status,
            })) => {
                group.ended();
                let stderr = String::from_utf8_lossy(&stderr).into_owned();
                let exit_code = judge::exit_code(name, status, &stderr, started.elapsed(), limits)?;
                Ok(Finished {
                    exit_code,
                    stdout,
                    stderr,
                })
            }
            Ok(Ok(Collected::OutputTooLong)) => {
                drop(group);
                stop(&mut child).await;
                Err(judge::output_exceeded(name, limits))
            }
            Ok(Err(source)) => {
                drop(group);
                stop(&mut child).await;
                Err(ToolError::io(
                    &format!("the output of {name} could not be read"),
                    &source,
                ))
            }
            Err(_elapsed) => {
                drop(group);
                stop(&mut child).await;
                Err(judge::time_exceeded(name, limits))
            }
        }
    }

    fn command(&self, program: &Path, args: &[OsString], limits: &Limits) -> Command {
        let mut command = Command::from(self.launcher.command(
            program,
            limits,
            &self.work_dir,
            self.tessdata_dir(),
        ));
        command
            .args(args)
            .env_clear()
            .env("PATH", &self.search_path)
            .env("LANG", "C.UTF-8")
            .env("TMPDIR", &self.work_dir)
            // Tesseract's threads fight each other; one per process is faster for a fleet of processes.
            .env("OMP_THREAD_LIMIT", "1")
            .current_dir(&self.work_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Away from the terminal's group: Ctrl-C asks the worker to finish its work, and the tool is that work.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// `path` in a form that no tool takes for an option, whatever it begins with.
pub fn absolute(path: &Path) -> Result<OsString, ToolError> {
    std::path::absolute(path)
        .map(PathBuf::into_os_string)
        .map_err(|source| ToolError::io("the path of the file could not be made absolute", &source))
}

/// Reads both pipes at once, so that a child never blocks on the one that is not read, and then takes the status.
async fn collect(child: &mut Child, stdout_bytes_max: usize) -> std::io::Result<Collected> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read_stdout = async {
        read_all(stdout, stdout_bytes_max)
            .await
            .map_err(Stop::Io)?
            .ok_or(Stop::TooLong)
    };
    let read_stderr = async { read_start(stderr, STDERR_BYTES_MAX).await.map_err(Stop::Io) };
    match tokio::try_join!(read_stdout, read_stderr) {
        Ok((stdout, stderr)) => Ok(Collected::Ended {
            stdout,
            stderr,
            status: child.wait().await?,
        }),
        Err(Stop::TooLong) => Ok(Collected::OutputTooLong),
        Err(Stop::Io(source)) => Err(source),
    }
}

/// Why the reading of one pipe ends the reading of the other.
enum Stop {
    TooLong,
    Io(std::io::Error),
}

/// Everything, or `None` if it is more than `bytes_max`.
async fn read_all(
    pipe: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max as u64 + 1)
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// The first `bytes_max` bytes; the rest is read and dropped, so that the child can go on.
async fn read_start(
    pipe: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe)
            .take(bytes_max as u64)
            .read_to_end(&mut bytes)
            .await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// Kills the child and takes its status, so that no zombie stays.
async fn stop(child: &mut Child) {
    if child.start_kill().is_ok() {
        // Nothing depends on the status of a killed child, and kill_on_drop reaps it if this deadline passes.
        let _ = tokio::time::timeout(REAP_DEADLINE, child.wait()).await;
    }
}

/// The child and what it has started, which is killed with it when a run is cut short. Dropped before the child is waited for, so
/// that the number is still its own.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// The child has been waited for: its number may be somebody else's.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended this moment: then there is nobody to kill.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
