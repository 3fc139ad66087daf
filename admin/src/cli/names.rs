//! Adding, pausing and resuming, which queues, kinds and tenants have in common.

use super::{CommandResult, Exit, Invocation, table};
use crate::ops::names::{self, Thing};

/// Adds names; one that exists already is left as it is.
pub(super) async fn add(thing: Thing, all: &[String], context: &Invocation) -> CommandResult {
    // All are looked at before the first is written.
    all.iter()
        .try_for_each(|name| names::check_name(thing, name))?;
    for name in all {
        let new = names::add(context.pg().await?, thing, name, &context.actor()).await?;
        tell(
            thing,
            name,
            if new { "added" } else { "exists already" },
            new,
            context,
        )?;
    }
    Ok(Exit::Done)
}

/// Pauses or resumes names.
pub(super) async fn set_paused(
    thing: Thing,
    all: &[String],
    paused: bool,
    context: &Invocation,
) -> CommandResult {
    for name in all {
        let changed =
            names::set_paused(context.pg().await?, thing, name, paused, &context.actor()).await?;
        if paused {
            let leased = names::leased(context.pg().await?, thing, name).await?;
            tell_paused(thing, name, changed, leased, context)?;
        } else {
            tell(
                thing,
                name,
                if changed { "resumed" } else { "was not paused" },
                changed,
                context,
            )?;
        }
    }
    Ok(Exit::Done)
}

/// Right after a pause workers still have jobs in hand that wait for a slot: those go back.
fn tell_paused(
    thing: Thing,
    name: &str,
    changed: bool,
    leased: i64,
    context: &Invocation,
) -> Result<(), super::CommandError> {
    if context.json {
        return table::json(
            &serde_json::json!({ thing.name(): name, "changed": changed, "leased": leased }),
        );
    }
    let jobs = if leased == 1 {
        "1 job".to_owned()
    } else {
        format!("{leased} jobs")
    };
    let text = if changed {
        format!(
            "paused: workers have {jobs} of it; what runs goes on to its end, and two seconds from now nothing else starts"
        )
    } else {
        format!("was paused already: {jobs} of it still run")
    };
    table::line(&format!(
        "{} {} {text}",
        thing.name(),
        table::printable(name)
    ))
}

/// One line on what was done.
pub(super) fn tell(
    thing: Thing,
    name: &str,
    text: &str,
    changed: bool,
    context: &Invocation,
) -> Result<(), super::CommandError> {
    if context.json {
        return table::json(&serde_json::json!({ thing.name(): name, "changed": changed }));
    }
    table::line(&format!(
        "{} {} {text}",
        thing.name(),
        table::printable(name)
    ))
}
