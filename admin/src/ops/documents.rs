//! Documents and their five stages, as counters that only rise.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millstream_common::pg::Pg;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{
    Outage, PAGE_ROWS_MAX,
    report::{Report, report},
    rows,
};

/// Cut, not rounded: 100 is said of completed documents only.
macro_rules! columns {
    () => {
        "SELECT d.id, d.name, d.state, trunc(d.progress::numeric, 2)::float8 AS progress, t.name::text AS tenant, d.bytes, d.sha256,
                d.pages, d.title, d.error, d.created_at, d.finished_at
         FROM millstream.document d JOIN millstream.tenant t ON t.id = d.tenant_id"
    };
}

/// One document.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Document {
    /// Made when it was added.
    pub id: Uuid,
    /// File name.
    pub name: String,
    /// `running`, `completed` or `failed`.
    pub state: String,
    /// Per cent of the whole way; never falls.
    pub progress: f64,
    /// Name of the tenant.
    pub tenant: String,
    /// Size of the file.
    pub bytes: i64,
    /// Hash of the file, in hexadecimal.
    pub sha256: String,
    /// Once known.
    pub pages: Option<i32>,
    /// Once known, if it has one.
    pub title: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it completed or failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// In the order of the way.
    #[sqlx(skip)]
    pub stages: Vec<Stage>,
    /// What it has yielded; only where one document is asked for.
    #[sqlx(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl Document {
    /// Nothing more will happen to it.
    pub fn is_final(&self) -> bool {
        self.state != "running"
    }

    /// The stage that is at work, or the last one that was.
    pub fn current_stage(&self) -> Option<&Stage> {
        self.stages
            .iter()
            .find(|s| s.state != "completed")
            .or(self.stages.last())
    }
}

/// One stage of a document.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Stage {
    /// Which document; not shown inside it.
    #[serde(skip)]
    pub document_id: Uuid,
    /// `extraction`, `images`, `chunking`, `analysis` or `products`.
    pub stage: String,
    /// `pending`, `running`, `completed` or `failed`.
    pub state: String,
    /// Per cent of this stage.
    pub progress: f64,
    /// Pages, images, chunks…
    pub total_items: i32,
    /// Done with success.
    pub completed_items: i32,
    /// Done without.
    pub failed_items: i32,
    /// What is being worked on.
    pub current_item: Option<String>,
    /// When its first job was enqueued.
    pub started_at: Option<DateTime<Utc>>,
    /// When its last job ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a finished document has yielded.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Summary {
    /// Which document.
    pub id: Uuid,
    /// File name.
    pub name: String,
    /// `running`, `completed` or `failed`.
    pub state: String,
    /// Per cent.
    pub progress: f64,
    /// Pages, once known.
    pub pages: Option<i32>,
    /// Images found.
    pub images: i64,
    /// Chunks made.
    pub chunks: i64,
    /// Products detected.
    pub products: i64,
    /// Remarks in its report: what was left out or has failed.
    pub notes: i64,
    /// From adding to the end, or to now.
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

/// A page and the way to the next one.
#[derive(Debug, Serialize)]
pub struct DocumentPage {
    /// Newest first.
    pub items: Vec<Document>,
    /// Give this as the cursor; absent on the last page.
    pub next: Option<Uuid>,
}

/// The documents with these ids that exist, in the order of their ids.
pub async fn show(pg: &Pg, ids: &[Uuid]) -> Result<Vec<Document>, Outage> {
    let query =
        sqlx::query_as(concat!(columns!(), " WHERE d.id = ANY($1) ORDER BY d.id")).bind(ids);
    with_stages(pg, rows(pg, "reading documents", query).await?).await
}

/// One document with its report from page `from` on, if it exists.
pub async fn one(pg: &Pg, id: Uuid, from: i32) -> Result<Option<Document>, Outage> {
    let Some(mut document) = show(pg, &[id]).await?.pop() else {
        return Ok(None);
    };
    document.report = Some(report(pg, id, from).await?);
    Ok(Some(document))
}

/// One page of documents, newest first; ids are `UUIDv7`, so their order is that of time.
pub async fn list(
    pg: &Pg,
    state: Option<&str>,
    limit: u32,
    cursor: Option<Uuid>,
) -> Result<DocumentPage, Outage> {
    let limit = limit.clamp(1, PAGE_ROWS_MAX);
    let sql = concat!(
        columns!(),
        " WHERE ($1::uuid IS NULL OR d.id < $1) AND ($2::text IS NULL OR d.state = $2) ORDER BY d.id DESC LIMIT $3"
    );
    let query = sqlx::query_as(sql)
        .bind(cursor)
        .bind(state)
        .bind(i64::from(limit) + 1);
    let mut items: Vec<Document> = rows(pg, "listing documents", query).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().map(|d| d.id).filter(|_| more);
    Ok(DocumentPage {
        items: with_stages(pg, items).await?,
        next,
    })
}

/// What documents have yielded, in the order of their ids.
pub async fn summaries(pg: &Pg, ids: &[Uuid]) -> Result<Vec<Summary>, Outage> {
    let query = sqlx::query_as(
        "SELECT d.id, d.name, d.state, trunc(d.progress::numeric, 2)::float8 AS progress, d.pages,
                (SELECT count(*) FROM millstream.image i WHERE i.document_id = d.id AND i.role <> 'page') AS images,
                (SELECT count(*) FROM millstream.chunk c WHERE c.document_id = d.id) AS chunks,
                (SELECT count(*) FROM millstream.product p WHERE p.document_id = d.id) AS products,
                (SELECT count(*) FROM millstream.document_note n WHERE n.document_id = d.id) AS notes,
                extract(epoch FROM COALESCE(d.finished_at, now()) - d.created_at)::float8 AS seconds, d.error
         FROM millstream.document d WHERE d.id = ANY($1) ORDER BY d.id",
    );
    rows(pg, "reading what documents have yielded", query.bind(ids)).await
}

async fn with_stages(pg: &Pg, mut documents: Vec<Document>) -> Result<Vec<Document>, Outage> {
    let ids: Vec<Uuid> = documents.iter().map(|d| d.id).collect();
    let query = sqlx::query_as::<_, Stage>(
        "SELECT document_id, name AS stage, state,
                CASE WHEN state = 'completed' THEN 100
                     ELSE trunc(100.0 * (completed_items + failed_items) / GREATEST(total_items, 1), 2) END::float8 AS progress,
                total_items, completed_items, failed_items, current_item, started_at, finished_at
         FROM millstream.stage WHERE document_id = ANY($1) ORDER BY document_id, ordinal",
    );
    let mut stages: HashMap<Uuid, Vec<Stage>> = HashMap::new();
    for stage in rows(pg, "reading stages", query.bind(&ids)).await? {
        stages.entry(stage.document_id).or_default().push(stage);
    }
    for document in &mut documents {
        document.stages = stages.remove(&document.id).unwrap_or_default();
    }
    Ok(documents)
}
