//! Watches the private servers of `millstream dev` and starts one that has died again, with its data.
//!
//! Not for ever: a server that dies again and again has a reason, and people shall see it. It does not know servers that somebody else runs.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_local::{LocalServices, Server};

use super::super::CommandError;

/// How often the servers are looked at: short beside the time that a start takes, and a look costs one system call.
const LOOK: Duration = Duration::from_millis(200);
/// Starts within [`SPAN`]: somebody who kills them by hand, to see what happens, stays below it; a server that cannot stay does not.
const STARTS_MAX: usize = 10;
/// See [`STARTS_MAX`].
const SPAN: Duration = Duration::from_mins(1);

/// Ends only when a server cannot be kept running, with the reason.
pub(super) async fn keep(services: Arc<LocalServices>) -> CommandError {
    let mut starts = Starts::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some((server, why)) = services.fallen() else {
            continue;
        };
        if !starts.allow(Instant::now()) {
            return CommandError::failed(format!(
                "{STARTS_MAX} starts of the private servers within {} s were not enough: {why}",
                SPAN.as_secs()
            ));
        }
        tracing::warn!("{why}");
        if let Err(failure) = start_again(&services, server).await {
            return failure;
        }
    }
}

async fn start_again(services: &Arc<LocalServices>, server: Server) -> Result<(), CommandError> {
    let began = Instant::now();
    let theirs = services.clone();
    let started = tokio::task::spawn_blocking(move || theirs.start_again(server)).await;
    match started {
        Ok(Ok(())) => {
            tracing::warn!(
                ?server,
                took_ms = began.elapsed().as_millis() as u64,
                "it was started again, with its data"
            );
            Ok(())
        }
        Ok(Err(e)) => Err(CommandError::failed(format!(
            "{server:?} could not be started again: {e:#}"
        ))),
        Err(e) => Err(CommandError::failed(format!(
            "{server:?} could not be started again: {e}"
        ))),
    }
}

/// The last starts.
#[derive(Default)]
struct Starts(VecDeque<Instant>);

impl Starts {
    /// Whether one more is within bounds; if so, it counts.
    fn allow(&mut self, now: Instant) -> bool {
        while self
            .0
            .front()
            .is_some_and(|at| now.duration_since(*at) >= SPAN)
        {
            self.0.pop_front();
        }
        let allowed = self.0.len() < STARTS_MAX;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_started_again_so_many_times_a_minute_and_no_more() {
        let (mut starts, began) = (Starts::default(), Instant::now());
        let at = |second: usize| began + Duration::from_secs(second as u64);
        assert!((0..STARTS_MAX).all(|nth| starts.allow(at(nth))));
        assert!(!starts.allow(at(STARTS_MAX)) && !starts.allow(at(59)));
        assert!(starts.allow(at(60)), "the first of them is a minute ago");
        assert!(!starts.allow(at(60)));
    }
}
