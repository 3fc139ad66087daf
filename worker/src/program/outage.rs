//! A server that fails, as a line for people: where it should be, why it is not, and what to do.

use std::io::ErrorKind;

use millstream_common::{
    config::url::UrlFault,
    error::Outage,
    pg::{LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS},
    stream::remedy::Remedy,
};

use super::{
    exit::Exit,
    place::{Places, no_postgres_url, no_redis_url},
};

/// The exit code and the line for an outage.
pub fn describe(outage: &Outage, places: &Places) -> (Exit, String) {
    match outage {
        Outage::Schema(text) => (Exit::Refused, text.clone()),
        Outage::Postgres { op, source } => postgres(op, source, places),
        Outage::PostgresTimeout { op } => (
            Exit::Unreachable,
            format!(
                "Postgres at {} did not answer in time while {op}: is it running? DATABASE_URL says where it is",
                places.postgres()
            ),
        ),
        Outage::Redis { op, source } => redis_failed(op, source, places),
        Outage::RedisTimeout { op } => (
            Exit::Unreachable,
            format!(
                "Redis at {} did not answer in time while {op}: is it running? REDIS_URL says where it is",
                places.redis()
            ),
        ),
    }
}

fn postgres(op: &str, source: &sqlx::Error, places: &Places) -> (Exit, String) {
    let place = places.postgres();
    match source {
        sqlx::Error::Database(e) => postgres_said(
            op,
            e.code().as_deref().unwrap_or_default(),
            e.message(),
            place,
        ),
        sqlx::Error::Configuration(e) => (
            Exit::Usage,
            no_postgres_url(e.downcast_ref::<UrlFault>().copied()),
        ),
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_) => (
            Exit::Failed,
            format!(
                "Postgres answered in a form that this program does not know while {op}: is the schema newer? ({source})"
            ),
        ),
        other => {
            // The driver's own text has the cause of a failed handshake in it.
            if let Some(advice) = tls_advice(&other.to_string(), "DATABASE_URL") {
                return (Exit::Unreachable, format!("Postgres at {place} {advice}"));
            }
            let reason = match other {
                sqlx::Error::Io(e) => io_reason(e),
                sqlx::Error::PoolTimedOut => "no connection in time".into(),
                e => e.to_string(),
            };
            (
                Exit::Unreachable,
                format!(
                    "Postgres is out of reach at {place} ({reason}): is it running? DATABASE_URL says where it is"
                ),
            )
        }
    }
}

/// An answer of the server that is an error, by the classes of Postgres' appendix A.
fn postgres_said(op: &str, code: &str, message: &str, place: &str) -> (Exit, String) {
    match code {
        "28000" | "28P01" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} refused the login ({message}): check user and password in DATABASE_URL"
            ),
        ),
        "3D000" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} has no such database ({message}): create it, or change DATABASE_URL"
            ),
        ),
        "42P01" | "3F000" | "42883" | "42703" => (
            Exit::Refused,
            format!(
                "the database schema is not the one this program needs ({message}): run \"millstream migrate up\""
            ),
        ),
        "42501" => (
            Exit::Refused,
            format!(
                "Postgres refused it ({message}): grant the user of DATABASE_URL the right to do so; \"millstream doctor\" names the statement"
            ),
        ),
        "53300" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} has no connection left ({message}): raise max_connections, or lower database.connections_max"
            ),
        ),
        "25006" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} takes no writes ({message}): turn default_transaction_read_only off, or let DATABASE_URL name the primary; \"millstream doctor\" says which"
            ),
        ),
        "57014" | "55P03" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} was too slow while {op} ({message}): repeat it, or narrow the filter"
            ),
        ),
        "08P01" => (Exit::Unreachable, pooler_said(message, place)),
        // What a pooler that gives every transaction another session says of statements that were prepared in the last one.
        "26000" | "42P05" => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} forgets prepared statements ({message}): a pooler in transaction mode must keep them: PgBouncer 1.21 or newer with max_prepared_statements = 200, or session mode"
            ),
        ),
        _ if code.starts_with("57P") || code.starts_with("08") => (
            Exit::Unreachable,
            format!(
                "Postgres at {place} is not taking work ({message}): wait until it has started"
            ),
        ),
        _ => (
            Exit::Failed,
            format!("Postgres failed while {op}: {message}"),
        ),
    }
}

