//! What is said to Redis and Postgres, and where: the traps of Redis, and "What a job costs" in docs/performance.md.

use anyhow::Result;

use super::{
    rust::{Rust, files},
    sql::{stars_of_tables, without_comments},
    tree::{Source, none, sources_with},
};

const KEYS: &str = "common/src/stream/keys.rs";
const PUBLISH: &str = "common/src/stream/publish.lua";
const PROBE: &str = "common/src/stream/probe.lua";
const NOTICE: &str = "worker/src/settle/notice.lua";
const DEAD_STREAM: &str = "worker/src/settle/dead_stream.rs";

/// What every key has somewhere: the tag of a queue, or the last part of a key.
const KEY_PARTS: [&str; 6] = [":q:", ":window", ":dead", ":incarnation", ":probe", ":{{{}"];

/// String literals of programs outside `except` for which `breaks` holds.
fn literals(except: &str, breaks: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let files = files()?;
    let others = files.iter().filter(|f| f.source.path != except);
    Ok(others
        .flat_map(|f| {
            f.program_literals()
                .filter(|(_, text)| breaks(text))
                .map(|(at, text)| format!("{}: {text:?}", f.at(at)))
                .collect::<Vec<_>>()
        })
        .collect())
}

/// Lines of Lua outside `except` that contain a word in code.
fn lua_lines(except: &str, word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for script in sources_with("lua")?.iter().filter(|s| s.path != except) {
        let lines = script
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.split("--").next().unwrap_or("").contains(word));
        found.extend(lines.map(|(nth, line)| format!("{}:{}: {line}", script.path, nth + 1)));
    }
    Ok(found)
}

/// Code of programs that contains one of these words.
fn code(words: &[&str]) -> Result<Vec<String>> {
    let files = files()?;
    let find = |file: &Rust| {
        words
            .iter()
            .flat_map(|word| {
                file.program_code(word)
                    .into_iter()
                    .map(|at| format!("{}: {word}", file.at(at)))
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    Ok(files.iter().flat_map(find).collect())
}

#[test]
fn redis_keys_are_spelled_in_one_file() -> Result<()> {
    let mut broken = literals(KEYS, |text| {
        KEY_PARTS.iter().any(|part| text.contains(part))
    })?;
    // Scripts are given their keys: a name of a key in Lua would have a colon.
    broken.extend(lua_lines("", ":")?);
    none(&format!("keys are made by {KEYS}"), &broken)
}

#[test]
fn only_the_dead_letter_stream_is_capped() -> Result<()> {
    let mut broken = literals(DEAD_STREAM, |text| {
        text.contains("MAXLEN") || text.contains("XTRIM")
    })?;
    broken.extend(lua_lines("", "MAXLEN")?);
    broken.extend(lua_lines("", "XTRIM")?);
    broken.extend(code(&["StreamMaxlen", ".xtrim", ".xadd_maxlen"])?);
    none("MAXLEN on a work stream deletes work", &broken)
}

#[test]
fn entries_are_added_in_two_places() -> Result<()> {
    let mut broken = literals(DEAD_STREAM, |text| text.contains("XADD"))?;
    // The probe has a stream of its own, which no worker reads; the notices are those of the dead-letter stream.
    broken.extend(
        lua_lines(PUBLISH, "XADD")?
            .into_iter()
            .filter(|line| !line.starts_with(PROBE) && !line.starts_with(NOTICE)),
    );
    // The bare path of the bench has a stream of its own, which no worker reads.
    broken.extend(
        code(&[".xadd"])?
            .into_iter()
            .filter(|place| !place.starts_with("admin/src/cli/bench/raw.rs")),
    );
    none(
        &format!("XADD stands in {PUBLISH} and {DEAD_STREAM} only"),
        &broken,
    )
}

#[test]
fn no_read_blocks_for_ever() -> Result<()> {
    let mut broken = literals("", |text| text.contains("BLOCK 0"))?;
    broken.extend(code(&[".block(0)", "StreamReadOptions"])?);
    for file in files()? {
        for (at, _) in file.program_literals().filter(|(_, text)| *text == "BLOCK") {
            let rest: String = file.source.text[at..]
                .chars()
                .take(60)
                .filter(|c| !c.is_whitespace())
                .collect();
            if rest.contains(".arg(0") || rest.contains(".arg(\"0\"") {
                broken.push(file.at(at));
            }
        }
    }
    none("BLOCK has an end", &broken)
}

#[test]
fn no_transaction_is_asked_of_redis() -> Result<()> {
    let mut broken = literals("", |text| ["MULTI", "EXEC", "WATCH"].contains(&text))?;
    // The one in a build that is broken on purpose, which a test must notice.
    broken.extend(
        code(&[".atomic()"])?
            .into_iter()
            .filter(|at| !at.contains("claim/ack.rs")),
    );
    none(
        "MULTI fails when Redis is full, and then nothing could drain",
        &broken,
    )
}

#[test]
fn nobody_notifies_or_listens() -> Result<()> {
    let is_word = |text: &str, word: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|w| w == word)
    };
    let breaks = |text: &str| {
        is_word(text, "NOTIFY") || is_word(text, "LISTEN") || text.contains("pg_notify")
    };
    let mut broken = literals("", breaks)?;
    broken.extend(code(&["PgListener"])?);
    broken.extend(
        migrations()?
            .into_iter()
            .filter(|s| breaks(&without_comments(&s.text)))
            .map(|s| s.path),
    );
    none("NOTIFY serialises commits", &broken)
}

// rule 34: a session may be another one in the next statement
#[test]
fn no_statement_leaves_anything_in_its_session() -> Result<()> {
    const KEPT: [&str; 6] = [
        "pg_advisory_lock(",
        "pg_try_advisory_lock(",
        "SET SESSION",
        "CREATE TEMP",
        "PREPARE ",
        "WITH HOLD",
    ];
    let kept = |text: &str| KEPT.iter().any(|word| text.contains(word));
    let mut broken = literals("", kept)?;
    for migration in migrations()? {
        let sql = without_comments(&migration.text);
        broken.extend(
            KEPT.iter()
                .filter(|word| sql.contains(**word))
                .map(|word| format!("{}: {word}", migration.path)),
        );
    }
    none(
        "locks end with their transaction, settings are LOCAL",
        &broken,
    )
}

#[test]
fn no_statement_selects_every_column_of_a_table() -> Result<()> {
    let mut broken = Vec::new();
    for file in files()? {
        for (at, text) in file.program_literals() {
            broken.extend(
                stars_of_tables(text)
                    .into_iter()
                    .map(|(star, table)| format!("{}: * from {table}", file.at(at + 1 + star))),
            );
        }
    }
    for migration in migrations()? {
        let stars = stars_of_tables(&without_comments(&migration.text));
        broken.extend(stars.into_iter().map(|(at, table)| {
            format!(
                "{}:{}: * from {table}",
                migration.path,
                migration.line_of(at)
            )
        }));
    }
    none(
        "columns are named: one added later must not change what a statement returns",
        &broken,
    )
}

fn migrations() -> Result<Vec<Source>> {
    Ok(sources_with("sql")?
        .into_iter()
        .filter(|s| s.path.starts_with("migrations/"))
        .collect())
}
