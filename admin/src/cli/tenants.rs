//! `millstream tenants`.

use clap::{Args, Subcommand};

use super::{Context, Exit, Outcome, names, table};
use crate::ops::{
    names::Thing,
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
    /// Hand out nothing of these tenants; what runs goes on
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
}

pub(super) async fn run(args: TenantsArgs, context: &Context) -> Outcome {
    match args.act {
        Act::List => list(context).await,
        Act::Add { names } => names::add(Thing::Tenant, &names, context).await,
        Act::Pause { names } => names::set_paused(Thing::Tenant, &names, true, context).await,
        Act::Resume { names } => names::set_paused(Thing::Tenant, &names, false, context).await,
    }
}

async fn list(context: &Context) -> Outcome {
    let tenants = tenants::list(context.pg().await?).await?;
    table::list(context, &tenants, &["tenant", "paused", "backlog", "created"], cells)?;
    Ok(Exit::Done)
}

fn cells(tenant: &Tenant) -> Vec<String> {
    let paused = if tenant.paused { "paused" } else { "-" };
    vec![tenant.name.clone(), paused.into(), tenant.backlog.to_string(), table::time(tenant.created_at)]
}
