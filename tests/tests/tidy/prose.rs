//! What the documents say can be followed: links lead somewhere, files that are named exist, the Rust in README.md compiles
//! elsewhere; and nobody left a note to himself.

use std::path::{Component, Path};

use anyhow::Result;

use super::{
    markdown::Markdown,
    tree::{none, read, root, sources, sources_with},
};

/// Words that must not stay in the tree, in two parts so that this file does not break its own law.
const LEFT_OVER: [(&str, &str); 6] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("/wo", "rk/"),
    ("/tmp/", "brief"),
];

/// Folders at the root whose files the documents name in code.
const FOLDERS: [&str; 9] = [
    "common/",
    "producer/",
    "worker/",
    "admin/",
    "tests/",
    "migrations/",
    "scripts/",
    "deploy/",
    "docs/",
];

/// Named, and made by whoever follows the document.
const MADE_LATER: [&str; 1] = ["deploy/.env"];

/// `docs/a.md` and `../b.md` → `b.md`. `None`: it leaves the repository.
fn resolve(document: &str, target: &str) -> Option<String> {
    let joined = Path::new(document).parent()?.join(target);
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            _ => {}
        }
    }
    Some(parts.join("/"))
}

#[test]
fn every_relative_link_leads_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    for document in sources_with("md")? {
        for (line, link) in Markdown::parse(&document.text).links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                Some(document.path.clone())
            } else {
                resolve(&document.path, path)
            };
            let exists = target
                .as_ref()
                .is_some_and(|target| root().join(target).exists());
            let anchored = anchor.is_empty()
                || target.and_then(|t| read(&t).ok()).is_some_and(|text| {
                    Markdown::parse(&text)
                        .anchors()
                        .contains(&anchor.to_owned())
                });
            if !exists || !anchored {
                broken.push(format!("{}:{line}: {link}", document.path));
            }
        }
    }
    none("links between files, and to headings in them", &broken)
}

#[test]
fn every_file_that_a_document_names_exists() -> Result<()> {
    let mut broken = Vec::new();
    // The changelog is history: it may name what is gone.
    for document in sources_with("md")?
        .into_iter()
        .filter(|d| d.path != "CHANGELOG.md")
    {
        for (line, span) in Markdown::parse(&document.text).spans {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder))
                && !span.contains([' ', '*', '<', '{', '…']);
            if is_path && !MADE_LATER.contains(&span.as_str()) && !root().join(&span).exists() {
                broken.push(format!("{}:{line}: {span}", document.path));
            }
        }
    }
    none("paths in code spans", &broken)
}

#[test]
fn the_rust_of_the_readme_is_compiled_as_a_doc_comment() -> Result<()> {
    let mut compiled = Vec::new();
    for path in ["producer/src/lib.rs", "worker/src/api/handler.rs"] {
        let text = read(path)?;
        let docs = text.lines().filter_map(|line| {
            line.trim()
                .strip_prefix("//!")
                .or_else(|| line.trim().strip_prefix("///"))
                .map(|l| l.trim().to_owned())
        });
        compiled.extend(docs);
    }
    let readme = Markdown::parse(&read("README.md")?);
    let rust = readme
        .blocks
        .iter()
        .filter(|(_, language, _)| language == "rust");
    let lines = rust.flat_map(|(at, _, lines)| {
        lines
            .iter()
            .enumerate()
            .map(move |(nth, line)| (at + 1 + nth, line.trim()))
    });
    let broken =
        lines.filter(|(_, line)| !line.is_empty() && !compiled.iter().any(|doc| doc == line));
    none(
        "lines that are in no doc comment of producer/src/lib.rs or worker/src/api/handler.rs",
        &broken
            .map(|(at, line)| format!("README.md:{at}: {line}"))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn nobody_left_a_note_to_himself_or_the_path_of_a_machine() -> Result<()> {
    let mut broken = Vec::new();
    for source in sources()? {
        for word in LEFT_OVER.map(|(a, b)| format!("{a}{b}")) {
            broken.extend(
                source
                    .text
                    .match_indices(&word)
                    .map(|(at, _)| format!("{}:{}: {word}", source.path, source.line_of(at))),
            );
        }
    }
    none("left over", &broken)
}
