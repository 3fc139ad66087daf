//! What parent and child say to each other: JSON in frames, each with its length before it.

use std::{
    io::{Error, ErrorKind, Result},
    time::Duration,
};

use chrono::{DateTime, Utc};
use millstream_common::{
    id::{BatchId, JobId},
    limits::PAYLOAD_BYTES_MAX,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::Outcome;

/// The largest payload or result as a JSON string, where quotes take two bytes, and as much again for the rest.
const FRAME_BYTES_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

/// From the worker.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// The first frame.
    Begin(Terms),
    Run(Box<Job>),
    /// The announced effect may be settled now.
    Go,
    /// The worker lives.
    Beat,
}

/// How a child is to live.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) parent: u32,
    pub(super) worker_id: i64,
    pub(super) lease: Duration,
    /// 0: no limit.
    pub(super) memory_bytes_max: u64,
}

/// A job as a handler sees it.
#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) epoch: i32,
    pub(super) kind: String,
    pub(super) attempt: i16,
    pub(super) max_attempts: i16,
    pub(super) tenant_id: i32,
    pub(super) batch_id: Option<BatchId>,
    pub(super) payload: String,
    /// Of the worker's handler: that of the child may have been made with newer settings.
    pub(super) timeout: Duration,
    pub(super) trace: Option<String>,
    pub(super) started_at: DateTime<Utc>,
}

/// From the child.
#[derive(Serialize, Deserialize)]
pub(super) enum Word {
    /// It can run jobs.
    Ready,
    Progress(f32, String),
    Line(DateTime<Utc>, String),
    /// It cannot run this kind.
    NoHandler,
    /// The run has ended, and its outcome is for the parent to write.
    Ended(Outcome),
    /// The run has ended well and has an effect.
    HasEffect,
    /// Postgres could not be reached for the completion with its effect: it is tried again.
    Waits,
    /// The completion with the effect was accepted, or matched nothing.
    Settled(bool),
}

/// Writes one frame.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(frame)?;
    if text.len() > FRAME_BYTES_MAX {
        return Err(too_large());
    }
    let length = u32::try_from(text.len()).map_err(|_| too_large())?;
    to.write_all(&[&length.to_be_bytes()[..], &text].concat())
        .await
}

/// Reads one frame. Not to be dropped half way: what it has read would be missing.
pub(super) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    let length = from.read_u32().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(too_large());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

fn too_large() -> Error {
    Error::new(ErrorKind::InvalidData, "a frame is too large")
}
