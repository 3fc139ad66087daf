//! Names that people type: settings, environment variables, commands. What a document or a message names, exists.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use millstream_common::config::DEFAULTS;

use super::{
    markdown::Markdown,
    tree::{none, read, root, sources, sources_with},
};

/// Variables that are not settings of the program, and whose they are.
const NO_SETTINGS: [&str; 3] = [
    // The Compose file: where on the host things listen.
    "MILLSTREAM_BIND",
    // The Makefile hands these to the fault-injection tests.
    "MILLSTREAM_CHAOS_MINUTES",
    "MILLSTREAM_CHAOS_SEED",
];

/// Keys of the default file: `log`, `worker.lease_ms`.
fn settings() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            keys.insert(format!("{section}{}", key.trim()));
        }
    }
    keys
}

/// `worker.lease_ms` → `MILLSTREAM_WORKER__LEASE_MS`.
fn variable(key: &str) -> String {
    format!("MILLSTREAM_{}", key.replace('.', "__").to_uppercase())
}

#[test]
fn every_variable_that_is_named_anywhere_is_a_setting() -> Result<()> {
    let known: BTreeSet<String> = settings().iter().map(|key| variable(key)).collect();
    let mut broken = Vec::new();
    for source in sources()? {
        for (at, _) in source.text.match_indices("MILLSTREAM_") {
            let name: String = source.text[at..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            // `MILLSTREAM_<SECTION>__<KEY>` and `MILLSTREAM_*` name a form, not a variable.
            if !name.ends_with('_')
                && !known.contains(&name)
                && !NO_SETTINGS.contains(&name.as_str())
            {
                broken.push(format!("{}:{}: {name}", source.path, source.line_of(at)));
            }
        }
    }
    none(
        "variables that common/src/config/default.toml does not have",
        &broken,
    )
}

#[test]
fn every_setting_that_a_document_names_exists() -> Result<()> {
    let known = settings();
    let sections: BTreeSet<&str> = known
        .iter()
        .filter_map(|key| key.split_once('.'))
        .map(|(section, _)| section)
        .collect();
    let mut broken = Vec::new();
    for document in sources_with("md")? {
        for (line, span) in Markdown::parse(&document.text).spans {
            let named = span.split(['=', ' ']).next().unwrap_or_default();
            let Some((section, key)) = named.split_once('.') else {
                continue;
            };
            let is_key = !key.is_empty()
                && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && key != "rs";
            if is_key && sections.contains(section) && !known.contains(named) {
                broken.push(format!("{}:{line}: {named}", document.path));
            }
        }
    }
    none(
        "settings that common/src/config/default.toml does not have",
        &broken,
    )
}

/// The names that clap gives to the variants of an enum: `ReadLog` → `read-log`.
fn variants(source: &str, of: &str) -> Result<BTreeSet<String>> {
    let (_, body) = source
        .split_once(&format!("enum {of} {{\n"))
        .with_context(|| format!("no enum {of}"))?;
    let body = body.split("\n}").next().unwrap_or(body);
    let lines = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let names = lines.map(|line| {
        line.split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default()
    });
    Ok(names.map(kebab).collect())
}

fn kebab(name: &str) -> String {
    let parts = name.char_indices().map(|(nth, c)| {
        if c.is_ascii_uppercase() && nth > 0 {
            format!("-{}", c.to_ascii_lowercase())
        } else {
            c.to_ascii_lowercase().to_string()
        }
    });
    parts.collect()
}

/// What stands behind `millstream` (or `$(MILLSTREAM)`) in code, as (place, words).
fn commands() -> Result<Vec<(String, Vec<String>)>> {
    let words = |code: &str| {
        code.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for document in sources_with("md")? {
        let parsed = Markdown::parse(&document.text);
        let blocks = parsed.blocks.iter().flat_map(|(at, _, lines)| {
            lines
                .iter()
                .enumerate()
                .map(move |(nth, line)| (at + 1 + nth, line.trim()))
        });
        let code = parsed
            .spans
            .iter()
            .map(|(at, span)| (*at, span.as_str()))
            .chain(blocks);
        found.extend(code.filter_map(|(at, code)| {
            Some((
                format!("{}:{at}", document.path),
                words(code.strip_prefix("millstream ")?),
            ))
        }));
    }
    let makefile = read("Makefile")?;
    let lines = makefile.lines().enumerate();
    found.extend(lines.filter_map(|(nth, line)| {
        Some((
            format!("Makefile:{}", nth + 1),
            words(line.strip_prefix("\t$(MILLSTREAM) ")?),
        ))
    }));
    Ok(found)
}

#[test]
fn every_command_that_is_named_exists() -> Result<()> {
    let known = variants(&read("admin/src/cli/mod.rs")?, "Command")?;
    let is_word = |word: &&String| {
        word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
    };
    let mut broken = Vec::new();
    for (place, words) in commands()? {
        let Some(command) = words.first().filter(is_word) else {
            continue;
        };
        let file = format!("admin/src/cli/{command}.rs");
        let acts = root()
            .join(&file)
            .exists()
            .then(|| read(&file))
            .transpose()?
            .and_then(|source| variants(&source, "Act").ok());
        let act_exists = match (acts, words.get(1).filter(is_word)) {
            (Some(acts), Some(act)) => acts.contains(act),
            _ => true,
        };
        if !known.contains(command) || !act_exists {
            broken.push(format!("{place}: millstream {}", words.join(" ")));
        }
    }
    none("commands that admin/src/cli does not have", &broken)
}

#[test]
fn every_command_is_in_the_overview() -> Result<()> {
    let overview = read("docs/cli.md")?;
    let known = variants(&read("admin/src/cli/mod.rs")?, "Command")?;
    let missing = known
        .iter()
        .filter(|command| !overview.contains(&format!("| `millstream {command}")));
    none(
        "commands that docs/cli.md does not have",
        &missing.cloned().collect::<Vec<_>>(),
    )
}

/// `GET /v1/jobs` and so on, from lines such as `get("/v1/jobs", …)`.
fn endpoints(routes: &str) -> BTreeSet<String> {
    let method = |line: &str| {
        [
            ("get(\"", "GET"),
            ("post(\"", "POST"),
            ("put(\"", "PUT"),
            ("delete(\"", "DELETE"),
        ]
        .into_iter()
        .find_map(|(call, method)| {
            let (path, _) = line.trim().strip_prefix(call)?.split_once('"')?;
            Some(format!("{method} {path}"))
        })
    };
    routes.lines().filter_map(method).collect()
}

#[test]
fn the_overview_of_the_api_has_every_endpoint_and_no_other() -> Result<()> {
    let served = endpoints(&read("admin/src/api/routes.rs")?);
    ensure!(
        served.len() > 5,
        "the endpoints are not where they are looked for"
    );
    let overview = read("docs/http-api.md")?;
    let told = overview
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(endpoint, _)| endpoint.to_owned());
    assert_eq!(
        told.filter(|endpoint| endpoint.contains(" /"))
            .collect::<BTreeSet<_>>(),
        served
    );
    Ok(())
}
