//! Logs go to stderr, so that stdout is the answer and nothing else.
//!
//! Texts from outside reach a terminal through a log too: what would turn the order of its characters becomes visible, and a panic is a line
//! of the log, without what looks like a secret.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
};

use millstream_common::{
    config::Config,
    limits::ERROR_BYTES_MAX,
    printable::{is_hidden, printable},
    redact::stored,
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::exit::Failure;

/// What a command that answers and ends logs, unless the filter was set to something else than the default.
const SHORT_COMMAND_FILTER: &str = "warn";

/// How much to log.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// The process stays: its log is its voice.
    pub service: bool,
    /// `--quiet`.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// Installs the log of this process. A second call changes nothing.
pub fn init(config: &Config, volume: Volume) -> Result<(), Failure> {
    let text = filter(&config.log, volume);
    let filter = EnvFilter::try_new(&text)
        .map_err(|e| Failure::usage(format!("MILLSTREAM_LOG is no log filter ({e}): use for example info or millstream=debug")))?;
    std::panic::set_hook(Box::new(tell_panic));
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that there is a log already, as in tests that run two commands.
    let _ = if config.log_format == "json" {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        use std::io::IsTerminal;
        registry.with(fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(|| Shown)).try_init()
    };
    Ok(())
}

/// Of the word `panicked` and the place. Whose panic it was says the line of who caught it.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = stored(panic.payload_as_str().unwrap_or("no message"), ERROR_BYTES_MAX);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, panic = text, backtrace, "panicked");
}

/// Stderr, for lines that may be coloured: the colours stay, hidden characters that are no part of them become visible.
struct Shown;

impl Write for Shown {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(shown(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The layer below escapes ESC and its kin where they come from outside, and writes its own.
fn shown(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_hidden(c) && !c.is_ascii_control() { out.push_str(&printable(c.encode_utf8(&mut [0; 4]))) } else { out.push(c) }
    }
    out
}

fn filter(configured: &str, volume: Volume) -> String {
    match (volume.quiet, volume.verbose) {
        (true, _) => "error".into(),
        (_, 0) if !volume.service && configured == "info" => SHORT_COMMAND_FILTER.into(),
        (_, 0) => configured.into(),
        // Ours in detail; the drivers only when asked twice, because they log every statement.
        (_, 1) => {
            "info,millstream=debug,millstream_common=debug,millstream_producer=debug,millstream_worker=debug,millstream_admin=debug".into()
        }
        _ => "debug".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // X72
    #[test]
    fn a_log_line_keeps_its_colours_and_shows_what_would_turn_it() {
        assert_eq!(shown("\u{1b}[31mred\u{1b}[0m \u{202e}x\u{9b}y\n"), "\u{1b}[31mred\u{1b}[0m \\u{202e}x\\u{9b}y\n");
    }

    #[test]
    fn a_short_command_is_silent_unless_asked() {
        let volume = Volume { service: false, quiet: false, verbose: 0 };
        assert_eq!(filter("info", volume), "warn");
        assert_eq!(filter("trace", volume), "trace");
        assert_eq!(filter("info", Volume { service: true, ..volume }), "info");
        assert_eq!(filter("info", Volume { quiet: true, ..volume }), "error");
        assert!(filter("info", Volume { verbose: 1, ..volume }).contains("millstream_worker=debug"));
    }
}
