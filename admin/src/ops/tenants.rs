//! Tenants: on whose account jobs run.

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::FromRow;

use super::{Outage, rows};

/// One tenant.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Whether it is paused: its waiting jobs are not handed out, running ones go on.
    pub paused: bool,
    /// Available jobs by the parcels that list them; an upper bound, as for queues.
    pub backlog: i64,
    /// Days for which its finished jobs are kept; none: as configured for all.
    pub keep_days: Option<i32>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

/// All tenants, in the order of their names.
pub async fn list(pg: &Pg) -> Result<Vec<Tenant>, Outage> {
    let query = sqlx::query_as(
        "SELECT t.name::text AS name, t.paused, COALESCE(p.backlog, 0) AS backlog, t.keep_days, t.created_at
         FROM millstream.tenant t
         LEFT JOIN (
           SELECT tenant_id, sum(GREATEST(jobs - GREATEST(done, CASE WHEN publishing_since IS NULL THEN taken ELSE 0 END), 0))::bigint AS backlog
           FROM millstream.parcel GROUP BY tenant_id
         ) p ON p.tenant_id = t.id
         ORDER BY t.name",
    );
    rows(pg, "listing tenants", query).await
}
