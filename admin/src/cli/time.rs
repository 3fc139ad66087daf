//! Times on the command line: RFC 3339, or a distance from now such as `90s`, `15m`, `2h`, `7d`.

use chrono::{DateTime, Duration, Utc};

use crate::ops::times;

/// `15m` is in fifteen minutes.
pub(super) fn ahead(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, |distance| distance)
}

/// `15m` was fifteen minutes ago.
pub(super) fn ago(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, |distance| -distance)
}

fn parse(text: &str, from_now: fn(Duration) -> Duration) -> Result<DateTime<Utc>, String> {
    match distance(text) {
        Some(distance) => {
            times::away(from_now(distance)).ok_or_else(|| "that is too far away".into())
        }
        None => times::parse(text)
            .map_err(|why| format!("{why}, or a distance such as 90s, 15m, 2h, 7d")),
    }
}

fn distance(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|n| *n >= 0)?;
    match unit {
        "s" => Duration::try_seconds(number),
        "m" => Duration::try_minutes(number),
        "h" => Duration::try_hours(number),
        "d" => Duration::try_days(number),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use millstream_common::clock;

    use super::*;

    #[test]
    fn times_are_rfc_3339_or_distances() {
        assert_eq!(
            ahead("2030-01-31T12:00:00Z").unwrap().timestamp(),
            1_896_091_200
        );
        assert!(ahead("15m").unwrap() > clock::now() + Duration::minutes(14));
        assert!(ago("2h").unwrap() < clock::now() - Duration::minutes(119));
        for wrong in [
            "",
            "m",
            "soon",
            "-5m",
            "1é",
            "99999999999999999999d",
            "9223372036854775807d",
            "4000000d",
            "-9999-01-01T00:00:00Z",
        ] {
            assert!(ahead(wrong).is_err(), "{wrong}");
        }
    }
}
