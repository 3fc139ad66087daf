//! A server that fails, as a line for people: where it should be, why it is not, and what to do.
//!
//! No URL is printed: only host and port leave it, so that a password cannot.

use std::io::ErrorKind;

use millstream_common::{config::Config, error::Outage};
use redis::IntoConnectionInfo;

use super::exit::Exit;

/// Where the servers are looked for: host and port, without credentials.
#[derive(Debug, Clone, Default)]
pub struct Places {
    postgres: Option<String>,
    redis: Option<String>,
}

impl Places {
    /// Out of the configured URLs.
    pub fn of(config: &Config) -> Self {
        Self { postgres: postgres_place(config.database.url.expose()), redis: redis_place(config.redis.url.expose()) }
    }

    /// Host and port of Postgres.
    pub fn postgres(&self) -> &str {
        self.postgres.as_deref().unwrap_or("its address")
    }

    /// Host and port of Redis.
    pub fn redis(&self) -> &str {
        self.redis.as_deref().unwrap_or("its address")
    }
}

/// Host and port of a Postgres URL; `None` if it is none.
pub(super) fn postgres_place(url: &str) -> Option<String> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return None;
    }
    let options: sqlx::postgres::PgConnectOptions = url.parse().ok()?;
    Some(match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    })
}

/// Host and port of a Redis URL; `None` if it is none.
pub(super) fn redis_place(url: &str) -> Option<String> {
    url.into_connection_info().ok().map(|info| info.addr().to_string())
}

/// The exit code and the line for an outage.
pub fn describe(outage: &Outage, places: &Places) -> (Exit, String) {
    match outage {
        Outage::Schema(text) => (Exit::Refused, text.clone()),
        Outage::Postgres { op, source } => postgres(op, source, places),
        Outage::PostgresTimeout { op } => (
            Exit::Unreachable,
            format!("Postgres at {} did not answer in time while {op}: is it running? DATABASE_URL says where it is", places.postgres()),
        ),
        Outage::Redis { op, source } => redis_failed(op, source, places),
        Outage::RedisTimeout { op } => (
            Exit::Unreachable,
            format!("Redis at {} did not answer in time while {op}: is it running? REDIS_URL says where it is", places.redis()),
        ),
    }
}

fn postgres(op: &str, source: &sqlx::Error, places: &Places) -> (Exit, String) {
    let place = places.postgres();
    match source {
        sqlx::Error::Database(e) => postgres_said(op, e.code().as_deref().unwrap_or_default(), e.message(), place),
        sqlx::Error::Configuration(_) => {
            (Exit::Usage, "DATABASE_URL is no Postgres URL: set it to postgres://USER:PASSWORD@HOST:PORT/NAME".into())
        }
        sqlx::Error::RowNotFound | sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (
            Exit::Failed,
            format!("Postgres answered in a form that this program does not know while {op}: is the schema newer? ({source})"),
        ),
        other => {
            let reason = match other {
                sqlx::Error::Io(e) => io_reason(e),
                sqlx::Error::PoolTimedOut => "no connection in time".into(),
                e => e.to_string(),
            };
            (Exit::Unreachable, format!("Postgres is out of reach at {place} ({reason}): is it running? DATABASE_URL says where it is"))
        }
    }
}

/// An answer of the server that is an error, by the classes of Postgres' appendix A.
fn postgres_said(op: &str, code: &str, message: &str, place: &str) -> (Exit, String) {
    match code {
        "28000" | "28P01" => {
            (Exit::Unreachable, format!("Postgres at {place} refused the login ({message}): check user and password in DATABASE_URL"))
        }
        "3D000" => (Exit::Unreachable, format!("Postgres at {place} has no such database ({message}): create it, or change DATABASE_URL")),
        "42P01" | "3F000" | "42883" | "42703" => {
            (Exit::Refused, format!("the database schema is not the one this program needs ({message}): run \"millstream migrate up\""))
        }
        "42501" => (Exit::Refused, format!("Postgres refused it ({message}): grant the user of DATABASE_URL the right to do so")),
        "53300" => (
            Exit::Unreachable,
            format!("Postgres at {place} has no connection left ({message}): raise max_connections, or lower database.connections_max"),
        ),
        "25006" => (Exit::Unreachable, format!("Postgres at {place} takes no writes ({message}): DATABASE_URL must name the primary")),
        "57014" | "55P03" => {
            (Exit::Unreachable, format!("Postgres at {place} was too slow while {op} ({message}): repeat it, or narrow the filter"))
        }
        _ if code.starts_with("57P") || code.starts_with("08") => {
            (Exit::Unreachable, format!("Postgres at {place} is not taking work ({message}): wait until it has started"))
        }
        _ => (Exit::Failed, format!("Postgres failed while {op}: {message}")),
    }
}

fn redis_failed(op: &str, source: &redis::RedisError, places: &Places) -> (Exit, String) {
    let place = places.redis();
    if matches!(source.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) {
        return (Exit::Unreachable, format!("Redis at {place} refused the login ({source}): check user and password in REDIS_URL"));
    }
    if source.kind() == redis::ErrorKind::InvalidClientConfig {
        return (Exit::Usage, "REDIS_URL is no Redis URL: set it to redis://USER:PASSWORD@HOST:PORT/DB".into());
    }
    let reason = if source.is_connection_refusal() { "connection refused".into() } else { source.to_string() };
    (Exit::Unreachable, format!("Redis is out of reach at {place} while {op} ({reason}): is it running? REDIS_URL says where it is"))
}

fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::TimedOut => "no answer".into(),
        ErrorKind::NotFound => "no such socket".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_password() {
        // F64
        assert_eq!(postgres_place("postgres://u:canary@db:6000/x").as_deref(), Some("db:6000"));
        assert_eq!(redis_place("redis://u:canary@cache:6380/1").as_deref(), Some("cache:6380"));
        assert_eq!(postgres_place("mysql://h/x"), None);
    }

    #[test]
    fn a_refused_connection_says_where_and_what_to_do() {
        let places = Places { postgres: Some("127.0.0.1:5432".into()), redis: None };
        let source = sqlx::Error::Io(ErrorKind::ConnectionRefused.into());
        let (exit, text) = describe(&Outage::Postgres { op: "x", source }, &places);
        assert_eq!(exit, Exit::Unreachable);
        assert_eq!(text, "Postgres is out of reach at 127.0.0.1:5432 (connection refused): is it running? DATABASE_URL says where it is");
    }
}
