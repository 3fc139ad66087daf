//! `millstream migrate`: the schema up, down, or where it is.

use clap::{Args, Subcommand};
use millstream_common::pg::{Pg, SchemaStatus, migrate_down, migrate_up, schema_status};

use super::{Context, Exit, Failure, Outcome, table};
use crate::ops::row;

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

pub(super) async fn run(args: MigrateArgs, context: &Context) -> Outcome {
    let url = context.database_url()?;
    match args.act {
        Act::Up => {
            let before = schema_status(url).await?;
            let after = migrate_up(url).await?;
            tell(context, &after)?;
            context.hint(&match after.applied - before.applied {
                0 => "nothing to do: the schema is up to date".to_owned(),
                _ => format!("the schema went from version {} to {}", before.applied, after.applied),
            });
        }
        Act::Down { to, yes: true } => tell(context, &migrate_down(url, to).await?)?,
        Act::Down { to, yes: false } => dry_run(context, url, to).await?,
        Act::Status => tell(context, &schema_status(url).await?)?,
    }
    Ok(Exit::Done)
}

fn tell(context: &Context, status: &SchemaStatus) -> Result<(), Failure> {
    if context.json {
        return table::json(status);
    }
    let rows = status
        .migrations
        .iter()
        .map(|(version, name, applied)| vec![version.to_string(), name.clone(), if *applied { "applied" } else { "missing" }.to_owned()]);
    table::line(&table::render(&["version", "migration", "state"], rows))?;
    table::line(&format!("at version {} of {}", status.applied, status.wanted))
}

/// Estimates of the planner, because counting would take longer than destroying.
async fn dry_run(context: &Context, url: &str, to: i64) -> Result<(), Failure> {
    let status = schema_status(url).await?;
    let doomed: Vec<_> = status.migrations.iter().filter(|(version, _, applied)| *applied && *version > to).collect();
    let names: Vec<_> = doomed.iter().map(|(version, name, _)| format!("{version} {name}")).collect();
    let (jobs, documents) = estimates(&Pg::new(url, 1)?).await?;
    if context.json {
        let answer =
            serde_json::json!({"dry_run": true, "to": to, "would_revert": names, "jobs_estimated": jobs, "documents_estimated": documents});
        return table::json(&answer);
    }
    if names.is_empty() {
        return table::line(&format!("nothing to do: the schema is at version {}", status.applied));
    }
    table::line(&format!("would take back {}: {}", names.len(), names.join(", ")))?;
    table::line(&format!("their tables go with all rows, now about {jobs} jobs and {documents} documents"))?;
    context.hint("nothing was changed; repeat with --yes to do it");
    Ok(())
}

async fn estimates(pg: &Pg) -> Result<(i64, i64), Failure> {
    let query = sqlx::query_as(
        "SELECT COALESCE(sum(GREATEST(c.reltuples, 0)) FILTER (WHERE c.relkind = 'r' AND c.relname LIKE 'job\\_%' AND i.inhrelid IS NOT NULL), 0)::bigint,
                COALESCE(sum(GREATEST(c.reltuples, 0)) FILTER (WHERE c.relname = 'document'), 0)::bigint
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
         WHERE n.nspname = 'millstream'",
    );
    Ok(row(pg, "estimating rows", query).await?.unwrap_or((0, 0)))
}
