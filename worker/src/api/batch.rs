//! Jobs that add jobs to their own batch (F40).

use millstream_common::{
    catalog::JobNames,
    job::NewJob,
    limits::PARCEL_JOBS_MAX,
    persist::{Ids, persist},
};
use sqlx::PgConnection;

use super::Context;

impl Context {
    /// Adds jobs to the batch of this job, in the transaction that completes it: call it in
    /// [`Success::and_write`](crate::Success::and_write). The batch may be sealed; it cannot end before these jobs have. Their tenant is
    /// that of this job, whatever they say.
    ///
    /// ```
    /// use millstream_worker::{Context, NewJob, Outcome, Success};
    ///
    /// async fn split(context: Context, pages: u32) -> Outcome {
    ///     Ok(Success::new().and_write(Box::new(move |transaction| {
    ///         Box::pin(async move {
    ///             let jobs = (1..=pages).map(|page| NewJob::new("page", page.to_string()));
    ///             context.add_to_batch(transaction, jobs.collect()).await
    ///         })
    ///     })))
    /// }
    /// ```
    pub async fn add_to_batch(
        &self,
        transaction: &mut PgConnection,
        jobs: Vec<NewJob>,
    ) -> Result<(), sqlx::Error> {
        let names = self.names(&mut *transaction, &jobs).await?;
        let named: Vec<_> = jobs
            .into_iter()
            .map(|job| NewJob {
                batch_id: self.batch_id,
                ..job
            })
            .zip(names)
            .collect();
        for slice in named.chunks(PARCEL_JOBS_MAX) {
            persist(&mut *transaction, slice, false, Ids::MayExist).await?;
        }
        Ok(())
    }

    /// The numbers of what the jobs name, or the complaint about the first name that there is not.
    async fn names(
        &self,
        conn: &mut PgConnection,
        jobs: &[NewJob],
    ) -> Result<Vec<JobNames>, sqlx::Error> {
        let refused = |what: &str| sqlx::Error::Encode(what.to_owned().into());
        if self.batch_id.is_none() {
            return Err(refused("the job has no batch"));
        }
        jobs.iter()
            .try_for_each(NewJob::check)
            .map_err(|refusal| refused(&refusal.to_string()))?;
        let query = sqlx::query_as(
            "SELECT (SELECT q.id FROM millstream.queue q WHERE q.name = u.queue), (SELECT k.id FROM millstream.kind k WHERE k.name = u.kind)
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(queue, kind, nth) ORDER BY u.nth",
        )
        .bind(jobs.iter().map(|job| job.queue.as_str()).collect::<Vec<_>>())
        .bind(jobs.iter().map(|job| job.kind.as_str()).collect::<Vec<_>>());
        let numbers: Vec<(Option<i32>, Option<i32>)> = query.fetch_all(conn).await?;
        numbers
            .into_iter()
            .zip(jobs)
            .map(|(numbers, job)| match numbers {
                (Some(queue), Some(kind)) => Ok(JobNames {
                    queue,
                    kind,
                    tenant: self.tenant_id,
                }),
                _ => Err(refused(&format!(
                    "there is no queue \"{}\" or no kind \"{}\"",
                    job.queue, job.kind
                ))),
            })
            .collect()
    }
}
