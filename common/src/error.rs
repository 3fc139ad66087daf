//! Errors by what the caller can do about them: mend the request ([`Refusal`]), or wait and repeat ([`Outage`]).

use std::borrow::Cow;

/// The request can never succeed as it is. Nothing was written.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// A value is malformed or out of range.
    #[error("{0}")]
    Invalid(String),
    /// A payload or metadata over the limit.
    #[error(
        "the {what} has {bytes} bytes, the limit is 65536: put the data into the object store and its address into the payload"
    )]
    TooLarge {
        /// Which part of the job.
        what: String,
        /// How large it is.
        bytes: usize,
    },
    /// A queue, kind or tenant that is not in the catalog.
    #[error("unknown {what} \"{name}\": {hint}")]
    Unknown {
        /// `queue`, `kind` or `tenant`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// The id or idempotency key belongs to a job with another payload.
    #[error("conflict: {0}")]
    Conflict(String),
    /// There is no such job, document or worker.
    #[error("not found: {0}")]
    NotFound(String),
    /// The object is in a state that does not allow this.
    #[error("refused: {0}")]
    State(String),
}

/// A server could not be reached or did not answer in time. Repeating with the same id is safe.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// Postgres; what was being done, and the cause.
    #[error("Postgres failed while {op}")]
    Postgres {
        /// What was being done.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Postgres did not answer within the deadline.
    #[error("Postgres did not answer in time while {op}")]
    PostgresTimeout {
        /// What was being done.
        op: &'static str,
    },
    /// Redis; what was being done, and the cause.
    #[error("Redis failed while {op}")]
    Redis {
        /// What was being done.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: redis::RedisError,
    },
    /// Redis did not answer within the deadline, or no connection could be made.
    #[error("Redis did not answer in time while {op}")]
    RedisTimeout {
        /// What was being done.
        op: &'static str,
    },
    /// The database schema is not the one this program was built for.
    #[error("{0}")]
    Schema(String),
}

impl Outage {
    /// What Postgres calls the error, if it is an answer of the server.
    pub fn code(&self) -> Option<Cow<'_, str>> {
        let Self::Postgres { source, .. } = self else {
            return None;
        };
        source.as_database_error()?.code()
    }

    /// The same news for another caller. Of a lost connection only the cause in words is kept.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Postgres { op, source } => Self::Postgres {
                op,
                source: copied(source),
            },
            Self::PostgresTimeout { op } => Self::PostgresTimeout { op },
            Self::Redis { op, source } => Self::Redis {
                op,
                source: source.clone(),
            },
            Self::RedisTimeout { op } => Self::RedisTimeout { op },
            Self::Schema(text) => Self::Schema(text.clone()),
        }
    }

    /// Whether the server itself is down, as far as can be told from here: nobody answers at its address, or it says so, or that it takes no
    /// writes. Then most likely nobody else can do his work with it either. A server that does not answer in time may only be cut off from
    /// this process.
    pub fn is_server_down(&self) -> bool {
        matches!(self, Self::Postgres { .. })
            && matches!(
                self.word(),
                "connection refused" | "shutting down" | "starting up" | "takes no writes"
            )
    }

    /// Whether it may be over at the next try: everything but an answer of Postgres that says something about the statement or its values.
    pub fn is_passing(&self) -> bool {
        let Self::Postgres {
            source: sqlx::Error::Database(error),
            ..
        } = self
        else {
            return true;
        };
        error
            .code()
            .is_some_and(|code| PASSING.iter().any(|class| code.starts_with(class)))
    }

    /// Whether Postgres is there and refuses the values that it was to write, as it will the next time: one row of a batch may be to blame.
    pub fn is_about_the_data(&self) -> bool {
        let Self::Postgres {
            source: sqlx::Error::Database(error),
            ..
        } = self
        else {
            return false;
        };
        error
            .code()
            .is_some_and(|code| OF_THE_DATA.iter().any(|class| code.starts_with(class)))
    }

    /// Whether Postgres is there and refuses what may be one row of many: all but what it would say to each of them, about the database, the
    /// schema, rights or the statement itself. A part of the rows may do better.
    pub fn may_be_of_one_row(&self) -> bool {
        let of_everybody = |code: &str| OF_EVERYBODY.iter().any(|class| code.starts_with(class));
        !self.is_passing() && self.code().is_some_and(|code| !of_everybody(&code))
    }

    /// Whether the connection that was asked over is gone: its session had ended, or ended then. What became of the statement is unknown;
    /// over another connection it may well succeed.
    pub fn is_connection_gone(&self) -> bool {
        match self {
            Self::Postgres {
                source: sqlx::Error::Io(error),
                ..
            } => {
                // These two are said of a new connection: nobody is there.
                !matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound
                )
            }
            Self::Postgres {
                source: sqlx::Error::Database(error),
                ..
            } => error
                .code()
                .is_some_and(|code| SESSION_ENDED.contains(&code.as_ref())),
            _ => false,
        }
    }

    /// The cause in one or two words of a closed set, for open probes and labels: no address and no text of a server.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Postgres {
                source: sqlx::Error::Io(error),
                ..
            } => match error.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                    "connection refused"
                }
                std::io::ErrorKind::TimedOut => "no answer in time",
                _ => "connection lost",
            },
            Self::Postgres {
                source: sqlx::Error::Database(error),
                ..
            } => postgres_word(error.code().as_deref().unwrap_or_default()),
            Self::Postgres {
                source: sqlx::Error::PoolTimedOut,
                ..
            } => "no connection in time",
            Self::Postgres { .. } => "connection lost",
            Self::PostgresTimeout { .. } | Self::RedisTimeout { .. } => "no answer in time",
            Self::Redis { source, .. } => crate::stream::remedy::Remedy::of(source).1,
            Self::Schema(_) => "wrong schema",
        }
    }
}

