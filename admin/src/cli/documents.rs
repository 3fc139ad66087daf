//! `millstream documents`: files into the pipeline, and where they are in it.
//!
//! `millstream dev` adds and watches its input by the same functions.

mod add;
mod bars;
mod files;
mod list;
mod report;
mod show;
mod watch;

use clap::{Args, Subcommand};

pub use self::{
    add::Adder,
    files::{Found, files_of},
    show::print_summaries,
    watch::watch,
};
use super::{CommandResult, Invocation};

#[derive(Debug, Args)]
pub(super) struct DocumentsArgs {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Put files through the pipeline
    Add(add::AddArgs),
    /// One page of documents, newest first
    List(list::ListArgs),
    /// Everything about documents: stage by stage, and what every page has yielded
    Show(show::ShowArgs),
    /// Watch documents until they are done; exit 1 if any failed
    Wait(watch::WaitArgs),
}

pub(super) async fn run(args: DocumentsArgs, context: &Invocation) -> CommandResult {
    match args.act {
        Act::Add(args) => add::run(args, context).await,
        Act::List(args) => list::run(args, context).await,
        Act::Show(args) => show::run(args, context).await,
        Act::Wait(args) => watch::run(args, context).await,
    }
}
