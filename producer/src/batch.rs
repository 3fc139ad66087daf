//! The doors for batches: open, enqueue jobs with [`NewJob::batch_id`](crate::NewJob::batch_id), seal (F40).

use millstream_common::{
    batch::{self, BatchState, NewBatch},
    error::{Error, Refusal},
    id::BatchId,
};

use crate::Producer;

impl Producer {
    /// Opens a batch. Safe to repeat with the same `NewBatch`.
    ///
    /// ```no_run
    /// # async fn example(producer: millstream_producer::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_producer::{NewBatch, NewJob, Next};
    ///
    /// let batch = producer
    ///     .open_batch(&NewBatch { next: Some(Next::new("report")), ..NewBatch::default() })
    ///     .await?;
    /// let jobs = (1..=3).map(|page| NewJob {
    ///     batch_id: Some(batch),
    ///     ..NewJob::new("echo", page.to_string())
    /// });
    /// producer.enqueue_many(jobs.collect()).await?;
    /// producer.seal_batch(batch).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_batch(&self, batch: &NewBatch) -> Result<BatchId, Error> {
        batch::open(&self.parts.pg, batch).await
    }

    /// Seals a batch: from here on only its own jobs can add to it, so it can end. Says where it stands then; a batch without open jobs
    /// has ended. Safe to repeat.
    pub async fn seal_batch(&self, id: BatchId) -> Result<BatchState, Error> {
        let sealed = batch::seal(&self.parts.pg, id, false).await?;
        sealed.ok_or_else(|| Refusal::NotFound(format!("there is no batch {id}")).into())
    }
}