/// Classes of error codes that say something about the server or the moment: a lost connection, no writes now, no login, a transaction that
/// was rolled back, no room, a state that does not allow it, somebody who stepped in, the system.
const PASSING: [&str; 8] = ["08", "25", "28", "40", "53", "55", "57", "58"];
/// Classes that say something about values: cardinality, data, integrity, routines of the database that refuse, views that check, limits,
/// and exceptions that somebody raised.
const OF_THE_DATA: [&str; 8] = ["21", "22", "23", "38", "39", "44", "54", "P0"];

/// Classes that say the same of every row: no such database, no such schema, and a statement or a right that does not fit.
const OF_EVERYBODY: [&str; 3] = ["3D", "3F", "42"];

/// SQLSTATEs with which a session ends: an administrator or a restart, a crash of another session, `idle_session_timeout`,
/// `idle_in_transaction_session_timeout`, and what a pooler says when it has lost its server.
const SESSION_ENDED: [&str; 7] = [
    "57P01", "57P02", "57P05", "25P03", "08000", "08003", "08006",
];

/// An error of the driver cannot be cloned. What is asked of one is kept: its kind, and the code and words of the server.
fn copied(source: &sqlx::Error) -> sqlx::Error {
    match source {
        sqlx::Error::Database(e) => sqlx::Error::Database(Box::new(Said {
            code: e.code().unwrap_or_default().into_owned(),
            message: e.message().to_owned(),
        })),
        sqlx::Error::Io(e) => sqlx::Error::Io(std::io::Error::new(e.kind(), e.to_string())),
        sqlx::Error::PoolTimedOut => sqlx::Error::PoolTimedOut,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// An answer of Postgres that is an error, for one more caller.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Said {
    code: String,
    message: String,
}

impl sqlx::error::DatabaseError for Said {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.code))
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> sqlx::error::ErrorKind {
        sqlx::error::ErrorKind::Other
    }
}

/// What an error code of Postgres means for somebody who asks whether it is there.
fn postgres_word(code: &str) -> &'static str {
    match code {
        "53300" => "no connection left",
        "53100" => "disk full",
        "57P01" | "57P02" => "shutting down",
        "57P05" | "25P03" => "connection lost",
        "57P03" => "starting up",
        "57014" | "55P03" => "no answer in time",
        "25006" => "takes no writes",
        "42P01" | "3F000" | "42883" | "42703" => "wrong schema",
        _ if code.starts_with("28") => "login refused",
        _ => "refused",
    }
}

/// Anything that can go wrong at a door.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A server is at fault.
    #[error(transparent)]
    Outage(#[from] Outage),
}

impl Error {
    /// The error with the causes behind it in one line, for logs and people. Contains no credentials: the causes are
    /// texts of the servers, and neither driver prints its connection URL.
    pub fn in_full(&self) -> String {
        in_full(self)
    }
}

/// Any error with its causes in one line.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line
}