/// A protocol violation is nothing that waiting mends. The usual one: a pooler that takes no settings at the start of a session.
fn pooler_said(message: &str, place: &str) -> String {
    if message.contains("startup parameter") {
        return format!(
            "the pooler at {place} refuses a setting that every session of this program begins with ({message}): set \"ignore_startup_parameters = extra_float_digits,options\" in pgbouncer.ini, \
             and for the role what is lost then: ALTER ROLE … SET statement_timeout = '{} s', lock_timeout likewise '{} s'; or let DATABASE_URL name Postgres itself",
            STATEMENT_TIMEOUT_MS / 1000,
            LOCK_TIMEOUT_MS / 1000,
        );
    }
    format!(
        "what answers at {place} does not speak as Postgres does ({message}): is DATABASE_URL right, and is there a pooler or proxy in between?"
    )
}

fn redis_failed(op: &str, source: &redis::RedisError, places: &Places) -> (Exit, String) {
    let place = places.redis();
    if source.kind() == redis::ErrorKind::InvalidClientConfig {
        return (Exit::Usage, no_redis_url(None));
    }
    if let Some(advice) = tls_advice(&source.to_string(), "REDIS_URL") {
        return (Exit::Unreachable, format!("Redis at {place} {advice}"));
    }
    let (remedy, word) = Remedy::of(source);
    let told = match word {
        "WRONGPASS" => "refused the login: check user and password in REDIS_URL, and that this user is switched on".to_owned(),
        "NOAUTH" => "asks for a password, and REDIS_URL has none: set it to redis://USER:PASSWORD@HOST:PORT/DB".to_owned(),
        "NOPERM" => format!(
            "does not let the user of REDIS_URL do what is needed while {op} ({source}): \"millstream doctor\" names the missing right"
        ),
        "unknown command" => {
            format!("lacks a command that is needed while {op} ({source}): it must be Redis 7 or newer, with no command renamed")
        }
        "READONLY" => "is a replica, which takes no writes: REDIS_URL must name the primary".to_owned(),
        "OOM" => "is full: raise maxmemory, or remove what others keep there".to_owned(),
        "MISCONF" => "cannot save to its disk and takes no writes: look at its log and its disk".to_owned(),
        "DENIED" => "answers its own machine alone (protected mode): give it a password, or a bind address".to_owned(),
        _ if remedy == Remedy::Caller && redis::ErrorKind::Io != source.kind() => {
            return (Exit::Failed, format!("Redis at {place} failed while {op}: {source}"));
        }
        _ if remedy != Remedy::Reconnect || is_of_server(word) => {
            format!("is not taking work while {op} ({source}): wait until it does")
        }
        _ => {
            let reason = if source.is_connection_refusal() { "connection refused".into() } else { source.to_string() };
            return (
                Exit::Unreachable,
                format!("Redis is out of reach at {place} while {op} ({reason}): is it running? REDIS_URL says where it is"),
            );
        }
    };
    (Exit::Unreachable, format!("Redis at {place} {told}"))
}

/// Whether a server has said that word, so that it does run.
fn is_of_server(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_uppercase())
}

