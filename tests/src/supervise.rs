//! A supervisor: starts workers again when they die. It does not know why they do.

use crate::{Process, eventually};

/// More deaths than any test may see: the bound only ends a test that would never end.
const DEATHS_MAX: usize = 40;

/// Restarts the workers with `start` whenever they die, until `over`; returns the deaths.
pub async fn supervise(
    workers: &mut [Process],
    start: impl Fn() -> Process,
    mut over: impl AsyncFnMut() -> bool,
) -> usize {
    let mut deaths = 0;
    eventually("what the supervisor waits for", async || {
        for worker in workers.iter_mut() {
            if worker.has_ended() {
                deaths += 1;
                *worker = start();
            }
        }
        assert!(deaths < DEATHS_MAX, "the workers die for ever");
        over().await.then_some(())
    })
    .await;
    deaths
}
