//! Dates in the notations of English and German texts, as ISO 8601.
//!
//! A date that can be read in two ways (`03/04/2024`) is left out: a wrong date is worse than none.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::pattern;

/// Years outside are more often numbers than dates.
const YEARS: std::ops::RangeInclusive<u32> = 1600..=2200;

const MONTH: &str = r"(?P<name>jan(?:uary|uar)?|jän(?:ner)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz|mrz|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|okt(?:ober)?|nov(?:ember)?|dec(?:ember)?|dez(?:ember)?)\.?";

static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b".to_owned(),
        r"\b(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})\b".to_owned(),
        r"\b(?P<one>\d{1,2})/(?P<two>\d{1,2})/(?P<year>\d{4})\b".to_owned(),
        format!(
            r"(?i)\b(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?\s(?:of\s)?{MONTH},?\s(?P<year>\d{{4}})\b"
        ),
        format!(r"(?i)\b{MONTH}\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<year>\d{{4}})\b"),
    ]
    .iter()
    .filter_map(|expression| pattern(expression))
    .collect()
});

/// All dates of a text, sorted, each once, as `2024-01-31`.
pub(super) fn find(text: &str) -> BTreeSet<String> {
    PATTERNS
        .iter()
        .flat_map(|pattern| pattern.captures_iter(text))
        .filter_map(|captures| date(&captures))
        .collect()
}

fn date(captures: &Captures) -> Option<String> {
    let number = |name| {
        captures
            .name(name)
            .and_then(|found| found.as_str().parse::<u32>().ok())
    };
    let year = number("year").filter(|year| YEARS.contains(year))?;
    let (month, day) = match (number("one"), number("two")) {
        (Some(one), Some(two)) => month_and_day(one, two)?,
        _ => (
            number("month")
                .or_else(|| captures.name("name").and_then(|name| month(name.as_str())))?,
            number("day")?,
        ),
    };
    let exists = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    exists.then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// British `31/12` and American `12/31`, if only one of them can be meant.
fn month_and_day(one: u32, two: u32) -> Option<(u32, u32)> {
    match (one > 12, two > 12) {
        (true, false) => Some((two, one)),
        (false, true) => Some((one, two)),
        _ if one == two => Some((one, two)),
        _ => None,
    }
}

/// By what no other month begins with, in both languages.
fn month(name: &str) -> Option<u32> {
    let name = name.to_lowercase();
    let starts: [(&str, u32); 17] = [
        ("ja", 1),
        ("jä", 1),
        ("f", 2),
        ("mar", 3),
        ("mä", 3),
        ("mr", 3),
        ("ap", 4),
        ("ma", 5),
        ("jun", 6),
        ("jul", 7),
        ("au", 8),
        ("s", 9),
        ("oc", 10),
        ("ok", 10),
        ("n", 11),
        ("dec", 12),
        ("dez", 12),
    ];
    starts
        .iter()
        .find(|(start, _)| name.starts_with(start))
        .map(|(_, month)| *month)
}

fn days_of(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // P2
    #[test]
    fn dates_of_both_languages_become_iso() {
        let text = "2024-02-29, 31.12.2023, 1. März 2024, January 3, 2024, 15th of August 2022, 12/31/2021, 31/12/2020, 4 Mai 2019";
        let expected = [
            "2019-05-04",
            "2020-12-31",
            "2021-12-31",
            "2022-08-15",
            "2023-12-31",
            "2024-01-03",
            "2024-02-29",
            "2024-03-01",
        ];
        assert_eq!(find(text).into_iter().collect::<Vec<_>>(), expected);
    }

    // P2
    #[test]
    fn impossible_and_ambiguous_dates_are_left_out() {
        for text in [
            "2023-02-29",
            "32.01.2024",
            "03/04/2024",
            "1.2.3.4",
            "12.12.0024",
            "May 2024",
        ] {
            assert!(find(text).is_empty(), "{text}");
        }
    }
}
