//! The kinds in the box, for trying and testing. One file each.

mod crash;
mod echo;
mod fail;
mod http;
mod noop;
mod sleep;

use millstream_common::config::Config;

use crate::{Handler, outbound::OutboundError};

/// Whether a plain `millstream worker` runs that kind: these here, and those of the document pipeline. Others need a program of somebody's own,
/// and `crash` a worker with diagnostics.
#[cfg(feature = "documents")]
pub fn in_the_box(kind: &str) -> bool {
    matches!(kind, "noop" | "echo" | "sleep" | "fail" | "http")
        || crate::documents::KINDS.contains(&kind)
}

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

#[cfg(all(test, feature = "documents"))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // X33
    #[test]
    fn the_list_of_kinds_in_the_box_is_what_is_in_it() {
        // A second call only says that there is a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::load(None).unwrap();
        assert!(
            built_in(&config)
                .unwrap()
                .iter()
                .all(|handler| in_the_box(handler.kind()))
        );
        assert!(!in_the_box("crash") && !in_the_box("document") && in_the_box("document.extract"));
    }
}
