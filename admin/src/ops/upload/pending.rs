//! Uploads under way: a row of each before its first byte is stored, so that what an interrupted one leaves behind is known.
//!
//! The row goes in the transaction that makes the document. A row that nobody has touched for an hour belongs to a process that was
//! killed, or could not reach Postgres in the end: it is marked first, so that a late uploader is refused, then its object is removed,
//! and then the row. So only objects of this database are ever removed, however many databases share a store. Folders of the same path
//! on two machines are two stores: the row is left to a process that has the folder.

use std::{future::Future, time::Duration};

use millstream_common::{
    error::{Outage, in_full},
    pg::Pg,
};
use millstream_outbound::objects::Objects;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often an upload says that it goes on: several times within the hour after which it is given up.
const TOUCH_EVERY: Duration = Duration::from_mins(10);
/// How often each process looks for uploads that were given up.
const SWEEP_EVERY: Duration = Duration::from_mins(5);
/// Uploads in one look: each is a request to the store.
const SWEPT_MAX: i64 = 100;

/// Writes down that an object is about to be stored.
pub(super) async fn begin(
    pg: &Pg,
    objects: &Objects,
    id: Uuid,
    folder: &str,
) -> Result<(), Outage> {
    let insert = sqlx::query("INSERT INTO millstream.upload (id, store, folder) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
        .bind(id).bind(objects.place()).bind(folder);
    pg.repeat("beginning an upload").execute(insert).await?;
    Ok(())
}

/// Does the work of an upload, and says meanwhile that it goes on.
pub(super) async fn while_touching<T>(pg: &Pg, id: Uuid, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut turns = tokio::time::interval(TOUCH_EVERY);
    turns.tick().await;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = turns.tick() => {
                let update = sqlx::query("UPDATE millstream.upload SET seen_at = now() WHERE id = $1 AND NOT abandoned").bind(id);
                if let Err(outage) = pg.main("touching an upload").execute(update).await {
                    tracing::debug!(error = in_full(&outage), "an upload could not say that it goes on; it says so again");
                }
            }
        }
    }
}

/// Removes what a failed upload left, as far as possible; the sweep does the rest.
pub(super) async fn discard(pg: &Pg, objects: &Objects, id: Uuid, folder: &str) {
    if let Err(error) = objects.discard(folder).await {
        tracing::debug!(%error, "what a failed upload left could not be removed; it is swept after an hour");
        return;
    }
    let delete = sqlx::query("DELETE FROM millstream.upload WHERE id = $1").bind(id);
    if let Err(outage) = pg.main("ending an upload").execute(delete).await {
        tracing::debug!(
            error = in_full(&outage),
            "the row of a failed upload stays; it is swept after an hour"
        );
    }
}

/// Looks for uploads that were given up, now and again until `stop`. Any number of processes may do so at once.
pub async fn keep_swept(pg: Pg, objects: Objects, stop: CancellationToken) {
    let mut turns = tokio::time::interval(SWEEP_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        match sweep(&pg, &objects).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(
                swept,
                "what interrupted uploads left in the object store was removed"
            ),
            Err(outage) => tracing::debug!(
                error = in_full(&outage),
                "interrupted uploads could not be looked for; it is tried again"
            ),
        }
    }
}

/// Removes what uploads left that nobody has touched for an hour; how many.
pub async fn sweep(pg: &Pg, objects: &Objects) -> Result<usize, Outage> {
    // Marked and dated now: another process passes it over, and a removal that fails comes up again after an hour.
    let query = sqlx::query_as(
        "UPDATE millstream.upload SET abandoned = true, seen_at = now() WHERE id IN (
           SELECT id FROM millstream.upload WHERE store = $1 AND seen_at < now() - interval '1 hour' ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id, folder",
    )
    .bind(objects.place())
    .bind(SWEPT_MAX);
    let given_up: Vec<(Uuid, String)> = pg
        .main("looking for interrupted uploads")
        .all(query)
        .await?;
    for (id, folder) in &given_up {
        discard(pg, objects, *id, folder).await;
    }
    Ok(given_up.len())
}
