//! Where each rule of JSON begins and ends, and what a misfit is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn is_taken(text: &str) -> bool {
    check("payload", text).is_ok()
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

// X02, X04: what jsonb or a double cannot hold is refused, whatever it looks like; all else is taken
#[test]
fn x02_numbers_are_taken_as_far_as_doubles_and_numeric_reach() {
    let good = [
        "0",
        "-0",
        "-0.0e0",
        "0e400",
        "0E-1074",
        "1e307",
        "-9.999e307",
        "0.00017976931348623157e311",
        "5e-324",
    ];
    let long = [
        "9".repeat(308),
        format!("0.{}", "7".repeat(1074)),
        format!("1{}e-1074", "0".repeat(1000)),
    ];
    for number in good.into_iter().map(str::to_owned).chain(long) {
        assert!(is_taken(&number), "{number}");
        assert!(
            serde_json::from_str::<f64>(&number).is_ok(),
            "a handler can read {number}"
        );
    }
    let bad = [
        "1e308",
        "1e400",
        "-1.7976931348623157e308",
        "0.1e309",
        "1e-20000",
        "1e-1075",
        "0e-1075",
        "0e2147483647",
    ];
    let long = [
        "1".repeat(309),
        format!("0.{}", "7".repeat(1075)),
        "0e99999999999999999999".into(),
    ];
    for number in bad.into_iter().map(str::to_owned).chain(long) {
        assert!(!is_taken(&number), "{number}");
        assert!(!is_taken(&format!("{{\"n\":[{number}]}}")), "{number}");
    }
}

// X03: an escape is read, not searched for
#[test]
fn x03_an_escaped_backslash_is_no_nul() {
    for good in [
        r#"{"path":"C:\\u0000dir"}"#,
        r#""\\\\u0000""#,
        r#""\ud83d\ude00\\ud83d""#,
        r#"{"\\u0000":"\"\\"}"#,
        r#""\u0001""#,
    ] {
        assert!(is_taken(good), "{good}");
    }
    for bad in [
        r#""\u0000""#,
        r#""\\\u0000""#,
        r#"{"a\u0000b":1}"#,
        r#""\ud83d""#,
        r#""\ud83dx\ude00""#,
        r#""\ud83d\n""#,
        r#""\ude00\ud83d""#,
    ] {
        assert!(!is_taken(bad), "{bad}");
    }
}

#[test]
fn x04_depth_and_size_have_one_limit() {
    assert!(
        is_taken(&nested(JSON_DEPTH_MAX))
            && !is_taken(&nested(JSON_DEPTH_MAX + 1))
            && !is_taken(&nested(5000))
    );
    assert!(
        is_taken(&format!(
            "[{}]",
            vec![nested(JSON_DEPTH_MAX - 1); 100].join(",")
        )),
        "brackets beside each other are not nested"
    );
    assert!(
        is_taken(&format!("\"{}\"", "[".repeat(1000))),
        "nor are those in a text"
    );
    let numbers = format!("[{}1]", "1e300,".repeat(1000));
    assert!(
        matches!(check("metadata", &numbers), Err(Refusal::TooLarge { what, bytes }) if what.contains("metadata") && bytes > 300_000)
    );
    for bad in [
        "",
        " ",
        "{",
        "1 2",
        "\u{feff}1",
        "01",
        "1.",
        ".5",
        "+1",
        "NaN",
        "'a'",
        "\"\t\"",
        "\u{a0}1",
    ] {
        assert!(!is_taken(bad), "{bad:?}");
    }
}

// X09: the field and the form
#[test]
fn x09_a_misfit_names_its_field() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[expect(dead_code, reason = "only read into")]
        list: Vec<Inner>,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only read into")]
        size: Option<u32>,
    }
    let of = |text: &str| decode::<Wanted>(text.as_bytes()).unwrap_err();
    let text = of(r#"{"list":[{},{"size":"x"}]}"#).text;
    assert!(
        text.starts_with("list[1].size: ")
            && text.contains("expected a whole number that is not negative"),
        "{text}"
    );
    assert!(of("[]").is_json && !of("{").is_json);
    assert!(of(r#"{"list":[],"colour":1}"#).text.contains("colour"));
    assert!(
        of(r#"{"list":7}"#).text.starts_with("list: invalid type"),
        "{:?}",
        of(r#"{"list":7}"#)
    );
    assert!(
        decode::<Inner>(b"7")
            .unwrap_err()
            .text
            .contains("expected an object"),
        "{:?}",
        decode::<Inner>(b"7")
    );
}

// X09
#[test]
fn x09_an_array_is_no_object() {
    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Point {
        x: u32,
        y: u32,
    }
    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Wrapped(Point);
    let said = |refused: Result<Point, Misfit>| refused.unwrap_err().text;
    assert!(said(decode(b"[1,2]")).contains("expected an object"));
    assert!(said(decode(b" \n[]")).contains("expected an object"));
    assert!(decode::<Wrapped>(b"[1,2]").is_err());
    assert_eq!(decode(br#"{"x":1,"y":2}"#), Ok(Point { x: 1, y: 2 }));
    assert_eq!(decode(b"[1,2]"), Ok(vec![1, 2]));
    assert_eq!(decode(b"[1,2]"), Ok((1, 2)));
    assert_eq!(decode(b"[1,2]"), Ok(serde_json::json!([1, 2])));
}
