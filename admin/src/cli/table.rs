//! Printing: tables for people, JSON for programs.
//!
//! Whatever comes from outside (names, errors, payloads) passes `common::printable` before it reaches a terminal: here, where every line of an
//! answer goes out. A reader that has gone ends the command quietly.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
pub use millstream_common::printable::printable;
use millstream_common::printable::{printable_json, printable_lines};
pub use millstream_worker::program::say;
use serde::Serialize;

use super::{context::Invocation, exit::CommandError};

/// Longest text in one cell in characters; JSON has all of it.
const CELL_CHARS_MAX: usize = 60;

/// One line below the header; the rest is space, so that a row is one line for `grep` and `cut`.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Prints a line of the answer, or several.
pub fn line(text: &str) -> Result<(), CommandError> {
    writeln!(std::io::stdout().lock(), "{}", printable_lines(text))?;
    Ok(())
}

/// Prints one JSON document on one line.
pub fn json<T: Serialize>(value: &T) -> Result<(), CommandError> {
    let text = serde_json::to_string(value)
        .map_err(|e| CommandError::failed(format!("the answer cannot be written as JSON: {e}")))?;
    // Payloads are kept as they were written, and may have line ends between their parts; inside a string there can be none.
    line(&printable_json(&text))
}

/// Prints a list: one JSON object per line, or a table.
pub fn list<T: Serialize>(
    context: &Invocation,
    items: &[T],
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), CommandError> {
    if context.json {
        return items.iter().try_for_each(json);
    }
    line(&render(header, items.iter().map(cells)))
}

/// Prints one thing: one JSON document, or a line per field.
pub fn one<T: Serialize>(
    context: &Invocation,
    item: &T,
    fields: impl Fn(&T) -> Vec<(&'static str, String)>,
) -> Result<(), CommandError> {
    if context.json {
        return json(item);
    }
    let fields = fields(item);
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields
        .iter()
        .try_for_each(|(name, value)| line(&format!("{name:width$}  {}", printable(value))))
}

/// A table as text.
pub fn render(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| short(cell)).collect::<Vec<_>>());
    }
    table.trim_fmt()
}

fn short(text: &str) -> String {
    let text = printable(text);
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    let kept: String = text.chars().take(CELL_CHARS_MAX - 1).collect();
    format!("{kept}…")
}

/// A moment, to the second.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A moment that may be missing.
pub fn maybe_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), time)
}

/// A value that may be missing.
pub fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// `1 job`, `2 jobs`.
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

/// A duration for people.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A size for people.
pub fn bytes(bytes: i64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 0.1 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        format!("{mib:.1} MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        // S07
        let table = render(
            &["name"],
            std::iter::once(vec!["\u{1b}[2Jx\ny\u{202e}z".to_owned()]),
        );
        assert!(table.contains(r"\u{1b}[2Jx y\u{202e}z"), "{table}");
    }

    #[test]
    fn long_cells_are_cut() {
        let table = render(&["error"], std::iter::once(vec!["é".repeat(500)]));
        assert!(table.contains('…') && table.lines().all(|l| l.chars().count() < 70));
    }
}
