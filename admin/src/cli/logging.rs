//! Logs go to stderr, so that stdout is the answer and nothing else.

use millstream_common::config::Config;
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
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that there is a log already, as in tests that run two commands.
    let _ = if config.log_format == "json" {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        use std::io::IsTerminal;
        registry.with(fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr)).try_init()
    };
    Ok(())
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
