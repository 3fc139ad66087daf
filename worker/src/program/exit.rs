//! How a command ends: one exit code and, if it went wrong, one line on stderr that says what to do.
//!
//! The codes are part of the outside interface.

use std::{fmt, process::ExitCode};

use millstream_common::error::{Error, Outage, Refusal};

use super::{outage::describe, place::Places};

/// Exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command, its arguments or the configuration are wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Refused: state, conflict, permission, schema version.
    Refused = 4,
    /// Postgres or Redis is out of reach.
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What every command returns.
pub type CommandResult = Result<Exit, CommandError>;

/// Why a command failed.
#[derive(Debug)]
pub struct CommandError(Cause);

#[derive(Debug)]
enum Cause {
    Text(Exit, String),
    Outage(Outage),
    /// The reader of our output has gone; nothing is wrong and nobody listens.
    Deaf,
}

impl CommandError {
    /// With this code and this line.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self(Cause::Text(exit, text.into()))
    }

    /// It did not work out.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Exit::Failed, text)
    }

    /// The caller must ask differently.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// There is no such thing.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, text)
    }

    /// Not in this state, or not by you.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::new(Exit::Refused, text)
    }

    /// Nobody reads our output any more.
    pub fn deaf() -> Self {
        Self(Cause::Deaf)
    }

    /// The exit code and the line for stderr, if there is one to print. `places` names the servers in it.
    pub fn tell(&self, places: &Places) -> (Exit, Option<String>) {
        match &self.0 {
            Cause::Text(exit, text) => (*exit, Some(one_line(text))),
            Cause::Outage(outage) => {
                let (exit, text) = describe(outage, places);
                (exit, Some(one_line(&text)))
            }
            Cause::Deaf => (Exit::Done, None),
        }
    }
}

/// Errors may hold the texts of servers and files: line ends and other control characters become spaces.
fn one_line(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_control())
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tell(&Places::default()).1.unwrap_or_default())
    }
}

impl std::error::Error for CommandError {}

impl From<Outage> for CommandError {
    fn from(outage: Outage) -> Self {
        Self(Cause::Outage(outage))
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal {
            Refusal::Invalid(_) | Refusal::TooLarge { .. } | Refusal::Unknown { .. } => Exit::Usage,
            Refusal::NotFound(_) => Exit::NotFound,
            Refusal::Conflict(_) | Refusal::State(_) => Exit::Refused,
        };
        Self::new(exit, refusal.to_string())
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Outage(outage) => outage.into(),
        }
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::deaf()
        } else {
            Self::failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: &CommandError) -> (Exit, String) {
        let (exit, text) = failure.tell(&Places::default());
        (exit, text.unwrap_or_default())
    }

    #[test]
    fn refusals_have_the_exit_codes_of_the_interface() {
        // F51
        let cases = [
            (Refusal::Invalid("x".into()), 2),
            (
                Refusal::TooLarge {
                    what: "payload".into(),
                    bytes: 70_000,
                },
                2,
            ),
            (Refusal::NotFound("job".into()), 3),
            (Refusal::Conflict("key".into()), 4),
            (Refusal::State("final".into()), 4),
        ];
        for (refusal, code) in cases {
            assert_eq!(told(&refusal.clone().into()).0 as u8, code, "{refusal}");
        }
    }

    #[test]
    fn an_error_is_one_line_whatever_a_server_says() {
        // S35
        let failure = CommandError::failed("a\nb\r\n  c\u{1b}[31m");
        assert_eq!(told(&failure).1, "a b c [31m");
    }
}
