//! The size ratchet: files and functions that can be read at once. What is longer today is listed, and may only shrink.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    rust::{Rust, closing, files},
    tree::none,
};

/// Lines of a file.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 45;

/// Files that are longer, with their number of lines. Lower a number when a file shrinks; never raise one.
const LONG_FILES: [(&str, usize); 0] = [];

/// Functions that are longer, as `path: name`. Lower a number when one shrinks; never raise one.
const LONG_FUNCTIONS: [(&str, usize); 2] = [
    // Tables of cases.
    ("worker/src/outbound/guard/tests.rs: every_disguise_of_a_private_address_is_refused", 66),
    ("worker/src/outbound/retry_after/tests.rs: provider_headers_are_read_on_429", 48),
];

#[test]
fn no_file_is_too_long_to_read() -> Result<()> {
    let lengths = files()?.into_iter().map(|f| (f.source.path.clone(), f.source.text.lines().count()));
    compare("files", &lengths.filter(|(_, lines)| *lines > FILE_LINES_MAX).collect(), &LONG_FILES)
}

#[test]
fn no_function_is_too_long_to_read() -> Result<()> {
    let all = files()?;
    let lengths = all.iter().flat_map(functions);
    compare("functions", &lengths.filter(|(_, lines)| *lines > FUNCTION_LINES_MAX).collect(), &LONG_FUNCTIONS)
}

/// The long ones must be those of the list, each with exactly its number: so the list is lowered when one shrinks.
fn compare(what: &str, found: &BTreeMap<String, usize>, listed: &[(&str, usize)]) -> Result<()> {
    let listed: BTreeMap<&str, usize> = listed.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, lines) in found {
        match listed.get(name.as_str()) {
            None => broken.push(format!("{name} has {lines} lines")),
            Some(max) if lines > max => broken.push(format!("{name} has {lines} lines, it had {max}")),
            Some(max) if lines < max => broken.push(format!("{name} has only {lines} lines: lower its number from {max}")),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !found.contains_key(**name));
    broken.extend(gone.map(|name| format!("{name} is short now or gone: take it off the list")));
    none(&format!("{what} of more than {FILE_LINES_MAX} (files) or {FUNCTION_LINES_MAX} (functions) lines"), &broken)
}

/// Every function with a body, by `path: name`, and its lines. Two of one name in a file: the longer one.
fn functions(file: &Rust) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (at, keyword) in file.code.match_indices("fn ") {
        let part_of_a_word = file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = &file.code[at + keyword.len()..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(end) = end_of_signature(rest).filter(|_| !part_of_a_word && !name.is_empty()) else { continue };
        if !rest[end..].starts_with('{') {
            continue;
        }
        let open = at + keyword.len() + end;
        let lines = file.code[at..closing(&file.code, open)].lines().count();
        let longest = found.entry(format!("{}: {name}", file.source.path)).or_default();
        *longest = lines.max(*longest);
    }
    found
}

/// Where a body begins, or the semicolon of a function without one; the one in `[u8; 4]` is neither.
fn end_of_signature(rest: &str) -> Option<usize> {
    let mut brackets = 0usize;
    rest.char_indices().find_map(|(at, c)| {
        match c {
            '[' => brackets += 1,
            ']' => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        (brackets == 0 && matches!(c, ';' | '{')).then_some(at)
    })
}
