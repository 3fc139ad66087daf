//! Queues, kinds and tenants have in common that they are named, added and paused.
//!
//! A pause is a flag that everybody asks for who hands out, takes or starts jobs (`millstream.closed`); what runs already goes on. The audit row is written by the same statement as the
//! change, so one cannot exist without the other.

use millstream_common::{
    catalog::{self, is_name},
    limits::bounded,
    pg::Pg,
};

use super::{Error, Refusal, row};

/// The addition and its audit row. Answers with the number of rows added.
macro_rules! added {
    ($table:literal) => {
        concat!(
            "WITH added AS (INSERT INTO millstream.",
            $table,
            " (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING name::text),
              audited AS (INSERT INTO millstream.audit (actor, action, detail)
                SELECT $2, 'add', jsonb_build_object('",
            $table,
            "', name) FROM added)
             SELECT count(*) FROM added"
        )
    };
}

/// The flag and its audit row. Answers whether the name exists, and whether the flag changed.
macro_rules! paused {
    ($table:literal) => {
        concat!(
            "WITH changed AS (UPDATE millstream.",
            $table,
            " SET paused = $2 WHERE name = $1 AND paused <> $2 RETURNING name::text),
              audited AS (INSERT INTO millstream.audit (actor, action, detail)
                SELECT $3, CASE WHEN $2 THEN 'pause' ELSE 'resume' END, jsonb_build_object('",
            $table,
            "', name) FROM changed)
             SELECT EXISTS (SELECT 1 FROM millstream.",
            $table,
            " WHERE name = $1), EXISTS (SELECT 1 FROM changed)"
        )
    };
}

/// Leases are few, so each job is looked up by its key.
macro_rules! leased {
    ($table:literal) => {
        concat!(
            "SELECT count(*) FROM millstream.lease l JOIN millstream.job j ON j.id = l.job_id WHERE j.",
            $table,
            "_id = (SELECT id FROM millstream.",
            $table,
            " WHERE name = $1)"
        )
    };
}

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// A queue.
    Queue,
    /// A kind of job.
    Kind,
    /// A tenant.
    Tenant,
}

impl Thing {
    /// In texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Tenant => "tenant",
        }
    }

    fn list_hint(self) -> &'static str {
        match self {
            Self::Queue => "\"millstream queues list\" shows those that exist",
            Self::Kind => "\"millstream kinds list\" shows those that exist",
            Self::Tenant => "\"millstream tenants list\" shows those that exist",
        }
    }
}

/// The number of a name; refuses unknown ones.
pub async fn id_of(pg: &Pg, thing: Thing, name: &str) -> Result<i32, Error> {
    let sql = match thing {
        Thing::Queue => "SELECT id FROM millstream.queue WHERE name = $1",
        Thing::Kind => "SELECT id FROM millstream.kind WHERE name = $1",
        Thing::Tenant => "SELECT id FROM millstream.tenant WHERE name = $1",
    };
    let found: Option<(i32,)> = if is_name(name) {
        row(pg, "looking up a name", sqlx::query_as(sql).bind(name)).await?
    } else {
        None
    };
    found.map(|(id,)| id).ok_or_else(|| {
        Refusal::Unknown {
            what: thing.name(),
            name: bounded(name, 80),
            hint: thing.list_hint(),
        }
        .into()
    })
}

/// Makes a name known. Returns whether it is new.
pub async fn add(pg: &Pg, thing: Thing, name: &str, actor: &str) -> Result<bool, Error> {
    check_name(thing, name)?;
    let sql = match thing {
        Thing::Queue => added!("queue"),
        Thing::Kind => added!("kind"),
        Thing::Tenant => added!("tenant"),
    };
    let added: Option<(i64,)> = row(
        pg,
        "adding a name",
        sqlx::query_as(sql).bind(name).bind(actor),
    )
    .await?;
    Ok(added.is_some_and(|(n,)| n > 0))
}

/// Pauses or resumes. Returns whether that changed anything; refuses unknown names.
pub async fn set_paused(
    pg: &Pg,
    thing: Thing,
    name: &str,
    paused: bool,
    actor: &str,
) -> Result<bool, Error> {
    let sql = match thing {
        Thing::Queue => paused!("queue"),
        Thing::Kind => paused!("kind"),
        Thing::Tenant => paused!("tenant"),
    };
    if !is_name(name) {
        return Err(not_found(thing, name).into());
    }
    let answer: Option<(bool, bool)> = row(
        pg,
        "pausing or resuming",
        sqlx::query_as(sql).bind(name).bind(paused).bind(actor),
    )
    .await?;
    match answer {
        Some((true, changed)) => Ok(changed),
        _ => Err(not_found(thing, name).into()),
    }
}

/// Jobs that workers have under a lease now: what runs after a pause, once those that only waited for a slot have gone back.
pub async fn leased(pg: &Pg, thing: Thing, name: &str) -> Result<i64, Error> {
    let sql = match thing {
        Thing::Queue => leased!("queue"),
        Thing::Kind => leased!("kind"),
        Thing::Tenant => leased!("tenant"),
    };
    let counted: Option<(i64,)> =
        row(pg, "counting what runs", sqlx::query_as(sql).bind(name)).await?;
    Ok(counted.map_or(0, |(jobs,)| jobs))
}

/// The refusal for something that is acted upon and does not exist.
pub fn not_found(thing: Thing, name: &str) -> Refusal {
    Refusal::NotFound(format!(
        "{} \"{}\"; {}",
        thing.name(),
        bounded(name, 80),
        thing.list_hint()
    ))
}

/// Refuses names outside the one charset that keys, labels and logs can carry.
pub fn check_name(thing: Thing, name: &str) -> Result<(), Refusal> {
    catalog::check_name(thing.name(), name)
}
