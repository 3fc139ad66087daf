//! Amounts of money: their forms, and their value in one notation.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::pattern;

/// A price as the text states it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Price {
    /// Decimal digits with a point, such as `1234.50`: exact, and fit for Postgres's `numeric`.
    pub amount: String,
    /// ISO 4217 code. A bare `$` is taken for USD.
    pub currency: String,
}

/// A price and the bytes of the text that state it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundPrice {
    pub(super) price: Price,
    pub(super) start: usize,
    pub(super) end: usize,
}

const SIGN: &str = r"US\$|A\$|C\$|[€$£¥₹₽₺₩₪₴]|zł|Kč|(?:EUR|Euro|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|AUD|CAD|Fr\.)(?-u:\b)?";

const NUMBER: &str = r"\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d{1,2})?|\d{1,9}(?:[.,]\d{1,4})?";

/// A sign before or after a number; `12,-` and `12.–` are written for round amounts.
static PRICE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(&format!(
        r"(?P<before>{SIGN})\s?(?P<first>{NUMBER})|(?P<second>{NUMBER})(?:[.,][-–—]+)?\s?(?P<after>{SIGN})"
    ))
});

/// All prices of a text, from left to right.
pub(super) fn find(text: &str) -> Vec<FoundPrice> {
    let Some(pattern) = PRICE.as_ref() else {
        return Vec::new();
    };
    pattern
        .captures_iter(text)
        .filter_map(|captures| found(text, &captures))
        .collect()
}

fn found(text: &str, captures: &regex::Captures) -> Option<FoundPrice> {
    let whole = captures.get(0)?;
    let sign = captures.name("before").or_else(|| captures.name("after"))?;
    let number = captures.name("first").or_else(|| captures.name("second"))?;
    // `AB12 €` is the end of a name and `EURO 2024` is a championship; a number goes on in neither direction.
    let before = text[..whole.start()].chars().next_back();
    let after = text[whole.end()..].chars().next();
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    if is_part(before) || is_part(after) {
        return None;
    }
    let price = Price {
        amount: amount(number.as_str())?,
        currency: currency(sign.as_str())?.to_owned(),
    };
    Some(FoundPrice {
        price,
        start: whole.start(),
        end: whole.end(),
    })
}

/// `1.234,5`, `1,234.5`, `1'234.50`, `1 234,50` and `12` in one notation; `None` if it is no number.
///
/// The last separator parts the decimals if one or two digits (or four and more) follow; three digits after a single
/// separator are thousands, as prices are written.
pub(super) fn amount(number: &str) -> Option<String> {
    let last = number.rfind(['.', ',']);
    let decimals = last.map_or(0, |at| number.len() - at - 1);
    let is_decimal = decimals != 0 && decimals != 3;
    let digits = |part: &str| {
        part.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let (whole, fraction) = match last {
        Some(at) if is_decimal => (digits(&number[..at]), digits(&number[at + 1..])),
        _ => (digits(number), String::new()),
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit());
    is_number.then(|| {
        if fraction.is_empty() {
            whole.to_owned()
        } else {
            format!("{whole}.{fraction:0<2}")
        }
    })
}

/// The code of a sign or name.
pub(super) fn currency(sign: &str) -> Option<&'static str> {
    Some(match sign {
        "€" | "EUR" | "Euro" => "EUR",
        "$" | "US$" | "USD" => "USD",
        "£" | "GBP" => "GBP",
        "¥" | "JPY" => "JPY",
        "CHF" | "Fr." => "CHF",
        "CNY" => "CNY",
        "₹" | "INR" => "INR",
        "₽" => "RUB",
        "₺" => "TRY",
        "₩" => "KRW",
        "₪" => "ILS",
        "₴" => "UAH",
        "zł" | "PLN" => "PLN",
        "Kč" | "CZK" => "CZK",
        "SEK" => "SEK",
        "NOK" => "NOK",
        "DKK" => "DKK",
        "A$" | "AUD" => "AUD",
        "C$" | "CAD" => "CAD",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(text: &str) -> Vec<String> {
        find(text)
            .into_iter()
            .map(|found| format!("{} {}", found.price.amount, found.price.currency))
            .collect()
    }

    // P2
    #[test]
    fn prices_in_the_notations_of_europe_and_america_are_found() {
        let text = "12,50 € or $1,234.56 or EUR 1.234,5 or £ 99 or CHF 1'200.00 or 12,- EUR or 1 234,00 zł or €1,000";
        let expected = [
            "12.50 EUR",
            "1234.56 USD",
            "1234.50 EUR",
            "99 GBP",
            "1200.00 CHF",
            "12 EUR",
            "1234.00 PLN",
            "1000 EUR",
        ];
        assert_eq!(prices(text), expected);
    }

    // P2
    #[test]
    fn figures_without_a_currency_are_no_price() {
        for text in [
            "EURO2024",
            "12.50",
            "AB12 €",
            "EUR",
            "5 $x",
            "M8 x 40",
            "EURECA 12",
            "100 EURECA",
        ] {
            assert_eq!(prices(text), Vec::<String>::new(), "{text}");
        }
    }

    // P2
    #[test]
    fn amounts_have_one_notation() {
        let cases = [
            ("0,5", "0.50"),
            ("007", "7"),
            ("1.000", "1000"),
            ("1.000,00", "1000.00"),
            ("0.1234", "0.1234"),
        ];
        for (written, value) in cases {
            assert_eq!(amount(written).as_deref(), Some(value));
        }
        assert_eq!(amount("-"), None);
    }
}
