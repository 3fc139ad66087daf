//! What becomes of Tesseract's tables.

use super::*;

type Turn = fn(i32, i32, i32, i32) -> [i32; 4];

/// Words of (block, line, left, top, text), each letter 10 wide, 20 high.
fn table(words: &[(u32, u32, i32, i32, &str)]) -> String {
    let row = |(block, line, left, top, text): &(u32, u32, i32, i32, &str)| {
        format!(
            "5\t1\t{block}\t1\t{line}\t1\t{left}\t{top}\t{}\t20\t90\t{text}\n",
            10 * text.chars().count()
        )
    };
    words.iter().map(row).collect()
}

fn read(words: &[(u32, u32, i32, i32, &str)]) -> String {
    parse(&table(words)).text.text
}

// P2
#[test]
fn words_lines_and_paragraphs_are_put_together() {
    let table = "level\tpage\n5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tone\n5\t1\t1\t1\t1\t2\t15\t0\t9\t9\t60\ttwo\n\
        5\t1\t1\t1\t2\t1\t0\t20\t9\t9\t90\tthree\n4\t1\t1\t2\t1\t0\t0\t0\t9\t9\t-1\t\n5\t1\t1\t2\t1\t1\t0\t60\t9\t9\t80\tfour\n";
    assert_eq!(parse(table).text.text, "one two\nthree\n\nfour");
}

// X44
#[test]
fn a_code_that_was_cut_within_its_capitals_is_one_word() {
    let line = |gap: i32, code: &str| {
        let at = 140 + gap;
        read(&[
            (1, 1, 0, 0, "order"),
            (1, 1, 60, 0, "number"),
            (1, 1, 120, 0, "OR"),
            (1, 1, at, 0, code),
            (1, 1, at + 10 * code.len() as i32 + 10, 0, "today"),
        ])
    };
    assert_eq!(line(6, "D-367853"), "order number ORD-367853 today");
    assert_eq!(
        line(10, "D-367853"),
        "order number OR D-367853 today",
        "a whole gap"
    );
    assert_eq!(line(6, "d-367853"), "order number OR d-367853 today");
    assert_eq!(line(6, "D-36"), "order number OR D-36 today");
}

// X44
#[test]
fn a_line_that_was_cut_between_blocks_is_one_line_and_columns_stay_apart() {
    let cut = [
        (1, 1, 0, 0, "Order"),
        (1, 1, 56, 0, "MS-"),
        (2, 1, 87, 1, "204817"),
        (2, 1, 155, 0, "oak"),
        (1, 2, 0, 40, "x"),
    ];
    assert_eq!(read(&cut), "Order MS-204817 oak\n\nx".replace("\n\n", "\n"));
    let columns = [
        (1, 1, 0, 0, "left"),
        (1, 2, 0, 30, "column"),
        (2, 1, 90, 0, "right"),
        (2, 2, 90, 30, "one"),
    ];
    assert_eq!(read(&columns), "left\ncolumn\n\nright\none");
}

// X44, X52
#[test]
fn a_hyphen_belongs_to_its_word_and_a_dash_does_not() {
    assert_eq!(
        read(&[
            (1, 1, 0, 0, "an"),
            (1, 1, 30, 0, "Order"),
            (1, 1, 90, 0, "MS"),
            (1, 1, 115, 0, "-12"),
            (1, 1, 155, 0, "x")
        ]),
        "an Order MS-12 x"
    );
    assert_eq!(
        read(&[
            (1, 1, 0, 0, "an"),
            (1, 1, 30, 0, "oak"),
            (1, 1, 70, 0, "-"),
            (1, 1, 90, 0, "x"),
            (1, 1, 110, 0, "-5")
        ]),
        "an oak - x -5"
    );
    let code = |next| {
        read(&[
            (1, 1, 0, 0, "an"),
            (1, 1, 30, 0, "Order"),
            (1, 1, 90, 0, "MS"),
            (1, 1, 121, 0, next),
            (1, 1, 200, 0, "x"),
        ])
    };
    assert_eq!(
        (code("-110243"), code("-11.5")),
        (
            "an Order MS-110243 x".to_owned(),
            "an Order MS -11.5 x".to_owned()
        )
    );
}

// X44
#[test]
fn the_places_of_a_turned_page_are_turned_back() {
    let upright = [
        (1, 1, 0, 0, "MS-"),
        (2, 1, 31, 0, "12"),
        (2, 1, 61, 0, "oak"),
        (3, 2, 0, 40, "next"),
        (3, 2, 50, 40, "line"),
    ];
    let expected = read(&upright);
    assert_eq!(expected, "MS-12 oak\n\nnext line");
    let turns: [Turn; 3] = [
        |x, y, w, h| [-x - w, -y - h, w, h],
        |x, y, w, h| [-y - h, x, h, w],
        |x, y, w, h| [y, -x - w, h, w],
    ];
    for turn in turns {
        let rows = upright.iter().map(|(block, line, left, top, text)| {
            let [left, top, width, height] = turn(*left, *top, 10 * text.len() as i32, 20);
            format!("5\t1\t{block}\t1\t{line}\t1\t{left}\t{top}\t{width}\t{height}\t90\t{text}\n")
        });
        assert_eq!(parse(&rows.collect::<String>()).text.text, expected);
    }
}

// P4
#[test]
fn rubbish_gives_no_words() {
    for rubbish in [
        "",
        "5\t1",
        "5\t1\t1\t1\t1\t1\tx\t0\t9\t9\t90\tone",
        "5\t1\t1\t1\t1\t1\t0\t0\tinf\t9\t90\tone",
        "5\t1\t1\t1\t1\t1\t0\t0\t1\t9\t-1\tone",
    ] {
        assert_eq!(parse(rubbish).text, OcrText::default(), "{rubbish}");
    }
}
