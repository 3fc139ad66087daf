//! Times as people and programs write them: RFC 3339, whatever door they come in by.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use millstream_common::{clock, limits::bounded};

/// Four digits, as RFC 3339 says. Postgres and UUIDs reach further, and nobody means those years.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

/// A time with its offset. The error says what to write instead.
pub fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(offset) = lost_plus(text) {
        return Err(format!(
            "a \"+\" in an address stands for a space: write the offset as %2B{offset}, or the time in UTC with a \"Z\""
        ));
    }
    let parsed = DateTime::parse_from_rfc3339(text)
        .ok()
        .map(DateTime::<Utc>::from);
    parsed.filter(in_range).ok_or_else(|| {
        format!("\"{}\" is no time: use RFC 3339 with a year from 0000 to 9999, such as 2030-01-31T12:00:00Z", bounded(text, 40))
    })
}

/// A distance from now, if there is a time at that distance.
pub fn away(distance: TimeDelta) -> Option<DateTime<Utc>> {
    clock::now().checked_add_signed(distance).filter(in_range)
}

fn in_range(time: &DateTime<Utc>) -> bool {
    YEARS.contains(&time.year())
}

/// The offset of a time whose plus was read as a space, as in the query of an address.
fn lost_plus(text: &str) -> Option<&str> {
    let (time, offset) = text.rsplit_once(' ')?;
    let is_offset = offset.len() == 5
        && offset.as_bytes()[2] == b':'
        && offset.bytes().all(|b| b.is_ascii_digit() || b == b':');
    (is_offset && time.contains(['T', 't'])).then_some(offset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn times_of_four_digit_years_are_read() {
        // X08
        for (text, seconds) in [
            ("1900-01-01T00:00:00Z", -2_208_988_800),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("2026-01-01T02:00:00+02:00", 1_767_225_600),
            ("2026-01-01t00:00:00.5z", 1_767_225_600),
        ] {
            assert_eq!(parse(text).unwrap().timestamp(), seconds, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_to_write() {
        // X08
        let offsets = [
            "-9999-01-01T00:00:00Z",
            "+12026-01-01T00:00:00Z",
            "262143-01-01T00:00:00Z",
            "0000-01-01T00:00:00+01:00",
        ];
        for text in offsets.into_iter().chain([
            "",
            "tomorrow",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00",
            "NaN",
        ]) {
            assert!(parse(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
        assert!(
            parse("2026-01-01T00:00:00 02:00")
                .unwrap_err()
                .contains("%2B02:00")
        );
        assert!(
            parse("9999-12-31T23:59:59-01:00").is_err(),
            "it is in the year 10000"
        );
    }
}
