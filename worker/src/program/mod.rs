//! The whole of a worker program: options, settings, log, TLS, probes, signals, exit code.
//!
//! [`worker_main`] is what `main` of a program with handlers of its own calls. `millstream worker` is made of the same parts.
//!
//! Invariants: the answer goes to stdout, everything else to stderr. An error is one line that says what to do. Nothing is
//! connected or bound before arguments and configuration are seen to be right.

pub mod exit;
mod isolation;
pub mod logging;
mod options;
pub mod outage;
pub mod place;
mod probes;
mod serving;
pub mod signals;
pub mod usage;

use std::{error::Error, process::ExitCode, time::Duration};

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use millstream_common::{
    config::Config, error::in_full, metrics::Metrics, printable::printable_lines,
};

pub use self::{
    exit::{CommandError, CommandResult, Exit},
    options::{Options, WorkerArgs},
    place::{Places, database_url, redis_url},
    serving::Serving,
};
use crate::{Handler, Parts};

/// How long the runtime waits at the end for a blocked thread. The work is settled by then.
const RUNTIME_GRACE: Duration = Duration::from_millis(200);

/// How a program introduces itself in `--help`, in `--version` and in the log.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What people type to start it.
    pub name: &'static str,
    /// Its own version, usually `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// One line about it, for `--help`.
    pub about: &'static str,
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    args: WorkerArgs,
}

/// Runs a worker for `handlers` until it is told to stop. `main` has nothing else to do.
///
/// The program has the options of `millstream worker`, and `DATABASE_URL`, `REDIS_URL` and `MILLSTREAM_…` are its settings.
/// SIGTERM and SIGINT drain it; a second signal cuts the grace period short. It runs the kinds of `handlers` and no others.
///
/// ```no_run
/// use millstream_worker::{Context, Handler, Outcome, Program, Success, worker_main};
///
/// async fn greet(_: Context, name: String) -> Outcome {
///     Success::with_result(&format!("hello {name}"))
/// }
///
/// fn main() -> std::process::ExitCode {
///     let program = Program { name: "greeter", version: "1.0.0", about: "Greets people" };
///     worker_main(program, vec![Handler::new("greet", greet)])
/// }
/// ```
pub fn worker_main(program: Program, handlers: Vec<Handler>) -> ExitCode {
    worker_main_with(program, |_| Ok(handlers))
}

/// The same for handlers that need the settings, such as the kinds in the box. An error ends the program as a wrong setting does.
pub fn worker_main_with(
    program: Program,
    handlers: impl FnOnce(&Config) -> Result<Vec<Handler>, Box<dyn Error>>,
) -> ExitCode {
    match parsed(&program) {
        Ok(line) => run(&line.options, true, async |config| {
            let is_child = line.args.child;
            work(line.args.over(config), is_child, handlers).await
        }),
        Err(error) => usage::tell(&error, program.name),
    }
}

fn parsed(program: &Program) -> Result<Line, clap::Error> {
    Line::from_arg_matches(&command(program).try_get_matches()?)
}

fn command(program: &Program) -> Command {
    // The texts of clap are borrowed for ever; those of a program are constants.
    Line::command()
        .name(program.name)
        .bin_name(program.name)
        .version(program.version)
        .about(program.about)
}

/// Opens what can fail first, then works until told to stop.
async fn work(
    config: Config,
    is_child: bool,
    handlers: impl FnOnce(&Config) -> Result<Vec<Handler>, Box<dyn Error>>,
) -> CommandResult {
    let serving = Serving::open(&config, is_child).await?;
    let handlers = handlers(&config).map_err(|e| CommandError::usage(in_full(&*e)))?;
    let metrics =
        Metrics::new(env!("CARGO_PKG_VERSION")).map_err(|e| CommandError::failed(in_full(&e)))?;
    let parts = Parts {
        config,
        metrics,
        handlers,
        isolation: None,
    };
    serving.run(parts).await
}

/// TLS, settings, log and runtime around a command; its end as an exit code and a line on stderr. `stays`: the process is a service,
/// and its log is its voice.
pub fn run(
    options: &Options,
    stays: bool,
    command: impl AsyncFnOnce(Config) -> CommandResult,
) -> ExitCode {
    // rustls needs a crypto provider in the process. Programs install it, libraries never do; a second call would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    millstream_common::failpoint::arm();
    let config = match options.settings() {
        Ok(config) => config,
        Err(failure) => return tell(&failure, &Places::default()),
    };
    let places = Places::of(&config);
    match start(options, stays, config, command) {
        Ok(exit) => exit.into(),
        Err(failure) => tell(&failure, &places),
    }
}

fn start(
    options: &Options,
    stays: bool,
    config: Config,
    command: impl AsyncFnOnce(Config) -> CommandResult,
) -> CommandResult {
    logging::init(&config, options.volume(stays))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(command(config));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

fn tell(failure: &CommandError, places: &Places) -> ExitCode {
    let (exit, line) = failure.tell(places);
    if let Some(line) = line {
        say(&format!("error: {line}"));
    }
    exit.into()
}

/// Says something beside the answer, on stderr.
pub fn say(text: &str) {
    eprintln!("{}", printable_lines(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_a_program_is_its_own() {
        let program = Program {
            name: "own",
            version: "9.8.7",
            about: "Does things",
        };
        command(&program).debug_assert();
        let help = command(&program).render_help().to_string();
        assert!(
            help.contains("Does things") && help.contains("Usage: own "),
            "{help}"
        );
        assert!(command(&program).render_version().contains("own 9.8.7"));
        assert!(!help.contains("millstream worker"), "{help}");
    }
}
