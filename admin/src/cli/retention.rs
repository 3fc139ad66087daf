//! `millstream retention`: what is there and when it goes. Changes nothing; the workers drop what is over.

use super::{CommandResult, Exit, Invocation, table};
use crate::ops::retention::{self, Day};

pub(super) async fn run(context: &Invocation) -> CommandResult {
    let days = retention::days(context.pg().await?, context.config.retention.days()).await?;
    table::list(
        context,
        &days,
        &["day", "jobs (estimated)", "MB", "goes on"],
        cells,
    )?;
    Ok(Exit::Done)
}

fn cells(day: &Day) -> Vec<String> {
    let mb = day.bytes as f64 / 1e6;
    vec![
        day.day.to_string(),
        day.jobs_estimated.to_string(),
        format!("{mb:.1}"),
        table::maybe(day.goes_on.map(|day| day.to_string())),
    ]
}
