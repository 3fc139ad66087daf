//! `millstream doctor`: looks at everything that Millstream stands on and says what to do.
//!
//! It changes nothing. A check that cannot be made (a forbidden command, an absent server) says so instead of guessing.

mod fleet;
mod postgres;
mod redis;
mod tools;

use clap::Args;
use serde::Serialize;

use super::{CommandError, CommandResult, Exit, Invocation, table};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
    /// A server is out of reach.
    Down,
    /// A setting must change before anything can be said. For programs that read the report a failure like any other.
    #[serde(rename = "fail")]
    Wrong,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    level: Level,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Ok,
            detail: detail.into(),
            advice: None,
        }
    }

    fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Warn,
            detail: detail.into(),
            advice: Some(advice.into()),
        }
    }

    fn fail(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            level: Level::Fail,
            detail: detail.into(),
            advice: Some(advice.into()),
        }
    }

    /// A server that cannot be asked: the failure's own line says why and what to do.
    fn down(name: &'static str, failure: &CommandError, context: &Invocation) -> Self {
        let (exit, line) = failure.tell(&context.places());
        let level = match exit {
            Exit::Unreachable => Level::Down,
            Exit::Usage => Level::Wrong,
            _ => Level::Fail,
        };
        Self {
            name,
            level,
            detail: line.unwrap_or_default(),
            advice: None,
        }
    }

    /// `good`, or a warning with advice.
    fn warn_unless(
        good: bool,
        name: &'static str,
        detail: impl Into<String>,
        advice: &str,
    ) -> Self {
        if good {
            Self::ok(name, detail)
        } else {
            Self::warn(name, detail, advice)
        }
    }
}

pub(super) async fn run(_args: DoctorArgs, context: &Invocation) -> CommandResult {
    let mut checks = postgres::check(context).await;
    // Without the tables there is no fleet to look at, and the check above has said why.
    let schema_is_there = checks
        .iter()
        .any(|c| c.name == "schema" && c.level == Level::Ok);
    checks.extend(redis::check(context, schema_is_there).await);
    if schema_is_there {
        checks.extend(fleet::check(context).await);
    }
    checks.extend(tools::check(context).await);
    print(context, &checks)?;
    Ok(verdict(&checks))
}

fn verdict(checks: &[Check]) -> Exit {
    match checks.iter().map(|c| c.level).max() {
        Some(Level::Wrong) => Exit::Usage,
        Some(Level::Down) => Exit::Unreachable,
        Some(Level::Fail) => Exit::Failed,
        _ => Exit::Done,
    }
}

fn print(context: &Invocation, checks: &[Check]) -> Result<(), CommandError> {
    for check in checks {
        if context.json {
            table::json(check)?;
            continue;
        }
        let word = match check.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail | Level::Down | Level::Wrong => "FAIL",
        };
        let advice = check
            .advice
            .as_ref()
            .map(|advice| format!(": {advice}"))
            .unwrap_or_default();
        table::line(&format!(
            "{word}  {:24} {}",
            check.name,
            table::printable(&format!("{}{advice}", check.detail))
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides_the_exit_code() {
        // F51
        let ok = || Check::ok("a", "");
        assert_eq!(verdict(&[ok(), Check::warn("b", "", "")]), Exit::Done);
        assert_eq!(verdict(&[Check::fail("b", "", ""), ok()]), Exit::Failed);
        let at = |level| Check {
            name: "c",
            level,
            detail: String::new(),
            advice: None,
        };
        assert_eq!(
            verdict(&[at(Level::Down), Check::fail("b", "", "")]),
            Exit::Unreachable
        );
        // X37: what is configured wrongly has to be mended first.
        assert_eq!(verdict(&[at(Level::Wrong), at(Level::Down)]), Exit::Usage);
    }
}
