//! What to do about an error of Redis: one table for all of them (Redis refuses work in many ways).
//!
//! Knows the codes of the protocol and of the client library, not what was asked.

use redis::{ErrorKind, RedisError};

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The server lives and the command is at fault, or what it names has changed: the caller's business.
    Caller,
    /// The same command may succeed in a moment.
    Retry,
    /// The connection is of no use: drop it, and work from Postgres if it goes on. The next one may lead to another server.
    Reconnect,
    /// The server lives and refuses work: work from Postgres until it takes it again.
    Degrade,
    /// The server is full and adds nothing; reading and acknowledging make room. Work from Postgres meanwhile.
    Drain,
    /// Only an operator can help (password, rights, a command that this server does not have): work from Postgres, and say so.
    Operator,
}

/// Codes by what helps; what is not listed is the caller's business.
const TABLE: [(&str, Remedy); 18] = [
    // Between two nodes of a cluster for a moment.
    ("TRYAGAIN", Remedy::Retry),
    ("ASK", Remedy::Retry),
    // The script cache was emptied; the client loads the script again.
    ("NOSCRIPT", Remedy::Retry),
    // This server is not, or no more, the one that takes writes: its name may lead elsewhere by now.
    ("READONLY", Remedy::Reconnect),
    ("MOVED", Remedy::Reconnect),
    ("MASTERDOWN", Remedy::Reconnect),
    ("CLUSTERDOWN", Remedy::Reconnect),
    // Reads its file after a start.
    ("LOADING", Remedy::Degrade),
    // Cannot save, and therefore takes no writes.
    ("MISCONF", Remedy::Degrade),
    // Full, with `noeviction`.
    ("OOM", Remedy::Drain),
    // Somebody's script does not end.
    ("BUSY", Remedy::Degrade),
    // Fewer replicas than it was told to have.
    ("NOREPLICAS", Remedy::Degrade),
    // A node that is being promoted or moved.
    ("UNKILLABLE", Remedy::Degrade),
    ("NOAUTH", Remedy::Operator),
    ("WRONGPASS", Remedy::Operator),
    ("NOPERM", Remedy::Operator),
    ("DENIED", Remedy::Operator),
    // A cluster takes no command over several slots: our keys share one per queue, so this is another setting's fault.
    ("CROSSSLOT", Remedy::Operator),
];

impl Remedy {
    /// Of an error, with a word for it.
    pub fn of(error: &RedisError) -> (Self, &'static str) {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return (Self::Operator, "WRONGPASS");
        }
        if let Some(word) = said(error).as_deref().and_then(want_of_right) {
            return (Self::Operator, word);
        }
        if let Some(code) = code(error) {
            return TABLE
                .iter()
                .find(|(known, _)| *known == code)
                .map_or((Self::Caller, "refused"), |(known, remedy)| {
                    (*remedy, *known)
                });
        }
        let word = match () {
            () if error.is_timeout() => "no answer in time",
            () if error.is_connection_refusal() => "connection refused",
            () if error.is_io_error() => "connection lost",
            () => return (Self::Caller, "not understood"),
        };
        (Self::Reconnect, word)
    }

    /// Whether it says that no work can be done on this server now.
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::Reconnect | Self::Degrade | Self::Drain | Self::Operator
        )
    }
}

/// The first word of what the server has said; of a pipeline, what it has said to the first command that it refused.
pub fn code(error: &RedisError) -> Option<String> {
    let single = error.code().map(str::to_owned);
    single.or_else(|| {
        Some(
            error
                .clone()
                .into_server_errors()?
                .first()?
                .1
                .code()
                .to_owned(),
        )
    })
}

/// Whether the key that was to take an entry never will again: it is no stream, or its last id is the highest there is.
pub fn takes_no_entries(error: &RedisError) -> bool {
    code(error).as_deref() == Some("WRONGTYPE")
        || said(error).is_some_and(|said| said.contains("exhausted"))
}

/// What the server has said behind that word; of a pipeline, to the first command that it refused.
pub(super) fn said(error: &RedisError) -> Option<String> {
    let single = error.detail().map(str::to_owned);
    single.or_else(|| {
        Some(
            error
                .clone()
                .into_server_errors()?
                .first()?
                .1
                .details()?
                .to_owned(),
        )
    })
}

/// Refusals whose code does not tell: a script of Redis 7.0 that lacks a right, or that calls a command that the server does not have, fails
/// with a plain `ERR`.
const TEXTS: [(&str, &str); 6] = [
    ("the user executing the script can't", "NOPERM"),
    ("acl failure in script", "NOPERM"),
    ("has no permissions to", "NOPERM"),
    ("unknown command", "unknown command"),
    ("unknown redis command", "unknown command"),
    ("unknown subcommand", "unknown command"),
];