/// What to do about a failure of TLS, behind the name of the server; none if it was none.
fn tls_advice(text: &str, variable: &str) -> Option<String> {
    let advice = match text {
        _ if text.contains("UnknownIssuer") => format!(
            "shows a certificate of an authority that is not trusted here ({text}): name the file with the authority's certificate as sslrootcert in {variable}, {}",
            if variable == "REDIS_URL" {
                "rediss://…/0?sslrootcert=/path/ca.pem"
            } else {
                "postgres://…/NAME?sslmode=verify-full&sslrootcert=/path/ca.pem"
            }
        ),
        _ if text.contains("invalid peer certificate") => {
            format!(
                "shows a certificate that is not good for it ({text}): {variable} must name the host that the certificate is for"
            )
        }
        _ if text.contains("InvalidContentType") || text.contains("does not support TLS") => {
            format!(
                "does not speak TLS on this port ({text}): change the port or the scheme in {variable}"
            )
        }
        _ => return None,
    };
    Some(advice)
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
    use crate::program::place::ca_fault;

    // X29, X38: what a server says is told as what it means, and "is it running?" is asked of nobody who has answered.
    #[test]
    fn every_refusal_of_redis_has_its_true_sentence() {
        let places = Places {
            postgres: None,
            redis: Some("cache:6379".into()),
        };
        let answered = |line: &str| {
            redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
                .and_then(redis::Value::extract_error)
        };
        for (line, part) in [
            ("NOAUTH Authentication required.", "asks for a password"),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "refused the login",
            ),
            (
                "NOPERM this user has no permissions to run the 'info' command",
                "names the missing right",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand",
                "names the missing right",
            ),
            ("ERR unknown command 'XADD'", "lacks a command"),
            (
                "READONLY You can't write against a read only replica.",
                "must name the primary",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "is full",
            ),
            (
                "MISCONF Errors writing to the AOF file: No space left on device",
                "cannot save",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                "wait until it does",
            ),
            ("CLUSTERDOWN The cluster is down", "wait until it does"),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                "failed while working",
            ),
        ] {
            let Err(source) = answered(line) else {
                panic!("{line} is an error")
            };
            let (_, text) = describe(
                &Outage::Redis {
                    op: "working",
                    source,
                },
                &places,
            );
            assert!(
                text.contains(part)
                    && text.contains("cache:6379")
                    && !text.contains("is it running"),
                "{line}: {text}"
            );
        }
        let login: redis::RedisError = (
            redis::ErrorKind::AuthenticationFailed,
            "Password authentication failed",
        )
            .into();
        assert!(
            describe(
                &Outage::Redis {
                    op: "working",
                    source: login
                },
                &places
            )
            .1
            .contains("refused the login")
        );
        let gone: redis::RedisError = std::io::Error::from(ErrorKind::ConnectionRefused).into();
        assert!(
            describe(
                &Outage::Redis {
                    op: "working",
                    source: gone
                },
                &places
            )
            .1
            .contains("is it running")
        );
    }

    // X38
    #[test]
    fn a_certificate_of_an_unknown_authority_says_how_to_name_it() {
        let places = Places {
            postgres: Some("db:5432".into()),
            redis: Some("cache:6379".into()),
        };
        let text = "invalid peer certificate: UnknownIssuer";
        let source: redis::RedisError = std::io::Error::other(text).into();
        let redis = describe(&Outage::Redis { op: "x", source }, &places).1;
        let postgres = describe(
            &Outage::Postgres {
                op: "x",
                source: sqlx::Error::Tls(text.into()),
            },
            &places,
        )
        .1;
        for (told, url) in [(&redis, "REDIS_URL"), (&postgres, "DATABASE_URL")] {
            assert!(
                told.contains("sslrootcert=/path/ca.pem")
                    && told.contains(url)
                    && !told.contains("is it running"),
                "{told}"
            );
        }
        assert!(
            ca_fault("REDIS_URL", "rediss://h/0?sslrootcert=/nowhere/ca.pem")
                .is_some_and(|told| told.contains("/nowhere/ca.pem"))
        );
        assert_eq!(ca_fault("REDIS_URL", "rediss://h/0"), None);
    }

    #[test]
    fn a_refused_connection_says_where_and_what_to_do() {
        let places = Places {
            postgres: Some("127.0.0.1:5432".into()),
            redis: None,
        };
        let source = sqlx::Error::Io(ErrorKind::ConnectionRefused.into());
        let (exit, text) = describe(&Outage::Postgres { op: "x", source }, &places);
        assert_eq!(exit, Exit::Unreachable);
        assert_eq!(
            text,
            "Postgres is out of reach at 127.0.0.1:5432 (connection refused): is it running? DATABASE_URL says where it is"
        );
    }
}
