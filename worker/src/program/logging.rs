//! Logs go to stderr, so that stdout is the answer and nothing else.
//!
//! Texts from outside reach a terminal through a log too. An event is one line, whatever its values hold: line ends, colours and what would
//! turn the order of characters become visible. A panic is a line of the log, without what looks like a secret.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt::Debug,
};

use millstream_common::{
    config::Config, limits::ERROR_BYTES_MAX, printable::printable, redact::stored,
};
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        self, FormatFields,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::exit::CommandError;

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
pub fn init(config: &Config, volume: Volume) -> Result<(), CommandError> {
    let text = filter(&config.log, volume);
    let filter = EnvFilter::try_new(&text).map_err(|e| {
        CommandError::usage(format!(
            "MILLSTREAM_LOG is no log filter ({e}): use for example info or millstream=debug"
        ))
    })?;
    std::panic::set_hook(Box::new(tell_panic));
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that there is a log already, as in tests that run two commands.
    let _ = if config.log_format == "json" {
        registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    } else {
        use std::io::IsTerminal;
        let colours = std::io::stderr().is_terminal();
        registry
            .with(
                fmt::layer()
                    .fmt_fields(fields())
                    .with_ansi(colours)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    Ok(())
}

/// Of the word `panicked` and the place. Whose panic it was says the line of who caught it.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = stored(
        panic.payload_as_str().unwrap_or("no message"),
        ERROR_BYTES_MAX,
    );
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, panic = text, backtrace, "panicked");
}

/// How the fields of an event or a span are written. The layer's own way lets the line ends of every value pass, and the control characters
/// of all values but the message.
fn fields() -> impl for<'w> FormatFields<'w> + 'static {
    debug_fn(write_field).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = printable(&format!("{value:?}"));
    match field.name() {
        "message" => writer.write_str(&text),
        name if writer.has_ansi_escapes() => {
            write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{text}")
        }
        name => write!(writer, "{name}={text}"),
    }
}

fn filter(configured: &str, volume: Volume) -> String {
    match (volume.quiet, volume.verbose) {
        (true, _) => "error".into(),
        (_, 0) if !volume.service && configured == "info" => SHORT_COMMAND_FILTER.into(),
        (_, 0) => configured.into(),
        // Ours in detail; the drivers only when asked twice, because they log every statement.
        (_, 1) => {
            // A prefix: all crates of ours begin with it.
            "info,millstream=debug".into()
        }
        _ => "debug".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use millstream_common::printable::is_hidden;

    use super::*;

    /// A log that a test can read.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of an event whose values are all the same.
    fn logged(value: &'static str, colours: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer()
            .fmt_fields(fields())
            .with_ansi(colours)
            .without_time()
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::error_span!("span", shown = %value).entered();
            tracing::error!(shown = %value, text = value, error = &io::Error::other(value) as &(dyn std::error::Error + 'static), "{value}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    // X72
    #[test]
    fn an_event_is_one_line_and_its_values_turn_or_colour_nothing() {
        let hostile = "a\nERROR forged\r\u{1b}[2J\u{8}\u{9b}31m\u{202e}z";
        let line = logged(hostile, false);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            !line.trim_end_matches('\n').chars().any(is_hidden),
            "{line:?}"
        );
        assert_eq!(
            line.matches("a ERROR forged \\u{1b}[2J\\u{8}\\u{9b}31m\\u{202e}z")
                .count(),
            4,
            "{line:?}"
        );
        let coloured = logged(hostile, true);
        let colours = coloured.split('\u{1b}').skip(1);
        assert!(
            colours.clone().count() > 0
                && colours
                    .clone()
                    .all(|colour| colour.starts_with('[') && !colour.starts_with("[2J")),
            "{coloured:?}"
        );
        assert!(
            !coloured
                .trim_end_matches('\n')
                .chars()
                .any(|c| c != '\u{1b}' && is_hidden(c)),
            "{coloured:?}"
        );
    }

    // X72
    #[test]
    fn a_log_line_of_harmless_values_reads_as_ever() {
        assert_eq!(
            logged("é x", false),
            "ERROR span{shown=é x}: millstream_worker::program::logging::tests: é x shown=é x text=\"é x\" error=é x\n"
        );
    }

    #[test]
    fn a_short_command_is_silent_unless_asked() {
        let volume = Volume {
            service: false,
            quiet: false,
            verbose: 0,
        };
        assert_eq!(filter("info", volume), "warn");
        assert_eq!(filter("trace", volume), "trace");
        assert_eq!(
            filter(
                "info",
                Volume {
                    service: true,
                    ..volume
                }
            ),
            "info"
        );
        assert_eq!(
            filter(
                "info",
                Volume {
                    quiet: true,
                    ..volume
                }
            ),
            "error"
        );
        assert!(
            filter(
                "info",
                Volume {
                    verbose: 1,
                    ..volume
                }
            )
            .contains("millstream=debug")
        );
    }
}
