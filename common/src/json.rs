//! JSON that every door takes, and JSON into values with errors that name the field.
//!
//! Invariant: a text that [`check`] takes is one that Postgres can read as `jsonb` and that readers of JSON can decode, and the SQL door
//! (`millstream.json_fault`) refuses the same values. Otherwise one job would fail the INSERT that it shares with others, or be accepted
//! and then be undecodable for its handler.
//!
//! The text itself is never changed: what was given is what the handler gets.

mod shape;

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    error::Refusal,
    limits::{
        JSON_DEPTH_MAX, JSON_FRACTION_DIGITS_MAX, JSON_WHOLE_DIGITS_MAX, PAYLOAD_BYTES_MAX, bounded,
    },
};

/// Postgres reads no exponent beyond this, not even that of a zero.
const EXPONENT_MAX: i64 = i32::MAX as i64 / 2 - 1;
/// Text of the outside in an error.
const SHOWN_BYTES_MAX: usize = 40;

/// Refuses what not every door, Postgres and every handler can take. `what` names the field in the refusal.
///
/// A number counts as long as it is when it is written out, as `jsonb` does, so that a short text cannot become a huge one in Postgres.
pub fn check(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > PAYLOAD_BYTES_MAX {
        return Err(Refusal::TooLarge {
            what: what.into(),
            bytes: text.len(),
        });
    }
    // The syntax alone, without a value in memory.
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|e| Refusal::Invalid(format!("the {what} is no JSON: {e}")))?;
    let bytes = Scan {
        text,
        at: 0,
        depth: 0,
        bytes: text.len(),
    }
    .run();
    let bytes = bytes.map_err(|why| Refusal::Invalid(format!("the {what} {why}")))?;
    if bytes > PAYLOAD_BYTES_MAX {
        Err(Refusal::TooLarge {
            what: format!("{what}, its numbers written out,"),
            bytes,
        })
    } else {
        Ok(())
    }
}

/// A pass over text that is known to be JSON.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// The length with all numbers written out.
    bytes: usize,
}

impl Scan<'_> {
    fn run(mut self) -> Result<usize, String> {
        while let Some(byte) = self.next() {
            match byte {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth > JSON_DEPTH_MAX {
                        return Err(format!("is nested more than {JSON_DEPTH_MAX} deep"));
                    }
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(self.bytes)
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        byte
    }

    /// Up to its end. Escapes are read as such: in `\\u0000` the second backslash is the character, and no NUL follows.
    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.next() {
                Some(b'\\') if self.next() == Some(b'u') => self.escape()?,
                Some(b'"') | None => return Ok(()),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.hex() {
            0 => Err("contains the NUL character \\u0000, which Postgres cannot store".into()),
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                if (0xdc00..=0xdfff).contains(&self.hex()) {
                    Ok(())
                } else {
                    Err(half())
                }
            }
            0xd800..=0xdfff => Err(half()),
            _ => Ok(()),
        }
    }

    fn hex(&mut self) -> u32 {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        self.at += 4;
        u32::from_str_radix(digits, 16).unwrap_or_default()
    }

    fn number(&mut self) -> Result<(), String> {
        let from = self.at - 1;
        let rest = &self.text.as_bytes()[from..];
        let length = rest
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        self.at = from + length;
        let literal = &self.text[from..self.at];
        let written = written_out(literal).ok_or_else(|| {
            let shown = bounded(literal, SHOWN_BYTES_MAX);
            format!(
                "has the number {shown}, which not everybody can read: a number has at most {JSON_WHOLE_DIGITS_MAX} digits before the point \
                 and {JSON_FRACTION_DIGITS_MAX} after it"
            )
        })?;
        self.bytes += written.saturating_sub(length);
        Ok(())
    }
}

fn half() -> String {
    "contains half a surrogate pair, which is no character".into()
}

/// How long a number is without its exponent; `None` if it is beyond the range.
fn written_out(literal: &str) -> Option<usize> {
    let digits = literal.trim_start_matches('-');
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    if exponent == "0" && mantissa.len() <= JSON_WHOLE_DIGITS_MAX {
        return Some(literal.len());
    }
    // An exponent that does not fit into an i64 is out of range too.
    let exponent: i64 = exponent
        .parse()
        .ok()
        .filter(|e: &i64| e.abs() <= EXPONENT_MAX)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let after_point = (fraction.len() as i64 - exponent).max(0);
    if after_point > JSON_FRACTION_DIGITS_MAX as i64 {
        return None;
    }
    let zeros = whole
        .bytes()
        .chain(fraction.bytes())
        .position(|digit| digit != b'0');
    // A zero has one digit, wherever its point is moved.
    let before_point = zeros.map_or(1, |zeros| {
        (whole.len() as i64 - zeros as i64 + exponent).max(1)
    });
    (before_point <= JSON_WHOLE_DIGITS_MAX as i64)
        .then_some((before_point + after_point + 1) as usize)
}

/// Why a text did not become a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// It is JSON, and not the one that was wanted.
    pub is_json: bool,
    /// The field and what was wanted of it, or where the text stops being JSON.
    pub text: String,
}

/// JSON text into a value. The error names the field and the form that was wanted. An array is no object, although serde takes the
/// fields of a struct from one, in their order in the code.
pub fn decode<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Misfit> {
    if text.trim_ascii_start().starts_with(b"[") && shape::is_object::<T>() {
        return Err(Misfit {
            is_json: true,
            text: "invalid type: sequence, expected an object".into(),
        });
    }
    // Only a misfit is read a second time, by a reader that remembers where it is.
    serde_json::from_slice(text).map_err(|error| misfit::<T>(text, &error))
}

fn misfit<'de, T: Deserialize<'de>>(text: &'de [u8], error: &serde_json::Error) -> Misfit {
    let is_json = error.is_data();
    let path = match serde_path_to_error::deserialize::<_, T>(
        &mut serde_json::Deserializer::from_slice(text),
    ) {
        Err(e) if is_json && e.path().iter().len() > 0 => format!("{}: ", e.path()),
        _ => String::new(),
    };
    Misfit {
        is_json,
        text: path + &in_plain_words(&error.to_string()),
    }
}

/// Names of Rust types say nothing to whoever wrote the JSON.
fn in_plain_words(message: &str) -> String {
    let Some((said, wanted)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let (kind, rest) = wanted.split_once(' ').unwrap_or((wanted, ""));
    let plain = match kind {
        "struct" => "an object",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "f32" | "f64" => "a number",
        _ => return message.to_owned(),
    };
    // After `struct` comes its name.
    let rest = if kind == "struct" {
        rest.split_once(' ').map_or("", |(_, rest)| rest)
    } else {
        rest
    };
    format!("{said}expected {plain} {rest}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests;
