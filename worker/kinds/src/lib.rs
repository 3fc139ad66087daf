//! The kinds in the box, for trying and testing. One file each. No protocol: they see a [`Context`](millstream_worker::Context)
//! and return an outcome.

mod crash;
mod echo;
mod fail;
mod http;
mod noop;
mod sleep;

use millstream_common::config::Config;
use millstream_outbound::OutboundError;
use millstream_worker::Handler;

/// The kinds that every worker of the box runs. `crash` needs a worker with diagnostics.
pub const KINDS: [&str; 5] = ["noop", "echo", "sleep", "fail", "http"];

/// All built-in handlers. `crash` is among them only where `MILLSTREAM_DIAGNOSTICS=1`.
pub fn built_in(config: &Config) -> Result<Vec<Handler>, OutboundError> {
    let mut handlers = vec![
        noop::handler(),
        echo::handler(),
        sleep::handler(),
        fail::handler(),
        http::handler(&config.http)?,
    ];
    if config.diagnostics {
        handlers.push(crash::handler());
    }
    Ok(handlers)
}
