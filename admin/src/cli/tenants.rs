//! `millstream tenants`.

use std::str::FromStr;

use clap::{Args, Subcommand};

use super::{CommandResult, Exit, Invocation, names, table};
use crate::ops::{
    names::Thing,
    retention,
    tenants::{self, Tenant},
};

#[derive(Debug, Args)]
pub(super) struct TenantsArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// All tenants
    List,
    /// Make tenants known
    Add {
        /// 1 to 64 of a-z 0-9 _ . -
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Start nothing more of these tenants, two seconds from now at the latest; what runs goes on
    Pause {
        /// Which tenants
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Hand out again
    Resume {
        /// Which tenants
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Keep a tenant's finished jobs for so long, whatever is configured for all
    Keep {
        /// Which tenant
        name: String,
        /// Days after the one on which a job was enqueued; `default`: as configured for all
        days: Rule,
    },
}

/// `30`, or `default`.
#[derive(Debug, Clone, Copy)]
struct Rule(Option<u32>);

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self(None)),
            days => days
                .parse()
                .map(|days| Self(Some(days)))
                .map_err(|_| "give a number of days, or `default`".into()),
        }
    }
}

pub(super) async fn run(args: TenantsArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::List => list(context).await,
        Act::Add { names } => names::add(Thing::Tenant, &names, context).await,
        Act::Pause { names } => names::set_paused(Thing::Tenant, &names, true, context).await,
        Act::Resume { names } => names::set_paused(Thing::Tenant, &names, false, context).await,
        Act::Keep {
            name,
            days: Rule(days),
        } => keep(&name, days, context).await,
    }
}

async fn keep(name: &str, days: Option<u32>, context: &Invocation) -> CommandResult {
    retention::keep(context.pg().await?, name, days, &context.actor()).await?;
    let text = days.map_or(
        "keeps its finished jobs as configured for all".into(),
        |days| {
            format!(
                "keeps its finished jobs for {days} day{}",
                if days == 1 { "" } else { "s" }
            )
        },
    );
    names::tell(Thing::Tenant, name, &text, true, context)?;
    Ok(Exit::Done)
}

async fn list(context: &Invocation) -> CommandResult {
    let tenants = tenants::list(context.pg().await?).await?;
    table::list(
        context,
        &tenants,
        &["tenant", "paused", "backlog", "keeps days", "created"],
        cells,
    )?;
    Ok(Exit::Done)
}

fn cells(tenant: &Tenant) -> Vec<String> {
    let paused = if tenant.paused { "paused" } else { "-" };
    let keeps = table::maybe(tenant.keep_days.map(|days| days.to_string()));
    vec![
        tenant.name.clone(),
        paused.into(),
        tenant.backlog.to_string(),
        keeps,
        table::time(tenant.created_at),
    ]
}
