//! Adding, pausing and resuming, which queues, kinds and tenants have in common.

use super::{Context, Exit, Outcome, table};
use crate::ops::names::{self, Thing};

/// Adds names; one that exists already is left as it is.
pub(super) async fn add(thing: Thing, all: &[String], context: &Context) -> Outcome {
    // All are looked at before the first is written.
    all.iter().try_for_each(|name| names::check_name(thing, name))?;
    for name in all {
        let new = names::add(context.pg().await?, thing, name, &context.actor()).await?;
        tell(thing, name, if new { "added" } else { "exists already" }, new, context)?;
    }
    Ok(Exit::Done)
}

/// Pauses or resumes names.
pub(super) async fn set_paused(thing: Thing, all: &[String], paused: bool, context: &Context) -> Outcome {
    for name in all {
        let changed = names::set_paused(context.pg().await?, thing, name, paused, &context.actor()).await?;
        let text = match (paused, changed) {
            (true, true) => "paused: what runs goes on, nothing new is handed out",
            (true, false) => "was paused already",
            (false, true) => "resumed",
            (false, false) => "was not paused",
        };
        tell(thing, name, text, changed, context)?;
    }
    Ok(Exit::Done)
}

/// One line on what was done.
pub(super) fn tell(thing: Thing, name: &str, text: &str, changed: bool, context: &Context) -> Result<(), super::Failure> {
    if context.json {
        return table::json(&serde_json::json!({ thing.name(): name, "changed": changed }));
    }
    table::line(&format!("{} {} {text}", thing.name(), table::printable(name)))
}
