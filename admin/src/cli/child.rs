//! This program again, as a process that ends with this one.

use std::{path::Path, process::Stdio};

use millstream_common::config::Config;
use tokio::process::Command;

/// `millstream worker` at the same servers. Credentials travel in the environment, where other users cannot see them.
pub(super) fn this_program_as_a_worker(config: &Config) -> std::io::Result<Command> {
    let mut command = command_that_ends_with_us(&std::env::current_exe()?);
    command
        .arg("worker")
        .env("DATABASE_URL", config.database.url.expose())
        .env("REDIS_URL", config.redis.url.expose())
        .env("MILLSTREAM_OBJECTS__URL", &config.objects.url)
        .env("MILLSTREAM_REDIS__PREFIX", &config.redis.prefix)
        // What it may delete is not for its own configuration to say.
        .env(
            "MILLSTREAM_RETENTION__KEEP_DAYS",
            config.retention.keep_days.to_string(),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Through `setpriv` where there is one (Linux): then the kernel ends the child even when this process is killed outright.
fn command_that_ends_with_us(program: &Path) -> Command {
    let path = millstream_common::config::search_path();
    if !std::env::split_paths(&path).any(|dir| dir.join("setpriv").is_file()) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}
