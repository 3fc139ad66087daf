//! Names and their small numbers: queues, kinds, tenants.
//!
//! A process keeps what it has seen; numbers never change, so a hit needs no check. A miss reads the tables again, but at
//! most once per [`MISS_INTERVAL`], so that callers who mistype names in a loop cost next to nothing.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use sqlx::query_as;

use crate::{
    error::{Error, Outage, Refusal},
    job::{NewJob, check_max_attempts},
    limits::bounded,
    pg::Pg,
};

/// A name in a refusal; real ones are shorter.
const NAME_SHOWN_BYTES_MAX: usize = 80;
/// How often unknown names may cause a read.
const MISS_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Names {
    by_name: HashMap<String, i32>,
    by_id: HashMap<i32, Arc<str>>,
}

impl Names {
    fn add(&mut self, id: i32, name: String) {
        self.by_id.insert(id, name.as_str().into());
        self.by_name.insert(name, id);
    }
}

#[derive(Default)]
struct Tables {
    queues: Names,
    kinds: Names,
    tenants: Names,
}

/// The names of one installation. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    pg: Pg,
    tables: Arc<RwLock<Tables>>,
    last_read: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// The numbers of the names in one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobNames {
    /// Number of the queue.
    pub queue: i32,
    /// Number of the kind.
    pub kind: i32,
    /// Number of the tenant.
    pub tenant: i32,
}

impl Catalog {
    /// An empty catalog that reads on first use.
    pub fn new(pg: Pg) -> Self {
        Self {
            pg,
            tables: Arc::default(),
            last_read: Arc::default(),
        }
    }

    /// The numbers of a queue, a kind and a tenant; refuses unknown ones.
    pub async fn resolve(&self, job: &NewJob) -> Result<JobNames, Error> {
        if let Some(names) = self.known(job) {
            return Ok(names);
        }
        self.refresh_after_miss().await?;
        Ok(self.known(job).ok_or_else(|| self.explain_miss(job))?)
    }

    /// The same for many: however many names are unknown, the tables are read once.
    pub async fn resolve_each(
        &self,
        jobs: impl Iterator<Item = &NewJob> + Clone,
    ) -> Result<Vec<Result<JobNames, Refusal>>, Outage> {
        if jobs.clone().any(|job| self.known(job).is_none()) {
            self.refresh_after_miss().await?;
        }
        Ok(jobs
            .map(|job| self.known(job).ok_or_else(|| self.explain_miss(job)))
            .collect())
    }

    /// The number of a tenant; refuses unknown ones.
    pub async fn tenant(&self, name: &str) -> Result<i32, Error> {
        let find = || self.read(|t| t.tenants.by_name.get(name).copied());
        if let Some(id) = find() {
            return Ok(id);
        }
        self.refresh_after_miss().await?;
        find().ok_or_else(|| unknown("tenant", name).into())
    }

    /// The number of a queue; refuses unknown ones.
    pub async fn queue(&self, name: &str) -> Result<i32, Error> {
        let find = || self.read(|t| t.queues.by_name.get(name).copied());
        if let Some(id) = find() {
            return Ok(id);
        }
        self.refresh_after_miss().await?;
        find().ok_or_else(|| unknown("queue", name).into())
    }

    /// The name of a queue number, if it has been read.
    pub fn queue_name(&self, id: i32) -> Option<Arc<str>> {
        self.read(|t| t.queues.by_id.get(&id).cloned())
    }

    /// The name of a kind number, if it has been read.
    pub fn kind_name(&self, id: i32) -> Option<Arc<str>> {
        self.read(|t| t.kinds.by_id.get(&id).cloned())
    }

    /// The number of a kind name, if it has been read.
    pub fn kind_id(&self, name: &str) -> Option<i32> {
        self.read(|t| t.kinds.by_name.get(name).copied())
    }

