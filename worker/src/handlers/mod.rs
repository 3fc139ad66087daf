//! The kinds in the box, for trying and testing. One file each.

mod crash;
mod echo;
mod fail;
mod http;
mod noop;
mod sleep;

use millstream_common::config::Config;

use crate::{Handler, outbound::OutboundError};

/// All built-in handlers. `crash` is among them only where `MILLSTREAM_DIAGNOSTICS=1`.
pub fn built_in(config: &Config) -> Result<Vec<Handler>, OutboundError> {
    let mut handlers = vec![noop::handler(), echo::handler(), sleep::handler(), fail::handler(), http::handler(&config.http)?];
    if config.diagnostics {
        handlers.push(crash::handler());
    }
    Ok(handlers)
}
