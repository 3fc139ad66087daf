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

/// Lines of a function below `tests/`: a test tells its story from the set-up to the proof in one place.
const TEST_LINES_MAX: usize = 105;

/// Files that are longer, with their number of lines. Lower a number when a file shrinks; never raise one.
const LONG_FILES: [(&str, usize); 14] = [
    ("admin/local/src/lib.rs", 413),
    ("tests/src/chaos/catalogue/mod.rs", 492),
    ("tests/src/chaos/judge/tests.rs", 539),
    ("tests/tests/cli.rs", 401),
    ("tests/tests/field/report.rs", 445),
    ("tests/tests/field/schema.rs", 476),
    ("tests/tests/field/told.rs", 475),
    ("tests/tests/guarantees/retention.rs", 417),
    ("tests/tests/jobs.rs", 484),
    ("tests/tests/model/worker.rs", 430),
    ("worker/src/claim/reader.rs", 418),
    ("worker/documents/src/tools/analyse_local/products.rs", 431),
    ("worker/documents/src/tools/pdf/text.rs", 405),
    ("worker/src/duties/dispatch.rs", 422),
];

/// Functions that are longer, as `path: name`. Lower a number when one shrinks; never raise one.
const LONG_FUNCTIONS: [(&str, usize); 31] = [
    ("admin/src/cli/doctor/postgres.rs: judge", 49),
    (
        "admin/src/cli/documents/files.rs: x51_links_are_followed_once_and_what_is_no_file_is_passed_over",
        48,
    ),
    (
        "worker/src/program/outage.rs: every_refusal_of_redis_has_its_true_sentence",
        92,
    ),
    ("worker/src/program/outage.rs: postgres_said", 64),
    (
        "admin/src/ops/request.rs: x09_every_decoding_error_names_the_field_and_the_form",
        56,
    ),
    ("admin/local/src/lib.rs: start_missing", 61),
    ("common/src/config/mod.rs: faults", 61),
    (
        "common/src/metrics/tests.rs: names_follow_the_conventions_of_prometheus",
        48,
    ),
    ("common/src/persist.rs: insert", 51),
    (
        "common/src/redact/tests.rs: secrets_are_recognised_by_their_shape",
        48,
    ),
    (
        "common/src/redact/tests.rs: x67_no_secret_survives_its_storage",
        52,
    ),
    (
        "common/src/stream/remedy.rs: every_refusal_has_its_remedy",
        116,
    ),
    ("tests/src/chaos/catalogue/mod.rs: of_processes", 119),
    ("tests/src/chaos/catalogue/mod.rs: of_redis", 160),
    ("worker/src/claim/direct.rs: take_hints", 50),
    ("worker/src/claim/rows.rs: claim", 59),
    ("worker/documents/src/extract/drawn.rs: draw", 52),
    ("worker/documents/src/image.rs: run", 58),
    (
        "worker/documents/src/tools/analyse_local/classify.rs: each_kind_is_told_by_its_words_and_lines",
        46,
    ),
    ("worker/documents/src/tools/ocr/table.rs: parse_word", 46),
    (
        "worker/documents/src/tools/png/reduce.rs: write_reduced",
        49,
    ),
    ("worker/documents/src/tools/sandbox.rs: run_program", 50),
    (
        "worker/documents/src/tools/sandbox/confine/calls.rs: x70_a_file_is_changed_by_a_descriptor_for_writing_and_by_nothing_else",
        53,
    ),
    ("worker/src/duties/dispatch.rs: take", 49),
    ("worker/src/duties/takeover.rs: hand_out", 48),
    ("worker/src/duties/takeover.rs: take_over", 49),
    (
        "worker/models/src/openai/tests.rs: failures_are_sorted_and_never_show_the_key",
        65,
    ),
    (
        "worker/models/src/tei/tests.rs: failures_are_sorted_by_what_tei_means_with_them",
        50,
    ),
    (
        "worker/outbound/src/guard/tests.rs: every_disguise_of_a_private_address_is_refused",
        69,
    ),
    (
        "worker/outbound/src/retry_after/tests.rs: provider_headers_are_read_on_429",
        69,
    ),
    ("worker/src/worker.rs: assemble", 47),
];

#[test]
fn no_file_is_too_long_to_read() -> Result<()> {
    let lengths = files()?
        .into_iter()
        .map(|f| (f.source.path.clone(), f.source.text.lines().count()));
    compare(
        "files",
        &lengths
            .filter(|(_, lines)| *lines > FILE_LINES_MAX)
            .collect(),
        &LONG_FILES,
    )
}

#[test]
fn no_function_is_too_long_to_read() -> Result<()> {
    let all = files()?;
    let lengths = all.iter().flat_map(functions);
    compare(
        "functions",
        &lengths
            .filter(|(name, lines)| *lines > lines_max(name))
            .collect(),
        &LONG_FUNCTIONS,
    )
}

/// The limit of a function, by its `path: name`.
fn lines_max(name: &str) -> usize {
    if name.starts_with("tests/") {
        TEST_LINES_MAX
    } else {
        FUNCTION_LINES_MAX
    }
}

/// The long ones must be those of the list, each with exactly its number: so the list is lowered when one shrinks.
fn compare(what: &str, found: &BTreeMap<String, usize>, listed: &[(&str, usize)]) -> Result<()> {
    let listed: BTreeMap<&str, usize> = listed.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, lines) in found {
        match listed.get(name.as_str()) {
            None => broken.push(format!("{name} has {lines} lines")),
            Some(max) if lines > max => {
                broken.push(format!("{name} has {lines} lines, it had {max}"));
            }
            Some(max) if lines < max => broken.push(format!(
                "{name} has only {lines} lines: lower its number from {max}"
            )),
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !found.contains_key(**name));
    broken.extend(gone.map(|name| format!("{name} is short now or gone: take it off the list")));
    none(
        &format!(
            "{what} of more than {FILE_LINES_MAX} (files) or {FUNCTION_LINES_MAX} (functions) lines"
        ),
        &broken,
    )
}

/// Every function with a body, by `path: name`, and its lines. Two of one name in a file: the longer one.
fn functions(file: &Rust) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (at, keyword) in file.code.match_indices("fn ") {
        let part_of_a_word = file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = &file.code[at + keyword.len()..];
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let Some(end) = end_of_signature(rest).filter(|_| !part_of_a_word && !name.is_empty())
        else {
            continue;
        };
        if !rest[end..].starts_with('{') {
            continue;
        }
        let open = at + keyword.len() + end;
        let lines = file.code[at..closing(&file.code, open)].lines().count();
        let longest = found
            .entry(format!("{}: {name}", file.source.path))
            .or_default();
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
