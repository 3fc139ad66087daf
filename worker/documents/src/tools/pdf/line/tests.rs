//! Lines as boxes: what poppler gives for lines that were set in one way or another.

use super::*;

fn word(left: f32, right: f32, text: &str) -> Word {
    Word {
        rect: Rect {
            left,
            top: 0.0,
            right,
            bottom: 10.0,
        },
        text: text.to_owned(),
    }
}

fn texts(lines_of_words: &[&[(f32, f32, &str)]]) -> Vec<String> {
    let boxes = |words: &&[(f32, f32, &str)]| Boxes {
        words: words
            .iter()
            .map(|(l, r, text)| word(*l, *r, text))
            .collect(),
        block: 1,
    };
    lines(lines_of_words.iter().map(boxes).collect())
        .into_iter()
        .map(|line| line.text)
        .collect()
}

// P2
#[test]
fn words_that_touch_are_one() {
    let line = lines(vec![Boxes {
        words: vec![
            word(10., 20., "R&"),
            word(20.2, 25., "D"),
            word(30., 40., "<3"),
        ],
        block: 1,
    }])
    .remove(0);
    assert_eq!(
        (
            line.text.as_str(),
            line.words,
            line.rect.left,
            line.rect.right
        ),
        ("R&D <3", 2, 10.0, 40.0)
    );
}

// X45
#[test]
fn a_narrow_space_parts_words_of_one_font_and_a_change_of_font_parts_none() {
    assert_eq!(
        texts(&[&[(10., 30., "narrow"), (30.4, 50., "space")]]),
        ["narrow space"]
    );
    let other_font = Word {
        rect: Rect {
            left: 30.4,
            top: 1.0,
            right: 50.0,
            bottom: 11.0,
        },
        text: "stream".to_owned(),
    };
    let line = lines(vec![Boxes {
        words: vec![word(10., 30., "mill"), other_font],
        block: 1,
    }])
    .remove(0);
    assert_eq!(line.text, "millstream");
}

// X46
#[test]
fn letters_of_han_that_are_set_apart_to_fill_a_line_are_not_words() {
    assert_eq!(
        texts(&[&[
            (0., 10., "人"),
            (13., 23., "工"),
            (26., 36., "智"),
            (39., 49., "能")
        ]]),
        ["人工智能"]
    );
    assert_eq!(
        texts(&[&[
            (0., 10., "人"),
            (13., 23., "工"),
            (33., 43., "智"),
            (46., 56., "能"),
            (59., 69., "系")
        ]]),
        ["人工 智能系"]
    );
    assert_eq!(
        texts(&[&[(0., 40., "人工智能"), (42.5, 62.5, "系统")]]),
        ["人工智能 系统"]
    );
    assert_eq!(
        texts(&[&[(0., 30., "안녕하"), (31.5, 51.5, "세계")]]),
        ["안녕하 세계"]
    );
}

// X40
#[test]
fn letters_in_boxes_of_their_own_are_words_and_ligatures_stand_as_all_others() {
    // As cairo writes السلام عليك: letter by letter, the ligature لا as one.
    let letters = [
        (0., 6., "ك"),
        (6.2, 10., "ي"),
        (9.8, 14., "ل"),
        (14., 22., "ع"),
        (25., 33., "م"),
        (33.2, 41., "لا"),
        (40.8, 52., "س"),
    ];
    assert_eq!(texts(&[&letters]), ["كيلع مالس"]);
}

// X40
#[test]
fn a_word_that_one_glyph_stands_for_is_turned_as_all_others() {
    assert_eq!(
        texts(&[&[(0., 30., "שלום עולם ")], &[(40., 70., "םולש")]]),
        ["םלוע םולש", "םולש"]
    );
}

// X40
#[test]
fn what_is_torn_at_a_letter_without_width_is_joined() {
    let first = [(156., 163., "م"), (187., 193.9, "م"), (194., 202.5, "ل")];
    let second = [(194., 194., "ا"), (203., 212., "س")];
    assert_eq!(texts(&[&first, &second]), ["م مالس"]);
    assert_eq!(
        texts(&[&[(0., 10., "one")], &[(40., 50., "two")]]),
        ["one", "two"]
    );
}

// X40
#[test]
fn accents_keep_to_their_letter() {
    assert_eq!(
        texts(&[&[(0., 10., "ب"), (10.1, 20., "ح"), (16., 16., "\u{64e}")]]),
        ["ب\u{64e}ح"]
    );
    assert_eq!(
        texts(&[
            &[(0., 30., "ภาษาไทยที่พ"), (30., 40., "ม")],
            &[(30.1, 30.1, "\u{e34}"), (40., 60., "พ์ไว้")]
        ]),
        ["ภาษาไทยที่พิมพ์ไว้"]
    );
}
