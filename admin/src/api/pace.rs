//! How slowly a body may come: who sends it holds a place, or memory, for which others wait.
//!
//! Only the waiting for its pieces counts: what is done with them in between is not the sender's time.

use std::{error::Error, fmt, time::Duration};

use axum::body::Body;
use futures::StreamExt;
use tokio::time::{Instant, timeout};

/// What a sender is granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// No piece takes longer.
    pub(super) piece: Duration,
    /// And all of them together come this quickly on average, after one such time at the start.
    pub(super) bytes_per_s: u64,
}

/// The body ends with this where it came more slowly.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it came too slowly")
    }
}

impl Error for TooSlow {}

/// Whether this, or what is behind it, is the end of a body that came too slowly.
pub(super) fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The body, as long as it keeps this pace.
pub(super) fn paced(body: Body, pace: Pace) -> Body {
    let begin = (body.into_data_stream(), Duration::ZERO, 0);
    Body::from_stream(futures::stream::try_unfold(
        begin,
        move |(mut pieces, waited, bytes)| async move {
            let earned = pace.piece + Duration::from_secs(bytes / pace.bytes_per_s);
            let asked = Instant::now();
            let next = timeout(pace.piece.min(earned.saturating_sub(waited)), pieces.next()).await;
            let Some(piece) = next.map_err(|_| axum::Error::new(TooSlow))?.transpose()? else {
                return Ok(None);
            };
            let bytes = bytes + piece.len() as u64;
            Ok::<_, axum::Error>(Some((piece, (pieces, waited + asked.elapsed(), bytes))))
        },
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use axum::body::{Bytes, to_bytes};
    use tokio::time::sleep;

    use super::*;

    const PACE: Pace = Pace {
        piece: Duration::from_secs(5),
        bytes_per_s: 1000,
    };

    /// Pieces of so many bytes, each after so many milliseconds.
    fn sent(pieces: &'static [(u64, usize)]) -> Body {
        Body::from_stream(
            futures::stream::iter(pieces).then(async |(after_ms, bytes)| {
                sleep(Duration::from_millis(*after_ms)).await;
                Ok::<_, std::io::Error>(Bytes::from(vec![0; *bytes]))
            }),
        )
    }

    async fn read(body: Body) -> Result<usize, bool> {
        to_bytes(body, usize::MAX)
            .await
            .map(|bytes| bytes.len())
            .map_err(|error| is_too_slow(&error))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_its_pace_or_ends() {
        assert_eq!(
            read(paced(
                sent(&[(4_000, 1000), (2_000, 2000), (2_000, 1)]),
                PACE
            ))
            .await,
            Ok(3001)
        );
        assert_eq!(
            read(paced(sent(&[(6_000, 1000)]), PACE)).await,
            Err(true),
            "nothing for too long"
        );
        assert_eq!(
            read(paced(sent(&[(0, 100_000), (6_000, 1)]), PACE)).await,
            Err(true),
            "nor after much"
        );
        // One byte every two seconds: five seconds are granted, and it earns nothing.
        assert_eq!(
            read(paced(sent(&[(2_000, 1), (2_000, 1), (2_000, 1)]), PACE)).await,
            Err(true),
            "too little"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_of_the_sender_counts() {
        let mut pieces =
            paced(sent(&[(1_000, 1), (1_000, 1), (1_000, 1)]), PACE).into_data_stream();
        let mut read = 0;
        while let Some(piece) = pieces.next().await {
            read += piece.unwrap().len();
            sleep(Duration::from_mins(1)).await;
        }
        assert_eq!(read, 3);
    }
}
