//! The helper that stands between a worker and a tool: this very program, called with [`ARGUMENT`]. It takes rights from itself and
//! then becomes the tool, so that what it took is gone for the tool and for all that the tool starts.
//!
//! What it takes, on Linux: files, sockets, other processes, and life beyond the worker that started it. Landlock lets the tool read
//! programs, libraries, fonts, language data and its own folder, and write only there; `/proc` of other processes is not among it. What
//! Landlock forbids on newer kernels only, or on none, seccomp refuses on all ([`calls`]): to truncate a file by its name, to change its
//! owner, mode or times, to signal another process. With seccomp no socket can be made. CPU, memory and file size are limited too, as
//! without the helper.
//!
//! What it does not do: the tool keeps its user, learns of every path whether it is there and how large the file is, and can use as much
//! disk in its folder as is there. A child that the tool starts is confined as well, but only the tool itself dies with the worker. It
//! knows no jobs.

mod calls;
mod files;

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

/// As the first argument of this program: be the helper.
pub(super) const ARGUMENT: &str = "__tool";
/// As the second one: only say what is possible here.
pub(super) const PROBE: &str = "probe";
/// The helper could not become the tool. Nobody else ends so.
pub(super) const FAILED: u8 = 118;
/// Begins what it says then.
pub(super) const COMPLAINT: &str = "the tool could not be confined: ";

/// What is to run, and within what.
struct Order {
    cpu_s: u64,
    memory_bytes: u64,
    file_bytes: u64,
    parent: i32,
    /// Where the tool may write.
    work_dir: PathBuf,
    /// More to read; empty: nothing.
    data_dir: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// If this process was called as the helper: its end. Does not come back when all is well, because the process is the tool then.
/// Call it first thing in `main`, before any thread is started.
pub fn helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let rest: Vec<OsString> = arguments.collect();
    let failed = if rest.first().is_some_and(|first| first == PROBE) {
        probe()
    } else {
        become_tool(rest)
    };
    match failed {
        Ok(code) => Some(code),
        Err(reason) => {
            eprintln!("{COMPLAINT}{reason}");
            Some(ExitCode::from(FAILED))
        }
    }
}

/// Takes everything from this process, and prints what the kernel has taken.
fn probe() -> Result<ExitCode, String> {
    println!(
        "landlock={} seccomp={}",
        files::take(&[], &[])?,
        calls::take()?
    );
    Ok(ExitCode::SUCCESS)
}

fn become_tool(arguments: Vec<OsString>) -> Result<ExitCode, String> {
    let order = read(arguments).ok_or("it was called wrongly")?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| e.to_string())?;
    // The worker may have died before that was said.
    if getppid()
        .map(Pid::as_raw_nonzero)
        .map(std::num::NonZero::get)
        != Some(order.parent)
    {
        return Err("the worker is gone".to_owned());
    }
    let mut command = Command::new(&order.program);
    command.args(&order.arguments);
    files::take(
        &files::readable(&order.program, &order.data_dir),
        std::slice::from_ref(&order.work_dir),
    )?;
    calls::take()?;
    // Last, and with everything at hand that is needed to go on: the limits are the tool's, and tight.
    limit(Resource::Core, 0, 0);
    limit(Resource::Fsize, order.file_bytes, order.file_bytes);
    // The soft limit comes first, so that the signal is SIGXCPU, which tells its reason, and not SIGKILL, which does not.
    limit(Resource::Cpu, order.cpu_s, order.cpu_s + 1);
    limit(Resource::As, order.memory_bytes, order.memory_bytes);
    // The limit of a child process of a worker is not the tool's.
    limit(Resource::Data, order.memory_bytes, order.memory_bytes);
    Err(format!(
        "{} could not be started: {}",
        order.program.display(),
        command.exec()
    ))
}

fn read(arguments: Vec<OsString>) -> Option<Order> {
    let mut arguments = arguments.into_iter();
    let mut number = || arguments.next()?.to_str()?.parse::<u64>().ok();
    let (cpu_s, memory_bytes, file_bytes, parent) = (number()?, number()?, number()?, number()?);
    let mut path = || arguments.next().map(PathBuf::from);
    let (work_dir, data_dir, program) = (path()?, path()?, path()?);
    Some(Order {
        cpu_s,
        memory_bytes,
        file_bytes,
        parent: i32::try_from(parent).ok()?,
        work_dir,
        data_dir,
        program,
        arguments: arguments.collect(),
    })
}

/// A refused limit is passed over: a tighter one is in force already.
fn limit(resource: Resource, current: u64, maximum: u64) {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let _ = setrlimit(
        resource,
        Rlimit {
            current: Some(current.min(most)),
            maximum: Some(maximum.min(most)),
        },
    );
}
