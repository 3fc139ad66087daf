//! The pace of a loop: run, pause, run. It says before each part how long that part may be silent, so `/livez` fails when the loop
//! hangs and only then. It knows nothing of what is run.

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::pulse::Pulses;

/// A run makes several statements, each with its own deadline; one that takes longer than this hangs.
pub(super) const RUN_DEADLINE: Duration = Duration::from_mins(1);
/// How late a timer may be on a machine that is starved, beside what a part takes by itself.
const LATE_MAX: Duration = Duration::from_secs(30);

/// What a loop does in each round.
pub(super) trait Round {
    /// The pause that follows. Asked after the run, which may have changed it.
    fn pause(&self) -> Duration;

    /// One run, at most [`RUN_DEADLINE`] long.
    fn run(&mut self) -> impl Future<Output = ()> + Send;

    /// Ends the pause early.
    fn nudged(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs at the pace of `round` until `stop` fires.
pub(super) async fn keep(
    pulses: &Pulses,
    name: &str,
    stop: &CancellationToken,
    round: &mut impl Round,
) {
    while !stop.is_cancelled() {
        pulses.turn(name, RUN_DEADLINE + LATE_MAX);
        // Not raced against `stop`: a run may hold a transaction. Its statements have deadlines of their own.
        round.run().await;
        let pause = round.pause();
        pulses.turn(name, pause + LATE_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = round.nudged() => {}
            () = stop.cancelled() => {}
        }
    }
    pulses.end(name);
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const LOOK: Duration = Duration::from_secs(1);

    /// Pauses for these seconds in turn; each run takes as long as it may.
    struct Scripted {
        pauses_s: Vec<u64>,
        runs: usize,
    }

    impl Round for Scripted {
        fn pause(&self) -> Duration {
            Duration::from_secs(self.pauses_s[self.runs % self.pauses_s.len()])
        }

        async fn run(&mut self) {
            self.runs += 1;
            tokio::time::sleep(RUN_DEADLINE).await;
        }

        async fn nudged(&mut self) {
            pending::<()>().await;
        }
    }

    /// Whether the loop was called stuck in any second of this time.
    async fn is_ever_stuck(round: &mut impl Round, time: Duration) -> bool {
        let (pulses, stop) = (Pulses::default(), CancellationToken::new());
        let watch = async {
            let end = tokio::time::Instant::now() + time;
            while tokio::time::Instant::now() < end {
                if !pulses.stuck().is_empty() {
                    return true;
                }
                tokio::time::sleep(LOOK).await;
            }
            false
        };
        tokio::select! {
            () = keep(&pulses, "loop", &stop, round) => false,
            stuck = watch => stuck,
        }
    }

    // F52, field X35: the pauses of every duty, and one that chooses another pause each time, over a day
    #[tokio::test(start_paused = true)]
    async fn x35_a_loop_that_keeps_its_own_pace_is_never_called_stuck() {
        for pauses_s in [
            vec![5, 600],
            vec![600, 5],
            vec![0, 1, 240],
            vec![60, 600, 86_400, 5],
        ] {
            let mut round = Scripted {
                pauses_s: pauses_s.clone(),
                runs: 0,
            };
            assert!(
                !is_ever_stuck(&mut round, DAY).await,
                "pauses of {pauses_s:?} s"
            );
            assert!(round.runs > 1, "it turned: {pauses_s:?}");
        }
    }

    /// Hangs in its second run.
    struct Hanging(usize);

    impl Round for Hanging {
        fn pause(&self) -> Duration {
            Duration::from_mins(10)
        }

        async fn run(&mut self) {
            self.0 += 1;
            if self.0 == 2 {
                pending::<()>().await;
            }
        }

        async fn nudged(&mut self) {
            pending::<()>().await;
        }
    }

    // rule 87: a loop that hangs
    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_called_stuck_soon_after() {
        assert!(
            !is_ever_stuck(&mut Hanging(0), Duration::from_mins(10)).await,
            "the first pause is on purpose"
        );
        assert!(
            is_ever_stuck(
                &mut Hanging(0),
                Duration::from_mins(10) + RUN_DEADLINE + LATE_MAX * 2
            )
            .await
        );
    }
}
