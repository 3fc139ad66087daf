//! What Redis throws away when its memory is full. Anything but `noeviction` throws away whole streams.
//!
//! Asked by INFO, because a careful ACL denies CONFIG. A server that does not tell is unknown, which is no reason to stop.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{link::Redis, remedy::Remedy};
use crate::{error::Outage, limits::REDIS_DEADLINE};

/// The only policy under which hints last.
const KEEPS: &str = "noeviction";

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The server was not asked yet, or does not tell.
    #[default]
    Unknown,
    /// It refuses what does not fit.
    Keeps,
    /// It throws keys away: hints may be lost, and jobs then start late.
    Evicts,
}

/// The last thing known, shared by all handles of a process.
#[derive(Default)]
pub(super) struct Known(AtomicU8);

impl Known {
    fn get(&self) -> Policy {
        match self.0.load(Ordering::Relaxed) {
            1 => Policy::Keeps,
            2 => Policy::Evicts,
            _ => Policy::Unknown,
        }
    }

    /// Returns whether that is news.
    fn set(&self, policy: Policy) -> bool {
        self.0.swap(policy as u8, Ordering::Relaxed) != policy as u8
    }
}

impl Redis {
    /// What the server tells about itself; none if this user may not ask, which is no reason to do without it.
    pub async fn info(&self, section: &str) -> Result<Option<String>, Outage> {
        let op = "asking Redis about itself";
        let mut conn = self.connection(op).await?;
        let outage = match tokio::time::timeout(
            REDIS_DEADLINE,
            redis::cmd("INFO").arg(section).query_async(&mut conn),
        )
        .await
        {
            Ok(Ok(told)) => return Ok(Some(told)),
            Ok(Err(source)) if Remedy::of(&source).0 == Remedy::Operator => return Ok(None),
            Ok(Err(source)) => Outage::Redis { op, source },
            Err(_) => Outage::RedisTimeout { op },
        };
        self.note(&outage);
        Err(outage)
    }

    /// As last looked at.
    pub fn policy(&self) -> Policy {
        self.known_policy().get()
    }

    /// Asks the server, and says so in the log when the answer is another one than before.
    pub async fn look_at_policy(&self) -> Result<Policy, Outage> {
        let info = self.info("memory").await?.unwrap_or_default();
        let told = info
            .lines()
            .find_map(|line| line.trim().strip_prefix("maxmemory_policy:"));
        let policy = match told {
            Some(KEEPS) => Policy::Keeps,
            Some("") | None => Policy::Unknown,
            Some(_) => Policy::Evicts,
        };
        if self.known_policy().set(policy) {
            match policy {
                Policy::Keeps => tracing::info!("Redis evicts nothing"),
                Policy::Evicts => tracing::warn!(
                    policy = told,
                    "Redis throws hints away when it is full: set maxmemory-policy noeviction"
                ),
                Policy::Unknown => tracing::warn!(
                    "Redis does not tell its maxmemory-policy (the right to INFO is missing): see to it that it is noeviction"
                ),
            }
        }
        Ok(policy)
    }
}
