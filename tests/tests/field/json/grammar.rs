//! Random texts of JSON's grammar: numbers of any size, all escapes, depth, keys that are there twice, odd blanks.

use millstream_tests::chaos::rng::Rng;

/// Whole exponents near each end of something.
const EXPONENTS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "+5",
    "05",
    "-20",
    "100",
    "307",
    "308",
    "309",
    "-308",
    "-324",
    "-1074",
    "-1075",
    "-16383",
    "2147483647",
];

/// One text, with blanks around it at times.
pub(super) fn text(rng: &mut Rng) -> String {
    let mut value = value(rng, 4);
    if rng.chance(100) {
        let depth = rng.pick(&[3, 100, 119, 121, 123, 124, 125, 150, 400]);
        let (open, close) = if rng.chance(500) {
            ("[", "]")
        } else {
            ("{\"a\":", "}")
        };
        value = format!("{}{value}{}", open.repeat(depth), close.repeat(depth));
    }
    format!("{}{value}{}", blanks(rng), blanks(rng))
}

fn blanks(rng: &mut Rng) -> String {
    if rng.chance(700) {
        String::new()
    } else {
        (0..=rng.below(3))
            .map(|_| rng.pick(&[' ', '\t', '\n', '\r']))
            .collect()
    }
}

fn value(rng: &mut Rng, depth: u64) -> String {
    match rng.below(if depth == 0 { 5 } else { 8 }) {
        0 => rng.pick(&["true", "false", "null"]).to_owned(),
        1 | 2 => number(rng),
        3 | 4 => string(rng),
        5 => {
            let items: Vec<_> = (0..rng.below(4)).map(|_| spaced(rng, depth)).collect();
            format!(
                "[{}{}]",
                items.join(","),
                if items.is_empty() {
                    blanks(rng)
                } else {
                    String::new()
                }
            )
        }
        _ => object(rng, depth),
    }
}

/// Of two values of one name jsonb keeps the last, so the SQL door never sees what is wrong with the first: nothing is.
fn object(rng: &mut Rng, depth: u64) -> String {
    let names: Vec<_> = (0..rng.below(4)).map(|_| key(rng)).collect();
    let read = |name: &String| serde_json::from_str::<String>(name).ok();
    let fields = names.iter().enumerate().map(|(nth, name)| {
        let is_kept = read(name).is_none()
            || !names[nth + 1..]
                .iter()
                .any(|later| read(later) == read(name));
        let value = if is_kept {
            spaced(rng, depth)
        } else {
            rng.pick(&["1.50", "null", "[ {}]"]).to_owned()
        };
        format!("{}{name}{}:{value}", blanks(rng), blanks(rng))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn spaced(rng: &mut Rng, depth: u64) -> String {
    format!("{}{}{}", blanks(rng), value(rng, depth - 1), blanks(rng))
}

/// Few names, so that the same one is often there twice.
fn key(rng: &mut Rng) -> String {
    if rng.chance(700) {
        rng.pick(&["\"a\"", "\"b\"", "\"\\u0061\"", "\"\""])
            .to_owned()
    } else {
        string(rng)
    }
}

fn digits(rng: &mut Rng) -> String {
    let length = match rng.below(100) {
        0 => 308,
        1 => 309,
        2 => 310,
        3 => 1074,
        4 => 1075,
        5..15 => 1 + rng.below(60),
        _ => 1 + rng.below(6),
    };
    (0..length)
        .map(|_| rng.pick(&['0', '1', '7', '9']))
        .collect()
}

fn number(rng: &mut Rng) -> String {
    let sign = if rng.chance(300) { "-" } else { "" };
    let whole = digits(rng);
    let whole = if rng.chance(300) {
        "0"
    } else {
        Some(whole.trim_start_matches('0'))
            .filter(|d| !d.is_empty())
            .unwrap_or("0")
    };
    let fraction = if rng.chance(400) {
        format!(".{}", digits(rng))
    } else {
        String::new()
    };
    let exponent = if rng.chance(300) {
        format!("{}{}", rng.pick(&['e', 'E']), rng.pick(&EXPONENTS))
    } else {
        String::new()
    };
    format!("{sign}{whole}{fraction}{exponent}")
}

fn string(rng: &mut Rng) -> String {
    let parts: String = (0..rng.below(8)).map(|_| part(rng)).collect();
    format!("\"{parts}\"")
}

fn part(rng: &mut Rng) -> String {
    match rng.below(100) {
        0..40 => rng
            .pick(&["a", "Z", " ", "/", "[", "}", ":", "u0000", "\u{7f}", "ß"])
            .to_owned(),
        40..60 => rng
            .pick(&["é", "日", "😀", "\u{ffff}", "\u{200b}", "\u{2028}"])
            .to_owned(),
        60..80 => rng
            .pick(&["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"])
            .to_owned(),
        80..88 => rng
            .pick(&["\\u0001", "\\u0041", "\\u00E9", "\\u2028", "\\uffff"])
            .to_owned(),
        88..94 => rng
            .pick(&["\\ud83d\\ude00", "\\uD800\\uDFFF", "\\udbff\\udc00"])
            .to_owned(),
        94..98 => rng.pick(&["\\\\u0000", "\\\\ud800"]).to_owned(),
        98 => rng
            .pick(&["\\ud83d", "\\udc00", "\\ude00\\ud83d", "\\ud83dx"])
            .to_owned(),
        _ => "\\u0000".to_owned(),
    }
}
