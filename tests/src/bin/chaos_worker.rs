//! A worker of a chaos run, as a user's own worker would be: the kinds in the box, and some that journal what they do.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use millstream_admin::cli::worker_main;
use millstream_tests::chaos::{fleet::variable, handlers, journal::Journal};
use millstream_worker::documents::tools::sandbox::helper;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    // First thing: a worker calls its own program to start the tools of documents, and those get none of its variables.
    if let Some(end) = helper() {
        return end;
    }
    // A second call would only say that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    limit_memory();
    // Through the environment, because the arguments are those of every worker.
    let journal = std::env::var(variable::JOURNAL).expect("the journal's path");
    let long_ms = std::env::var(variable::LONG_MS)
        .ok()
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(20_000);
    let journal = Arc::new(Journal::open(Path::new(&journal)).expect("the journal opens"));
    worker_main(handlers::all(&journal, Duration::from_millis(long_ms)))
}

/// A job that eats memory is to end this process and not the machine.
fn limit_memory() {
    if let Some(bytes) = std::env::var(variable::ADDRESS_SPACE)
        .ok()
        .and_then(|bytes| bytes.parse().ok())
    {
        let maximum = getrlimit(Resource::As).maximum;
        setrlimit(
            Resource::As,
            Rlimit {
                current: Some(bytes),
                maximum,
            },
        )
        .expect("a limit of our own can be lowered");
    }
}
