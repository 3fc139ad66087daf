//! The index of docs/guarantees.md: every rule is there once, and every test that it names exists.

use anyhow::{Context as _, Result, ensure};

use super::{
    markdown::Markdown,
    tree::{none, read, root},
};

const DOCUMENT: &str = "docs/guarantees.md";
/// The rules are numbered from 1 to this.
const RULES: usize = 152;
/// How a row without a test begins: it says why there is none.
const REASONS: [&str; 5] = [
    "not built yet",
    "does not apply",
    "held by",
    "not shown by a test",
    "PENDING",
];

/// Rows of the index: number, rule, how it is shown, line.
fn rows(text: &str) -> Vec<(usize, String, String, usize)> {
    let row = |(nth, line): (usize, &str)| {
        let cells: Vec<_> = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split(" | ")
            .map(str::trim)
            .collect();
        let [number, rule, shown] = cells[..] else {
            return None;
        };
        Some((
            number.parse().ok()?,
            rule.to_owned(),
            shown.to_owned(),
            nth + 1,
        ))
    };
    text.lines().enumerate().filter_map(row).collect()
}

/// `path: test` as it stands in a code span; `None` if the span is something else.
fn test(span: &str) -> Option<(&str, &str)> {
    let (path, name) = span.split_once(": ")?;
    (path.rsplit('.').next() == Some("rs")).then_some((path, name))
}

/// Whether the file has a test function of that name: an attribute with `test` in it stands before it.
fn has_test(path: &str, name: &str) -> Result<bool> {
    let text = read(path)?;
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else {
        return Ok(false);
    };
    let mut above = before
        .trim_end_matches("async ")
        .trim_end()
        .lines()
        .rev()
        .take_while(|line| !line.trim().is_empty() && line.trim() != "}");
    Ok(above.any(|line| line.trim().starts_with("#[") && line.contains("test")))
}

#[test]
fn every_rule_is_in_the_index_once_and_in_order() -> Result<()> {
    let numbers: Vec<usize> = rows(&read(DOCUMENT)?)
        .into_iter()
        .map(|(number, ..)| number)
        .collect();
    ensure!(
        numbers == (1..=RULES).collect::<Vec<_>>(),
        "the rules are {numbers:?}"
    );
    Ok(())
}

#[test]
fn every_rule_names_a_test_or_says_why_there_is_none() -> Result<()> {
    let mut broken = Vec::new();
    for (number, rule, shown, _) in rows(&read(DOCUMENT)?) {
        let named = Markdown::parse(&shown)
            .spans
            .iter()
            .any(|(_, span)| test(span).is_some());
        if rule.is_empty() || !(named || REASONS.iter().any(|reason| shown.starts_with(reason))) {
            broken.push(format!("rule {number}: {shown}"));
        }
    }
    none(
        &format!("a row ends with a test, or begins its reason with one of {REASONS:?}"),
        &broken,
    )
}

#[test]
fn every_test_that_the_index_names_exists() -> Result<()> {
    let text = read(DOCUMENT)?;
    let (mut broken, mut found) = (Vec::new(), 0);
    for (line, span) in Markdown::parse(&text).spans {
        let Some((path, name)) = test(&span) else {
            continue;
        };
        found += 1;
        if !root().join(path).exists() || !has_test(path, name).with_context(|| span.clone())? {
            broken.push(format!("{DOCUMENT}:{line}: {span}"));
        }
    }
    ensure!(
        found >= RULES / 2,
        "only {found} tests are named: the search looks for the wrong thing"
    );
    none("tests that are named", &broken)
}