fn want_of_right(said: &str) -> Option<&'static str> {
    let said = said.to_ascii_lowercase();
    TEXTS
        .iter()
        .find(|(text, _)| said.contains(text))
        .map(|(_, word)| *word)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What the client makes of an answer on the wire.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    fn answered(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .expect("a line of the protocol");
        value.extract_error().expect_err("an error")
    }

    // rule 31: the very texts of Redis 7.0
    #[test]
    fn every_refusal_has_its_remedy() {
        let cases = [
            (
                "LOADING Redis is loading the dataset in memory",
                Remedy::Degrade,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Remedy::Reconnect,
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                Remedy::Degrade,
            ),
            (
                "MISCONF Errors writing to the AOF file: No space left on device",
                Remedy::Degrade,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Remedy::Drain,
            ),
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                Remedy::Degrade,
            ),
            ("MOVED 3999 127.0.0.1:6381", Remedy::Reconnect),
            ("ASK 3999 127.0.0.1:6381", Remedy::Retry),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                Remedy::Retry,
            ),
            ("CLUSTERDOWN The cluster is down", Remedy::Reconnect),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Remedy::Operator,
            ),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Remedy::Reconnect,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Remedy::Degrade,
            ),
            ("NOAUTH Authentication required.", Remedy::Operator),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Remedy::Operator,
            ),
            (
                "NOPERM this user has no permissions to run the 'xadd' command",
                Remedy::Operator,
            ),
            (
                "NOSCRIPT No matching script. Please use EVAL.",
                Remedy::Retry,
            ),
            (
                "DENIED Redis is running in protected mode",
                Remedy::Operator,
            ),
            (
                "NOGROUP No such key 'x' or consumer group 'workers'",
                Remedy::Caller,
            ),
            ("UNBLOCKED the stream key no longer exists", Remedy::Caller),
            (
                "BUSYGROUP Consumer Group name already exists",
                Remedy::Caller,
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                Remedy::Caller,
            ),
            (
                "ERR unknown command 'XADD', with args beginning with: ",
                Remedy::Operator,
            ),
            (
                "ERR unknown subcommand 'CONSUMERS'. Try XINFO HELP.",
                Remedy::Operator,
            ),
            (
                "ERR Unknown Redis command called from script script: 1f, on @user_script:1.",
                Remedy::Operator,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 1f, on @user_script:1.",
                Remedy::Operator,
            ),
            (
                "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
                Remedy::Operator,
            ),
            (
                "NOPERM ACL failure in script: User u has no permissions to run the 'xadd' command",
                Remedy::Operator,
            ),
            (
                "ERR The stream has exhausted the last possible ID, unable to add more items",
                Remedy::Caller,
            ),
            ("SOMETHINGNEW of a later release", Remedy::Caller),
        ];
        for (line, remedy) in cases {
            let (found, word) = Remedy::of(&answered(line));
            assert_eq!(found, remedy, "{line}");
            assert!(
                !remedy.is_outage()
                    || line.starts_with(word)
                    || TEXTS.iter().any(|(_, of_text)| *of_text == word),
                "{line}: {word}"
            );
        }
    }

    #[test]
    fn only_a_key_that_takes_no_entry_any_more_is_given_up() {
        for (line, expected) in [
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                true,
            ),
            (
                "ERR The stream has exhausted the last possible ID, unable to add more items",
                true,
            ),
            (
                "NOPERM this user has no permissions to run the 'xadd' command",
                false,
            ),
            ("ERR wrong number of arguments for 'xadd' command", false),
            ("SOMETHINGNEW of a later release", false),
        ] {
            assert_eq!(takes_no_entries(&answered(line)), expected, "{line}");
        }
        let late: RedisError = io::Error::from(io::ErrorKind::TimedOut).into();
        assert!(!takes_no_entries(&late));
    }

    // rule 31: in a pipeline the refusal is one of several answers
    #[test]
    fn a_refusal_within_a_pipeline_is_the_same_refusal() {
        let answers = b"*2\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n:1\r\n";
        let answered = redis::parse_redis_value(answers).and_then(redis::Value::extract_error);
        assert_eq!(
            answered.err().map(|error| Remedy::of(&error)),
            Some((Remedy::Drain, "OOM"))
        );
    }

    // rule 31
    #[test]
    fn a_broken_connection_is_made_anew() {
        let broken = [
            (io::ErrorKind::ConnectionRefused, "connection refused"),
            (io::ErrorKind::TimedOut, "no answer in time"),
            (io::ErrorKind::BrokenPipe, "connection lost"),
            (io::ErrorKind::UnexpectedEof, "connection lost"),
        ];
        for (kind, word) in broken {
            assert_eq!(
                Remedy::of(&io::Error::from(kind).into()),
                (Remedy::Reconnect, word)
            );
        }
        let login: RedisError = (
            ErrorKind::AuthenticationFailed,
            "Password authentication failed",
        )
            .into();
        assert_eq!(Remedy::of(&login), (Remedy::Operator, "WRONGPASS"));
    }
}
