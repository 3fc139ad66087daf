//! `millstream migrate`: the schema up, down, or where it is.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use millstream_common::pg::{
    Pg, Reverted, SchemaStatus, migrate_down, migrate_up, schema_status, would_revert,
};
use serde::Serialize;

use super::{CommandError, CommandResult, Exit, Invocation, table};
use crate::ops::rows;

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Apply every migration that is missing
    Up,
    /// Take migrations back, with the data in their tables
    Down {
        /// The version to go back to; 0 removes everything
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
        to: i64,
        /// Do it; without it only tells what would be destroyed
        #[arg(long)]
        yes: bool,
    },
    /// Tell which migrations are applied
    Status,
}

pub(super) async fn run(args: MigrateArgs, context: &Invocation) -> CommandResult {
    let url = context.database_url()?;
    match args.act {
        Act::Up => {
            let before = schema_status(url).await?;
            let after = migrate_up(url).await?;
            tell(context, &after)?;
            context.hint(&match after.applied - before.applied {
                0 => "nothing to do: the schema is up to date".to_owned(),
                _ => format!(
                    "the schema went from version {} to {}",
                    before.applied, after.applied
                ),
            });
        }
        Act::Down { to, yes: true } => tell(context, &migrate_down(url, to).await?)?,
        Act::Down { to, yes: false } => dry_run(context, url, to).await?,
        Act::Status => tell(context, &schema_status(url).await?)?,
    }
    Ok(Exit::Done)
}

fn tell(context: &Invocation, status: &SchemaStatus) -> Result<(), CommandError> {
    if context.json {
        return table::json(status);
    }
    let rows = status.migrations.iter().map(|(version, name, applied)| {
        vec![
            version.to_string(),
            name.clone(),
            if *applied { "applied" } else { "missing" }.to_owned(),
        ]
    });
    table::line(&table::render(&["version", "migration", "state"], rows))?;
    table::line(&format!(
        "at version {} of {}",
        status.applied, status.wanted
    ))
}

/// One step as it is told: what goes, and about how many rows.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(flatten)]
    reverted: Reverted,
    /// Estimates of the planner, because counting would take longer than destroying.
    rows_estimated: BTreeMap<String, i64>,
}

async fn dry_run(context: &Invocation, url: &str, to: i64) -> Result<(), CommandError> {
    let status = schema_status(url).await?;
    let rows = estimates(&Pg::new(url, 1)?).await?;
    let steps: Vec<_> = would_revert(&status, to)
        .into_iter()
        .map(|reverted| step(reverted, &rows))
        .collect();
    if context.json {
        let names: Vec<_> = steps
            .iter()
            .map(|step| format!("{} {}", step.reverted.version, step.reverted.name))
            .collect();
        return table::json(
            &serde_json::json!({"dry_run": true, "to": to, "would_revert": names, "steps": steps}),
        );
    }
    if steps.is_empty() {
        return table::line(&format!(
            "nothing to do: the schema is at version {}",
            status.applied
        ));
    }
    table::line(&format!(
        "would take back {}:",
        table::count(steps.len() as u64, "migration")
    ))?;
    for step in &steps {
        table::line(&format!(
            "  {} {}: {}",
            step.reverted.version,
            step.reverted.name,
            told(step)
        ))?;
    }
    context.hint("nothing was changed; repeat with --yes to do it");
    Ok(())
}

fn step(reverted: Reverted, rows: &BTreeMap<String, i64>) -> Step {
    let estimated = |table: &String| Some((table.clone(), *rows.get(table)?));
    Step {
        rows_estimated: reverted.tables.iter().filter_map(estimated).collect(),
        reverted,
    }
}

fn told(step: &Step) -> String {
    if step.reverted.keeps_all_data() {
        return "no table, column or row goes".into();
    }
    let with_rows = |table: &String| match step.rows_estimated.get(table) {
        Some(rows) if *rows > 0 => format!("{table} (about {})", table::count(*rows as u64, "row")),
        _ => table.clone(),
    };
    let mut parts = Vec::new();
    for (what, names) in [
        (
            "the tables go with all rows:",
            step.reverted
                .tables
                .iter()
                .map(with_rows)
                .collect::<Vec<_>>(),
        ),
        ("the columns go:", step.reverted.columns.clone()),
        ("some rows go of:", step.reverted.rows_of.clone()),
    ] {
        if !names.is_empty() {
            parts.push(format!("{what} {}", names.join(", ")));
        }
    }
    parts.join("; ")
}

/// By table; a partition counts for its table.
async fn estimates(pg: &Pg) -> Result<BTreeMap<String, i64>, CommandError> {
    let query = sqlx::query_as(
        "SELECT COALESCE(p.relname, c.relname)::text, sum(GREATEST(c.reltuples, 0))::bigint
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
         WHERE n.nspname = 'millstream' AND c.relkind = 'r' GROUP BY 1",
    );
    Ok(rows(pg, "estimating rows", query)
        .await?
        .into_iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // X32
    #[test]
    fn x32_a_step_that_resets_a_statistic_threatens_no_jobs() {
        let rows = BTreeMap::from([("job".to_owned(), 100_010), ("swept".to_owned(), 0)]);
        let tell = |down| told(&step(Reverted::read(15, "x", down), &rows));
        assert_eq!(
            tell("ALTER TABLE millstream.job ALTER kind_id RESET (n_distinct);"),
            "no table, column or row goes"
        );
        assert_eq!(
            tell(
                "DROP TABLE millstream.swept;\nALTER TABLE millstream.tenant DROP keep_days, DROP keep_days_set_at;"
            ),
            "the tables go with all rows: swept; the columns go: tenant.keep_days, tenant.keep_days_set_at"
        );
        assert_eq!(
            tell("DROP TABLE millstream.job;"),
            "the tables go with all rows: job (about 100010 rows)"
        );
    }
}
