//! Who may read the environment, and how files begin.

use anyhow::Result;

use super::{
    rust::files,
    tree::{none, sources, sources_with},
};

/// Two statements fit side by side on a screen.
const SQL_COLUMNS_MAX: usize = 100;

#[test]
fn only_the_configuration_reads_the_environment() -> Result<()> {
    let mut broken = Vec::new();
    for file in files()?
        .iter()
        .filter(|f| !f.source.path.starts_with("common/src/config/"))
    {
        for what in [
            "env::var(",
            "env::var_os(",
            "env::vars(",
            "env::vars_os(",
            "providers::Env",
        ] {
            broken.extend(
                file.program_code(what)
                    .into_iter()
                    .map(|at| format!("{}: {what}", file.at(at))),
            );
        }
    }
    none(
        "the environment is read in common/src/config/ only",
        &broken,
    )
}

#[test]
fn every_rust_file_opens_with_what_it_is_for() -> Result<()> {
    let headless = sources_with("rs")?
        .into_iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| format!("{}:1", s.path));
    none(
        "the first line begins with //!",
        &headless.collect::<Vec<_>>(),
    )
}

#[test]
fn every_lua_script_says_what_it_takes_and_returns() -> Result<()> {
    let mut broken = Vec::new();
    for script in sources_with("lua")? {
        let header: Vec<&str> = script
            .text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .collect();
        let header = header.join("\n");
        for word in ["KEYS[1]", "ARGV[1]", "Returns"] {
            if !header.contains(word) {
                broken.push(format!("{}:1 does not tell {word}", script.path));
            }
        }
    }
    none("a Lua file begins with KEYS, ARGV, Returns", &broken)
}

#[test]
fn lines_of_sql_can_be_read() -> Result<()> {
    let mut broken = Vec::new();
    for script in sources_with("sql")? {
        let long = script
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.chars().count() > SQL_COLUMNS_MAX);
        broken.extend(long.map(|(nth, _)| format!("{}:{}", script.path, nth + 1)));
    }
    none(
        &format!("a line of SQL has at most {SQL_COLUMNS_MAX} characters"),
        &broken,
    )
}

#[test]
fn every_migration_goes_up_and_down() -> Result<()> {
    let names = sources()?
        .into_iter()
        .filter_map(|s| s.path.strip_prefix("migrations/").map(str::to_owned));
    let names: Vec<String> = names.collect();
    let mut broken = Vec::new();
    let mut numbers: Vec<u32> = Vec::new();
    for name in &names {
        let (number, _) = name.split_once('_').unwrap_or((name, ""));
        let partner = match (name.strip_suffix(".up.sql"), name.strip_suffix(".down.sql")) {
            (Some(stem), _) => format!("{stem}.down.sql"),
            (_, Some(stem)) => format!("{stem}.up.sql"),
            _ => String::new(),
        };
        if number.len() != 4 || !names.contains(&partner) {
            broken.push(format!(
                "migrations/{name} has no partner ({partner}) or no number of four digits"
            ));
        }
        numbers.extend(
            number
                .parse::<u32>()
                .ok()
                .filter(|_| name.ends_with(".up.sql")),
        );
    }
    numbers.sort_unstable();
    if numbers != (1..=numbers.len() as u32).collect::<Vec<_>>() {
        broken.push(format!("the numbers are not 1, 2, 3 …: {numbers:?}"));
    }
    none("NNNN_name.up.sql and NNNN_name.down.sql", &broken)
}
