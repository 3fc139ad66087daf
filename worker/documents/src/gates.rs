//! How much of the pipeline runs at the same time in one process: what keeps a worker under 500 MB (P2).
//!
//! A worker has as many slots as it likes; what is heavy on memory or on the CPU passes a gate first. Waiting in a slot
//! is bounded: after [`PATIENCE`] the job goes back to the end of the line, at no cost to it.

use std::{sync::Arc, time::Duration};

use millstream_worker::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tools::png::PngHeader;

/// Files taken apart at the same time. Each holds its text (24 MiB at most) and one slice of word boxes.
const EXTRACTIONS_MAX: usize = 4;
/// Documents whose whole text is in memory to be cut or merged: some 100 MB each for the largest.
const WHOLE_TEXTS_MAX: usize = 1;
/// Memory for decoded images, in MiB: one of the largest, or dozens of usual ones.
const DECODING_MIB_MAX: u32 = 240;
/// A slot that waits this long is better given to another job.
const PATIENCE: Duration = Duration::from_secs(20);
/// When to ask again.
const COME_BACK: Duration = Duration::from_secs(1);

const MIB: u64 = 1024 * 1024;

/// The gates of one process.
pub(super) struct Gates {
    extractions: Arc<Semaphore>,
    images: Arc<Semaphore>,
    whole_texts: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
}

impl Gates {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let gate = |permits| Arc::new(Semaphore::new(permits));
        Self {
            extractions: gate(EXTRACTIONS_MAX),
            // OCR is a process of one thread: more of them than cores only make each other late.
            images: gate(cores),
            whole_texts: gate(WHOLE_TEXTS_MAX),
            decoding: gate(DECODING_MIB_MAX as usize),
        }
    }

    /// To take a file apart.
    pub(super) async fn extraction(&self) -> Result<OwnedSemaphorePermit, Failure> {
        pass(&self.extractions, 1).await
    }

    /// To work on one image.
    pub(super) async fn image(&self) -> Result<OwnedSemaphorePermit, Failure> {
        pass(&self.images, 1).await
    }

    /// To hold the whole text of a document.
    pub(super) async fn whole_text(&self) -> Result<OwnedSemaphorePermit, Failure> {
        pass(&self.whole_texts, 1).await
    }

    /// To decode this image. Give the permit to whoever holds the pixels.
    pub(super) async fn decoding(
        &self,
        header: &PngHeader,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        pass(&self.decoding, mib_to_decode(header)).await
    }
}

/// What the pixels take; an image beyond the whole budget has it alone (the decoder has a limit of its own).
fn mib_to_decode(header: &PngHeader) -> u32 {
    let mib = header.decoded_bytes().div_ceil(MIB).max(1);
    u32::try_from(mib)
        .unwrap_or(DECODING_MIB_MAX)
        .min(DECODING_MIB_MAX)
}

async fn pass(gate: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, Failure> {
    match tokio::time::timeout(PATIENCE, gate.clone().acquire_many_owned(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        // The gate is never closed, so this is the end of patience.
        Ok(Err(_)) | Err(_) => Err(Failure::Snooze(COME_BACK)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn header(width: u32, height: u32) -> PngHeader {
        PngHeader {
            width,
            height,
            bytes: 1,
            bytes_per_pixel: 3,
        }
    }

    // P2
    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_goes_back_to_the_line_at_no_cost() {
        let gates = Gates::new();
        let held = gates.whole_text().await.unwrap();
        assert_eq!(
            gates.whole_text().await.map(drop),
            Err(Failure::Snooze(COME_BACK))
        );
        drop(held);
        assert!(gates.whole_text().await.is_ok());
    }

    // P2
    #[test]
    fn the_largest_image_fits_into_the_budget_and_a_small_one_costs_little() {
        assert_eq!(mib_to_decode(&header(10, 10)), 1);
        assert_eq!(mib_to_decode(&header(8_000, 5_000)), 115);
        assert_eq!(mib_to_decode(&header(u32::MAX, u32::MAX)), DECODING_MIB_MAX);
    }
}