    /// All queues read so far, as (number, name), in the order of their numbers.
    pub fn queues(&self) -> Vec<(i32, Arc<str>)> {
        let mut all: Vec<_> = self.read(|t| {
            t.queues
                .by_id
                .iter()
                .map(|(id, name)| (*id, name.clone()))
                .collect()
        });
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Makes kinds known that a producer has typed payloads for, each with a default number of attempts. A kind that is known stays as it
    /// is: its handlers decide. Refuses what the table could not hold.
    pub async fn announce_kinds(&self, kinds: &[(&str, i16)]) -> Result<(), Error> {
        let insert = "INSERT INTO millstream.kind (name, max_attempts) SELECT * FROM unnest($1::text[], $2::smallint[]) ON CONFLICT (name) DO NOTHING";
        self.write_kinds(insert, kinds).await
    }

    /// Makes kinds known that a worker has handlers for, each with its number of attempts, which jobs enqueued from now on get unless a
    /// person has set another. Refuses what the table could not hold.
    pub async fn register_kinds(&self, kinds: &[(&str, i16)]) -> Result<(), Error> {
        self.write_kinds("SELECT millstream.register_kinds($1, $2)", kinds)
            .await
    }

    async fn write_kinds(&self, sql: &'static str, kinds: &[(&str, i16)]) -> Result<(), Error> {
        let (names, tries) = checked(kinds)?;
        let register = sqlx::query(sql).bind(names).bind(tries);
        self.pg
            .repeat("registering kinds")
            .execute(register)
            .await?;
        Ok(self.refresh().await?)
    }

    /// Reads all names again.
    pub async fn refresh(&self) -> Result<(), Outage> {
        let rows = self.pg.repeat("reading names").all(query_as(NAMES)).await?;
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables_of(rows);
        Ok(())
    }

    /// Reads again, at most once per [`MISS_INTERVAL`]. Callers that miss together share one read, which began after they asked: a
    /// name that was added before that is never refused.
    async fn refresh_after_miss(&self) -> Result<(), Outage> {
        let asked = Instant::now();
        let mut last = self.last_read.lock().await;
        if last.is_some_and(|began| began >= asked) {
            return Ok(());
        }
        if let Some(began) = *last {
            tokio::time::sleep(MISS_INTERVAL.saturating_sub(began.elapsed())).await;
        }
        let began = Instant::now();
        self.refresh().await?;
        // Only a read that succeeded has told us anything.
        *last = Some(began);
        Ok(())
    }

    fn known(&self, job: &NewJob) -> Option<JobNames> {
        self.read(|t| {
            Some(JobNames {
                queue: *t.queues.by_name.get(&job.queue)?,
                kind: *t.kinds.by_name.get(&job.kind)?,
                tenant: *t.tenants.by_name.get(&job.tenant)?,
            })
        })
    }

    fn explain_miss(&self, job: &NewJob) -> Refusal {
        self.read(|t| {
            if !t.queues.by_name.contains_key(&job.queue) {
                unknown("queue", &job.queue)
            } else if t.kinds.by_name.contains_key(&job.kind) {
                unknown("tenant", &job.tenant)
            } else {
                unknown("kind", &job.kind)
            }
        })
    }

    fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        f(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Kinds as two columns.
fn checked<'a>(kinds: &[(&'a str, i16)]) -> Result<(Vec<&'a str>, Vec<i16>), Refusal> {
    for (name, max_attempts) in kinds {
        check_name("kind", name)?;
        check_max_attempts(i64::from(*max_attempts))
            .map_err(|refusal| Refusal::Invalid(format!("kind \"{name}\": {refusal}")))?;
    }
    Ok(kinds.iter().copied().unzip())
}

/// Refuses names outside the one charset that keys, labels and logs can carry. `what` is `queue`, `kind` or `tenant`.
pub fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    if is_name(name) {
        return Ok(());
    }
    let shown = bounded(name, NAME_SHOWN_BYTES_MAX);
    Err(Refusal::Invalid(format!(
        "\"{shown}\" is no name for a {what}: use 1 to 64 of a-z 0-9 _ . -"
    )))
}

/// Whether a queue, kind or tenant could have this name.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
}

fn unknown(what: &'static str, name: &str) -> Refusal {
    let hint = match what {
        "queue" => "add it with \"millstream queues add NAME\"",
        "tenant" => "add it with \"millstream tenants add NAME\"",
        _ => {
            "a kind is known once a worker has registered it; announce one earlier with \"millstream kinds add NAME\""
        }
    };
    Refusal::Unknown {
        what,
        name: bounded(name, NAME_SHOWN_BYTES_MAX),
        hint,
    }
}

const NAMES: &str = "SELECT 'q', id, name::text FROM millstream.queue UNION ALL SELECT 'k', id, name::text FROM millstream.kind
   UNION ALL SELECT 't', id, name::text FROM millstream.tenant";

fn tables_of(rows: Vec<(String, i32, String)>) -> Tables {
    let mut tables = Tables::default();
    for (which, id, name) in rows {
        let names = match which.as_str() {
            "q" => &mut tables.queues,
            "k" => &mut tables.kinds,
            _ => &mut tables.tenants,
        };
        names.add(id, name);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_charset() {
        // S09
        for good in ["a", "document.extract", "x_1-2"] {
            assert!(check_name("queue", good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "a\r\nb", "a\0", "{a}", "ü", &"x".repeat(65)] {
            assert!(check_name("queue", bad).is_err(), "{bad:?}");
        }
    }
}
