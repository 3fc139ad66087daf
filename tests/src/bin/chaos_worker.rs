//! A worker of a chaos run, as a user's own worker would be: the kinds in the box, and some that journal what they do.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use millstream_documents::{self as documents, tools::sandbox::helper};
use millstream_kinds::built_in;
use millstream_tests::chaos::{
    fleet::variable,
    handlers,
    journal::{ALIVE_EVERY, Event, Journal},
};
use millstream_worker::{Program, worker_main_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    // First thing: a worker calls its own program to start the tools of documents, and those get none of its variables.
    if let Some(end) = helper() {
        return end;
    }
    limit_memory();
    // Through the environment, because the arguments are those of every worker.
    let journal = std::env::var(variable::JOURNAL).expect("the journal's path");
    let long_ms = std::env::var(variable::LONG_MS)
        .ok()
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(20_000);
    let journal = Arc::new(Journal::open(Path::new(&journal)).expect("the journal opens"));
    if std::env::args().any(|argument| argument == "--child") {
        say_alive(&journal);
    }
    let program = Program {
        name: "chaos_worker",
        version: env!("CARGO_PKG_VERSION"),
        about: "Runs the kinds of a chaos run",
    };
    worker_main_with(program, |config| {
        let mut all = built_in(config)?;
        all.extend(documents::configured(config)?);
        all.extend(handlers::all(&journal, Duration::from_millis(long_ms)));
        Ok(all)
    })
}

/// A child shares the journal of its worker, and nobody else tells when it is gone.
fn say_alive(journal: &Arc<Journal>) {
    let journal = journal.clone();
    std::thread::spawn(move || {
        loop {
            journal.write(Event::Alive(std::process::id()));
            std::thread::sleep(ALIVE_EVERY);
        }
    });
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
