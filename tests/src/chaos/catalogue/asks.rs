//! Work that a case asks for itself, with a journal of its own, so that the judge knows it.

use anyhow::Result;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::chaos::{
    fleet::Fleet,
    journal::{Event, Journal, Token, now},
};

/// Above all tokens of producers.
const TOKENS: u64 = 100_000_000_000_000_000;
/// Room between two cases that begin in one microsecond of each other.
const TOKENS_OF_A_MICROSECOND: u64 = 100;

/// Asks, and says so.
pub(super) struct Asks {
    pub(super) journal: Journal,
    next: Token,
}

impl Asks {
    pub(super) fn open(fleet: &Fleet) -> Result<Self> {
        let next = TOKENS + now() * TOKENS_OF_A_MICROSECOND;
        let journal = Journal::open(
            &fleet
                .dir()
                .join("journals")
                .join(format!("case-{next}.1.journal")),
        )?;
        Ok(Self { journal, next })
    }

    /// A token of a job that is about to be asked for.
    pub(super) fn token(&mut self) -> Token {
        self.next += 1;
        self.journal.write(Event::Intent(self.next));
        self.next
    }

    /// The same, of a job that may end dead.
    pub(super) fn doomed(&mut self) -> Token {
        let token = self.token();
        self.journal.write(Event::Doomed(token));
        token
    }

    /// Enqueues through the SQL door; `more` are further fields of the payload.
    pub(super) async fn job(
        &mut self,
        conn: &mut PgConnection,
        kind: &str,
        more: &str,
        options: Options<'_>,
    ) -> Result<Uuid> {
        let token = if options.may_die {
            self.doomed()
        } else {
            self.token()
        };
        let sql = "SELECT millstream.enqueue($1, $2::jsonb, queue => $3, max_attempts => $4)";
        let payload = format!(r#"{{"token":{token}{more}}}"#);
        let asked = sqlx::query_scalar(sql)
            .bind(kind)
            .bind(payload)
            .bind(options.queue)
            .bind(options.max_attempts);
        let id = asked.fetch_one(conn).await?;
        self.journal.write(Event::Ok(token, Some(id)));
        Ok(id)
    }
}

/// Beside kind and payload.
pub(super) struct Options<'a> {
    pub(super) queue: &'a str,
    pub(super) max_attempts: i32,
    pub(super) may_die: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            queue: "default",
            max_attempts: 10,
            may_die: false,
        }
    }
}
