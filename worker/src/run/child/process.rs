//! One child as a process: how it starts, how it is killed, and how its death is told.

use std::{
    collections::VecDeque,
    io::{self, PipeReader, Write},
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    sync::oneshot,
};

/// The last lines of its standard error show why a child died.
const LAST_LINES_MAX: usize = 5;
/// A longer line is cut into lines of this many bytes.
const LINE_BYTES_MAX: u64 = 2000;
/// The standard library says this before it aborts because there is no memory.
const NO_MEMORY: &str = "memory allocation of ";

/// A child that has been started.
pub(super) struct Started {
    pub(super) group: Arc<Group>,
    pub(super) end: oneshot::Receiver<io::Result<ExitStatus>>,
    pub(super) socket: UnixStream,
    pub(super) words: PipeReader,
}

/// The process group of a child: the child, and what its jobs have started.
pub(super) struct Group {
    leader: Pid,
    /// Its number may be somebody else's from then on.
    is_gone: Mutex<bool>,
}

impl Group {
    /// Ends all of it, unless the child has been waited for.
    pub(super) fn kill(&self) {
        let is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_gone {
            // It may have ended this moment: then there is nothing to kill.
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }

    /// Waits for the child, ends what it leaves behind, and gives its number back.
    fn await_end(&self, mut child: Child) -> io::Result<ExitStatus> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = loop {
            match waitid(WaitId::Pid(self.leader), look) {
                Err(Errno::INTR) => {}
                ended => break ended,
            }
        };
        // Somebody else may have waited for it: then its number may be another's.
        if ended.is_ok() {
            self.kill();
        }
        let mut is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        *is_gone = true;
        child.wait()
    }
}

/// Starts `command` with one end of a socket as its standard input. The thread that starts it waits for its end, because the child dies
/// with the thread that has started it.
pub(super) async fn start(command: Arc<Mutex<Command>>) -> io::Result<Started> {
    let (socket, theirs) = UnixStream::pair()?;
    let (words, said) = io::pipe()?;
    let (started, is_started) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let thread = std::thread::Builder::new().name("child".into());
    thread.spawn(move || match spawn(&command, theirs.into(), said.into()) {
        Err(error) => drop(started.send(Err(error))),
        Ok(child) => {
            let group = Arc::new(Group {
                leader: Pid::from_child(&child),
                is_gone: Mutex::new(false),
            });
            drop(started.send(Ok(group.clone())));
            drop(ended.send(group.await_end(child)));
        }
    })?;
    let group = is_started.await.map_err(io::Error::other)??;
    Ok(Started {
        group,
        end,
        socket,
        words,
    })
}

/// In a process group of its own: a service manager's or terminal's signal to the worker's group is not for it.
fn spawn(command: &Mutex<Command>, input: OwnedFd, said: OwnedFd) -> io::Result<Child> {
    let mut command = command.lock().unwrap_or_else(PoisonError::into_inner);
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(said.try_clone()?))
        .stderr(Stdio::from(said))
        .process_group(0);
    let spawned = command.spawn();
    // The command would keep the child's ends open.
    let closed = || Stdio::null();
    command.stdin(closed()).stdout(closed()).stderr(closed());
    spawned
}

/// The last lines that a child has written.
pub(super) type LastWords = Arc<Mutex<VecDeque<String>>>;

/// Passes on what the child writes to standard error, until all ends of the pipe are closed, and keeps the last lines.
pub(super) async fn pass_on(words: PipeReader, last: LastWords) -> io::Result<()> {
    let mut words = BufReader::new(pipe::Receiver::from_owned_fd(words.into())?);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut words).take(LINE_BYTES_MAX);
        if bounded.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        // A log that cannot be written must not end the child.
        let _ = io::stderr().write_all(&line);
        // Backtraces are indented, and bury what was said before them.
        if line.first().is_none_or(u8::is_ascii_whitespace) {
            continue;
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if last.len() > LAST_LINES_MAX {
            last.pop_front();
        }
    }
}

/// Why a child died, for people.
pub(super) fn told(status: ExitStatus, last: &LastWords, memory_bytes_max: u64) -> String {
    let last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = last.iter().map(String::as_str).collect();
    let how = match (status.signal(), status.code()) {
        _ if words.iter().any(|line| line.starts_with(NO_MEMORY)) => {
            format!("ran into its memory limit of {memory_bytes_max} bytes")
        }
        (Some(signal), _) => format!("was killed by signal {signal}{}", name(signal)),
        (None, code) => format!("ended with exit code {}", code.unwrap_or_default()),
    };
    if words.is_empty() {
        how
    } else {
        format!("{how}; its last words: {}", words.join(" | "))
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        31 => " (SIGSYS)",
        _ => "",
    }
}
