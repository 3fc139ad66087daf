//! Times on the command line: RFC 3339, or a distance from now such as `90s`, `15m`, `2h`, `7d`.

use chrono::{DateTime, Duration, Utc};
use millstream_common::clock;

/// `15m` is in fifteen minutes.
pub(super) fn ahead(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, DateTime::checked_add_signed)
}

/// `15m` was fifteen minutes ago.
pub(super) fn ago(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, DateTime::checked_sub_signed)
}

fn parse(text: &str, from_now: fn(DateTime<Utc>, Duration) -> Option<DateTime<Utc>>) -> Result<DateTime<Utc>, String> {
    if let Some(distance) = distance(text) {
        return from_now(clock::now(), distance).ok_or_else(|| "that is too far away".into());
    }
    let wrong = |_| "use a time such as 2030-01-31T12:00:00Z, or a distance such as 90s, 15m, 2h, 7d".to_owned();
    DateTime::parse_from_rfc3339(text).map(Into::into).map_err(wrong)
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
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_distances() {
        assert_eq!(ahead("2030-01-31T12:00:00Z").unwrap().timestamp(), 1_896_091_200);
        assert!(ahead("15m").unwrap() > clock::now() + Duration::minutes(14));
        assert!(ago("2h").unwrap() < clock::now() - Duration::minutes(119));
        for wrong in ["", "m", "soon", "-5m", "1é", "99999999999999999999d", "9223372036854775807d"] {
            assert!(ahead(wrong).is_err(), "{wrong}");
        }
    }
}
