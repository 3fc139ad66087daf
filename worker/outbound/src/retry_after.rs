//! How long a server asks us to stay away, read from its headers and body.
//!
//! Pure: headers, body, status and the time in; a wait out. Sources in order of precision:
//! `retry-after-ms`, `Retry-After`, the body's `RetryInfo` (Gemini), and on 429 the reset headers of
//! `OpenAI` and Anthropic. A value that is zero, negative or past is a placeholder and says nothing:
//! obeying it would retry at once, and a rate-limited attempt is not counted. What is told is clamped
//! to one hour. It does not know what the caller does with the wait.

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// No server may park a job for longer than this; after it the job asks again.
pub const WAIT_MAX: Duration = Duration::from_hours(1);

/// `OpenAI` and its imitators, one pair of headers per kind of quota.
const OPENAI_QUOTAS: [&str; 2] = ["requests", "tokens"];

/// Anthropic, likewise; `tokens` is the tighter of the two token quotas.
const ANTHROPIC_QUOTAS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// The wait that the server asked for, in `(0, 1 h]`, or `None` when it did not say.
pub fn retry_after(
    status: u16,
    headers: &HeaderMap,
    body: Option<&Value>,
    now: DateTime<Utc>,
) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let told = milliseconds(headers)
        .or_else(|| retry_after_header(headers, now))
        .or_else(|| body.and_then(retry_info));
    // A 503 is no matter of quotas, so its reset headers, sent with every answer, mean nothing.
    let told = told.or_else(|| {
        if status == 429 {
            quota_reset(headers, now)
        } else {
            None
        }
    });
    told.map(|wait| wait.min(WAIT_MAX))
}

/// Whether a 429 means that the account is out of money: waiting does not help.
pub fn is_quota_exhausted(body: Option<&Value>) -> bool {
    let Some(error) = body.and_then(|body| body.get("error")) else {
        return false;
    };
    ["code", "type"]
        .iter()
        .any(|field| error.get(field).and_then(Value::as_str) == Some("insufficient_quota"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn milliseconds(headers: &HeaderMap) -> Option<Duration> {
    positive(decimal(text(headers, "retry-after-ms")?)? / 1_000.0)
}

fn retry_after_header(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = text(headers, "retry-after")?;
    match decimal(value) {
        Some(seconds) => positive(seconds),
        None => until(httpdate::parse_http_date(value).ok()?.into(), now),
    }
}

/// `error.details[]` of Google's APIs: `{"@type": "…/google.rpc.RetryInfo", "retryDelay": "34s"}`.
/// Their batch and proxy variants wrap the same object in a list.
fn retry_info(body: &Value) -> Option<Duration> {
    let body = body.get(0).unwrap_or(body);
    let details = body.get("error")?.get("details")?.as_array()?;
    details.iter().find_map(|detail| {
        let kind = detail.get("@type")?.as_str()?;
        let delay = detail.get("retryDelay")?.as_str()?;
        if kind.ends_with("google.rpc.RetryInfo") {
            go_duration(delay)
        } else {
            None
        }
    })
}

/// A quota and how long until it is full again.
struct Reset {
    exhausted: bool,
    wait: Duration,
}

/// The quotas that are used up decide. If the server names none, the slowest is the safe choice.
fn quota_reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let openai = OPENAI_QUOTAS.iter().filter_map(|quota| {
        let header = |part: &str| format!("x-ratelimit-{part}-{quota}");
        reset(headers, &header, &|value| delay(value))
    });
    let anthropic = ANTHROPIC_QUOTAS.iter().filter_map(|quota| {
        let header = |part: &str| format!("anthropic-ratelimit-{quota}-{part}");
        reset(headers, &header, &|value| instant(value, now))
    });
    let resets: Vec<Reset> = openai.chain(anthropic).collect();
    let exhausted = resets
        .iter()
        .filter(|reset| reset.exhausted)
        .map(|reset| reset.wait)
        .max();
    exhausted.or_else(|| resets.iter().map(|reset| reset.wait).max())
}

/// Azure sends `-1` and `0` as limits that do not exist; such a quota is ignored whole.
fn reset(
    headers: &HeaderMap,
    header: &dyn Fn(&str) -> String,
    read: &dyn Fn(&str) -> Option<Duration>,
) -> Option<Reset> {
    let number =
        |part: &str| text(headers, &header(part)).and_then(|value| value.parse::<i64>().ok());
    if number("limit").is_some_and(|limit| limit <= 0) {
        return None;
    }
    Some(Reset {
        exhausted: number("remaining") == Some(0),
        wait: read(text(headers, &header("reset"))?)?,
    })
}

/// Seconds as a number (Azure) or a Go duration (`OpenAI`).
fn delay(value: &str) -> Option<Duration> {
    match decimal(value) {
        Some(seconds) => positive(seconds),
        None => go_duration(value),
    }
}

fn instant(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    until(DateTime::parse_from_rfc3339(value).ok()?.to_utc(), now)
}

/// Digits with at most one point. `f64::from_str` alone would also take `inf`, `nan` and `1e9`.
fn decimal(value: &str) -> Option<f64> {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { value.parse().ok() } else { None }
}

/// Beyond the clamp anything is the clamp, which also keeps absurd numbers out of `Duration`.
fn positive(seconds: f64) -> Option<Duration> {
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
}

fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    let wait = then.signed_duration_since(now).to_std().ok()?;
    (!wait.is_zero()).then_some(wait)
}

/// A duration as Go prints it: `12ms`, `1s`, `6m0s`, `1h2m3.5s`. Anything else, and zero, is `None`.
fn go_duration(value: &str) -> Option<Duration> {
    let mut rest = value;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after;
    }
    positive(seconds)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "h" => Some(3_600.0),
        "m" => Some(60.0),
        "s" => Some(1.0),
        "ms" => Some(1e-3),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1e-6),
        "ns" => Some(1e-9),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
