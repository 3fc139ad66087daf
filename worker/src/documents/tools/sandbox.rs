//! Runs one program on one hostile file: limited, alone, and always to an end (P4, F34).
//!
//! The limits are set by the shell's `ulimit` before it becomes the program, so no unsafe code is needed and the
//! same works on Linux and macOS. Invariants: at most `stdout_bytes_max` + [`STDERR_BYTES_MAX`] bytes are held; the
//! child is dead when [`Sandbox::run`] returns or its future is dropped; the child sees no variable of ours, so no
//! secret reaches a parser of hostile files. Poppler and Tesseract start no children of their own.
//!
//! It does not know what the programs print or what their exit codes mean.

mod judge;
mod limits;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::error::ToolError;
use super::tool::Tool;
pub use limits::Limits;

/// Kept of what a program says on stderr. The rest is read and dropped: poppler prints one line per broken object,
/// which can be megabytes for a file that it then reads well enough.
pub const STDERR_BYTES_MAX: usize = 64 * 1024;

/// How long a killed child may take to vanish before it is left to tokio's reaper; a kill is normally instant.
const REAP_DEADLINE: Duration = Duration::from_secs(5);

/// Sets the limits, then becomes the program. A refused limit is passed over: either a tighter one is in force
/// already, or the system has none of that kind (macOS: `-v`). The soft CPU limit comes one second before the hard
/// one, so that the signal is SIGXCPU, which tells its reason, and not SIGKILL, which does not.
const SCRIPT: &str = "cpu=$1; memory=$2; file=$3; shift 3
ulimit -c 0 2>/dev/null
ulimit -S -t \"$cpu\" 2>/dev/null; ulimit -H -t $((cpu + 1)) 2>/dev/null
ulimit -v \"$memory\" 2>/dev/null
ulimit -f \"$file\" 2>/dev/null
exec \"$@\"";

/// Where programs are found and where they may put temporary files. Cheap to clone; one per worker will do.
#[derive(Debug, Clone)]
pub struct Sandbox {
    search_path: OsString,
    work_dir: PathBuf,
    tessdata_dir: Option<PathBuf>,
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
    Ended { stdout: Vec<u8>, stderr: Vec<u8>, status: ExitStatus },
    OutputTooLong,
}

impl Sandbox {
    /// Programs come from `search_path` (the form of `PATH`); `work_dir` is their folder for temporary files.
    pub fn new(search_path: impl Into<OsString>, work_dir: impl Into<PathBuf>) -> Self {
        Self { search_path: search_path.into(), work_dir: work_dir.into(), tessdata_dir: None }
    }

    /// Uses Tesseract's language data from `dir` and not from where it was installed.
    #[must_use]
    pub fn with_tessdata_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.tessdata_dir = Some(dir.into());
        self
    }

    /// The folder of Tesseract's language data, if it is not the installed one.
    pub fn tessdata_dir(&self) -> Option<&Path> {
        self.tessdata_dir.as_deref()
    }

    /// Checks that all programs of the pipeline are there; for start-up and for the doctor.
    pub fn check(&self) -> Result<(), ToolError> {
        Tool::ALL.into_iter().try_for_each(|tool| tool.find_in(&self.search_path).map(drop))
    }

    /// Runs `tool` with `args` to its end, within `limits`.
    ///
    /// A file name among `args` must be absolute (see [`absolute`]): it could else be taken for an option.
    pub async fn run(&self, tool: Tool, args: &[OsString], limits: &Limits) -> Result<Finished, ToolError> {
        let program = tool.find_in(&self.search_path)?;
        self.run_program(tool.name(), &program, args, limits).await
    }

    async fn run_program(&self, name: &str, program: &Path, args: &[OsString], limits: &Limits) -> Result<Finished, ToolError> {
        let started = Instant::now();
        let mut child = self
            .command(program, args, limits)
            .spawn()
            .map_err(|source| ToolError::io(&format!("{name} could not be started"), &source))?;
        let collected = tokio::time::timeout(limits.wall, collect(&mut child, limits.stdout_bytes_max)).await;
        match collected {
            Ok(Ok(Collected::Ended { stdout, stderr, status })) => {
                let stderr = String::from_utf8_lossy(&stderr).into_owned();
                let exit_code = judge::exit_code(name, status, &stderr, started.elapsed(), limits)?;
                Ok(Finished { exit_code, stdout, stderr })
            }
            Ok(Ok(Collected::OutputTooLong)) => {
                stop(&mut child).await;
                Err(judge::output_exceeded(name, limits))
            }
            Ok(Err(source)) => {
                stop(&mut child).await;
                Err(ToolError::io(&format!("the output of {name} could not be read"), &source))
            }
            Err(_elapsed) => {
                stop(&mut child).await;
                Err(judge::time_exceeded(name, limits))
            }
        }
    }

    fn command(&self, program: &Path, args: &[OsString], limits: &Limits) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args([OsStr::new("-c"), OsStr::new(SCRIPT), OsStr::new("sh")])
            .args(limits.shell_arguments())
            .arg(program)
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
    let read_stdout = async { read_all(stdout, stdout_bytes_max).await.map_err(Stop::Io)?.ok_or(Stop::TooLong) };
    let read_stderr = async { read_start(stderr, STDERR_BYTES_MAX).await.map_err(Stop::Io) };
    match tokio::try_join!(read_stdout, read_stderr) {
        Ok((stdout, stderr)) => Ok(Collected::Ended { stdout, stderr, status: child.wait().await? }),
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
async fn read_all(pipe: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await?;
    }
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

/// The first `bytes_max` bytes; the rest is read and dropped, so that the child can go on.
async fn read_start(pipe: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(bytes_max as u64).read_to_end(&mut bytes).await?;
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

#[cfg(test)]
mod tests;
