//! Where the servers should be, as the settings say.
//!
//! No URL is printed: only host and port leave it, so that a password cannot.

use millstream_common::{
    config::{
        Config,
        url::{self, UrlFault},
    },
    pg::address,
    stream::link::CA_PARAMETER,
};
use redis::{ConnectionAddr, IntoConnectionInfo};

use super::exit::CommandError;

/// Where the servers are looked for: host and port, without credentials.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub(super) postgres: Option<String>,
    pub(super) redis: Option<String>,
}

impl Places {
    /// Out of the configured URLs.
    pub fn of(config: &Config) -> Self {
        Self {
            postgres: postgres_place(config.database.url.expose()),
            redis: redis_place(config.redis.url.expose()),
        }
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
pub fn postgres_place(url: &str) -> Option<String> {
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return None;
    }
    let options = address(url).ok()?;
    Some(match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => host_and_port(options.get_host(), options.get_port()),
    })
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Host and port of a Redis URL; `None` if it is none.
pub fn redis_place(url: &str) -> Option<String> {
    url::check(url).ok()?;
    Some(match url.into_connection_info().ok()?.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            host_and_port(host, *port)
        }
        other => other.to_string(),
    })
}

/// The URL of Postgres, seen to be one.
pub fn database_url(config: &Config) -> Result<&str, CommandError> {
    let url = config.database.url.expose();
    if url.is_empty() {
        return Err(CommandError::usage(
            "no database is configured: set DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/NAME, or try everything out with \"millstream dev\"",
        ));
    }
    let wrong = || CommandError::usage(no_postgres_url(url::check(url).err()));
    if let (Ok(()), Some(fault)) = (url::check(url), ca_fault("DATABASE_URL", url)) {
        return Err(CommandError::usage(fault));
    }
    postgres_place(url).map(|_| url).ok_or_else(wrong)
}

/// The URL of Redis, seen to be one.
pub fn redis_url(config: &Config) -> Result<&str, CommandError> {
    let url = config.redis.url.expose();
    if url.is_empty() {
        return Err(CommandError::usage(
            "no Redis is configured: set REDIS_URL=redis://HOST:PORT, or try everything out with \"millstream dev\"",
        ));
    }
    let wrong = || CommandError::usage(no_redis_url(url::check(url).err()));
    if let (Ok(()), Some(fault)) = (url::check(url), ca_fault("REDIS_URL", url)) {
        return Err(CommandError::usage(fault));
    }
    redis_place(url).map(|_| url).ok_or_else(wrong)
}

/// What to do about a `DATABASE_URL` that cannot be read. Nothing of it is printed: it may be the password.
pub(super) fn no_postgres_url(fault: Option<UrlFault>) -> String {
    no_url(
        "DATABASE_URL is no Postgres URL",
        fault,
        "set it to postgres://USER:PASSWORD@HOST:PORT/NAME",
    )
}

/// The same of a `REDIS_URL`.
pub(super) fn no_redis_url(fault: Option<UrlFault>) -> String {
    no_url(
        "REDIS_URL is no Redis URL",
        fault,
        "set it to redis://USER:PASSWORD@HOST:PORT/DB",
    )
}

fn no_url(what: &str, fault: Option<UrlFault>, advice: &str) -> String {
    fault.map_or_else(
        || format!("{what}: {advice}"),
        |fault| format!("{what}: {fault}; {advice}"),
    )
}

/// A file with certificates that a URL names and that cannot be read, as a line for people.
pub(super) fn ca_fault(variable: &str, url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let (_, path) = query
        .split(['&', '#'])
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| *name == CA_PARAMETER)?;
    // A path with a percent sign in it is left to the driver.
    let error = std::fs::File::open(path)
        .err()
        .filter(|_| !path.contains('%'));
    if let Some(error) = error {
        return Some(format!(
            "the file {path} that {variable} names as {CA_PARAMETER} cannot be read: {error}"
        ));
    }
    (url.starts_with("redis://"))
        .then(|| format!("{variable} names a {CA_PARAMETER} and begins with redis://, which is without TLS: use rediss://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_no_password() {
        // F64
        assert_eq!(
            postgres_place("postgres://u:canary@db:6000/x").as_deref(),
            Some("db:6000")
        );
        assert_eq!(
            redis_place("redis://u:canary@cache:6380/1").as_deref(),
            Some("cache:6380")
        );
        assert_eq!(postgres_place("mysql://h/x"), None);
        // X26, X27
        assert_eq!(
            postgres_place("postgres://u:canary@[::1]:6000/x").as_deref(),
            Some("[::1]:6000")
        );
        assert_eq!(
            redis_place("redis://:canary@[::1]:6380/1").as_deref(),
            Some("[::1]:6380")
        );
        for odd in [
            "u:12/canary@db",
            "u:12#canary@db",
            "u:12?canary@db",
            "u:ca@nary@db",
            "canary/@db",
        ] {
            assert_eq!(
                postgres_place(&format!("postgres://{odd}/x")),
                None,
                "{odd}"
            );
            assert_eq!(redis_place(&format!("redis://{odd}/1")), None, "{odd}");
        }
    }
}
