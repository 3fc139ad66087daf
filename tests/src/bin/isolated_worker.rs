//! A worker whose kinds do in a child process what a handler may do, and what it should not.

use std::{io::Read, process::ExitCode, time::Duration};

use millstream_worker::{Context, Failure, Handler, Outcome, Program, Success, worker_main};
use sqlx::PgConnection;

fn main() -> ExitCode {
    let is_child = std::env::args().any(|argument| argument == "--child");
    // What the children of a broken installation do.
    let fault = std::env::var("CHILD_FAULT").unwrap_or_default();
    if is_child && fault == "exit" {
        return ExitCode::from(7);
    }
    let lacks = |kind: &str| is_child && fault == format!("lacks {kind}");
    let program = Program {
        name: "isolated_worker",
        version: env!("CARGO_PKG_VERSION"),
        about: "Runs the kinds of the tests of isolation",
    };
    worker_main(
        program,
        [
            Handler::new("pid", pid),
            Handler::new("talk", talk),
            Handler::new("write", write),
            Handler::new("large", large),
            Handler::new("slow", slow).timeout(Duration::from_secs(1)),
            Handler::new("deadly", deadly),
        ]
        .into_iter()
        .filter(|handler| !lacks(handler.kind()))
        .collect(),
    )
}

/// Says in which process it is, in its log and as its result, and stays there for so long.
async fn pid(context: Context, ms: u64) -> Outcome {
    context.log(std::process::id().to_string());
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Success::with_result(&std::process::id())
}

/// Reads and prints, reports, and fails at its first try.
async fn talk(context: Context, ms: u64) -> Outcome {
    let mut read = String::new();
    std::io::stdin()
        .read_to_string(&mut read)
        .map_err(|e| Failure::permanent(e.to_string()))?;
    println!("this is no frame");
    context.log(format!(
        "try {} has read {} bytes",
        context.attempt,
        read.len()
    ));
    context.progress(f32::NAN, "of nothing");
    context.progress(0.5, "half");
    tokio::time::sleep(Duration::from_millis(ms)).await;
    if context.attempt == 1 {
        return Err(Failure::retry("not yet"));
    }
    Success::with_result(&"said")
}

/// Writes a row with its completion. The effect ends its process if `how` says so.
async fn write(_: Context, how: String) -> Outcome {
    Ok(
        Success::new().and_write(Box::new(move |conn: &mut PgConnection| {
            Box::pin(async move {
                sqlx::query("INSERT INTO public.written VALUES (1)")
                    .execute(&mut *conn)
                    .await?;
                if how == "abort" {
                    std::process::abort();
                }
                if how == "refuse" {
                    sqlx::query("SELECT 1 / 0").execute(conn).await?;
                }
                Ok(())
            })
        })),
    )
}

/// More than may be kept.
async fn large(_: Context, bytes: usize) -> Outcome {
    Success::with_result(&"x".repeat(bytes))
}

/// Longer than it may take.
async fn slow(_: Context, (): ()) -> Outcome {
    tokio::time::sleep(Duration::from_mins(1)).await;
    Ok(Success::new())
}

/// Ends its process the first time only: the file that it makes says that there was one.
async fn deadly(context: Context, folder: String) -> Outcome {
    let mark = std::path::Path::new(&folder).join(context.job_id.to_string());
    if std::fs::File::create_new(mark).is_ok() {
        std::process::abort();
    }
    Success::with_result(&std::process::id())
}
