//! Addresses of servers with a password in them: what is wrong with one, without a piece of it.
//!
//! Readers of URLs guess where a password ends. If it holds an `@`, `/`, `?` or `#` as it is, they take a part of it for the host or for a
//! parameter, and print that. So such a URL is refused before anybody reads it. It knows neither Postgres nor Redis.

use std::borrow::Cow;

/// Why a URL cannot be read without a guess. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlFault(pub &'static str);

const UNENCODED: UrlFault = UrlFault(
    "it holds an @, /, ? or # that is not percent-encoded, as passwords must be: write @ as %40, / as %2F, ? as %3F, # as %23, % as %25",
);
const BARE_IPV6: UrlFault = UrlFault("an IPv6 address stands in brackets there: [::1]:5432");

/// Refuses a URL of which it is not certain what is host and what is password.
pub fn check(url: &str) -> Result<(), UrlFault> {
    let Some((_, rest)) = url.split_once("://") else {
        return Ok(());
    };
    let authority = authority(rest);
    // Behind the authority an `@` has no business that `%40` would not do as well.
    if rest.matches('@').count() > usize::from(authority.contains('@')) {
        return Err(UNENCODED);
    }
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if !host.starts_with('[') && host.matches(':').count() > 1 {
        return Err(BARE_IPV6);
    }
    Ok(())
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

/// The URL without the parameters that `is_known` does not know, and their names: a driver would print their values.
pub fn without_unknown<'u>(
    url: &'u str,
    is_known: impl Fn(&str) -> bool,
) -> (Cow<'u, str>, Vec<&'u str>) {
    let Some((head, query)) = url.split_once('?') else {
        return (url.into(), Vec::new());
    };
    let name = |pair: &'u str| pair.split('=').next().unwrap_or_default();
    let (known, unknown): (Vec<_>, Vec<_>) = query
        .split('&')
        .partition(|pair| pair.is_empty() || is_known(name(pair)));
    if unknown.is_empty() {
        return (url.into(), Vec::new());
    }
    (
        format!("{head}?{}", known.join("&")).into(),
        unknown.into_iter().map(name).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // X27
    #[test]
    fn x27_a_password_is_not_guessed_at() {
        let certain = [
            "postgres://u:pw@db:5432/x",
            "postgres://u:p%40s%2Fs@db/x?sslmode=require",
            "postgres://u@[::1]:5432/x",
            "postgres://db/x",
            "postgres:///x?host=/run/postgresql&user=u",
            "postgres://u:pw@%2Frun%2Fpg/x",
            "redis://:pw@[2001:db8::7]:6379/1",
            "rediss://cache:6380",
            "unix:///run/redis.sock?db=1",
            "not a url",
        ];
        for url in certain {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        // Every password with such a character, wherever in it.
        for scheme in ["postgres", "redis", "rediss"] {
            for character in ['@', '/', '?', '#'] {
                for password in [
                    format!("{character}canary"),
                    format!("can{character}ary"),
                    format!("canary{character}"),
                    format!("1{character}2{character}3"),
                ] {
                    let url = format!("{scheme}://u:{password}@host:5432/x");
                    assert_eq!(check(&url), Err(UNENCODED), "{url}");
                }
            }
        }
        assert_eq!(check("postgres://u:pw@::1:5432/x"), Err(BARE_IPV6));
        assert_eq!(
            check("postgres://u:pw@host/x?application_name=a@b"),
            Err(UNENCODED)
        );
    }

    // X27
    #[test]
    fn x27_unknown_parameters_are_named_without_their_values() {
        let (url, unknown) = without_unknown("postgres://h/x?a=1&pasword=canary&b=2", |name| {
            name.len() == 1
        });
        assert_eq!(
            (url.as_ref(), unknown),
            ("postgres://h/x?a=1&b=2", vec!["pasword"])
        );
        assert_eq!(
            without_unknown("postgres://h/x", |_| false).1,
            Vec::<&str>::new()
        );
    }
}
