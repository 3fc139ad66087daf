//! Lines as a page shows them, and texts that are made up.

use super::super::boxes::Rect;
use super::*;

fn line(text: &str, block: usize) -> Line {
    let rect = Rect {
        left: 0.0,
        top: 0.0,
        right: 1.0,
        bottom: 1.0,
    };
    Line {
        rect,
        text: text.to_owned(),
        words: 1,
        block,
        order: 0,
    }
}

/// What is read from a page that shows `texts`, each a paragraph from right to left or not.
fn reread(texts: &[&str], base: Level) -> Vec<String> {
    let mut lines = texts
        .iter()
        .enumerate()
        .map(|(block, text)| line(&shown_in(text, base), block))
        .collect::<Vec<_>>();
    read(&mut lines);
    lines.into_iter().map(|line| line.text).collect()
}

// X40
#[test]
fn what_was_typed_from_right_to_left_is_read_again() {
    let typed = [
        "שלום עולם",
        "המחיר הוא 12.50 שקלים (כולל מע״מ).",
        "גרסה 3 של Windows 11 יצאה בשנת 2024.",
        "השעה 10:30, התאריך 15/01/2024 והטלפון 050-1234567",
        "مرحبا بالعالم",
        "السعر 12.50 دينار (شامل الضريبة)، والخصم 20%.",
        "يعمل نظام Windows 11 منذ سنة 2021 بشكل جيد.",
        "التاريخ 2024-01-15 والوقت 10:30",
        "حَبيبي habibi",
    ];
    assert_eq!(reread(&typed, Level::rtl()), typed);
}

// X40
#[test]
fn words_from_right_to_left_in_latin_text_are_read_again() {
    let typed = [
        "The word שלום means peace.",
        "He said (שלום עולם) and left, on 15/01/2024.",
        "Nothing but Latin: 12.50 (EUR)",
    ];
    assert_eq!(reread(&typed, Level::ltr()), typed);
}

// X40
#[test]
fn the_page_says_whether_brackets_are_stored_as_typed_or_as_seen() {
    let seen =
        ["המחיר )כולל מע״מ( הוא", "ועוד ]אחד["].map(|text| line(&shown_in(text, Level::rtl()), 0));
    let mut lines = seen.to_vec();
    assert!(read(&mut lines));
    assert_eq!(
        lines
            .iter()
            .map(|line| line.text.as_str())
            .collect::<Vec<_>>(),
        ["המחיר (כולל מע״מ) הוא", "ועוד [אחד]"]
    );
}

// X40
#[test]
fn a_line_without_letters_from_right_to_left_follows_its_paragraph() {
    let mut lines = [
        line(&shown_in("שורה ראשונה של הפסקה", Level::rtl()), 1),
        line(".Hello world", 1),
        line(".15/01/2024", 1),
        line("12.50 - 13", 2),
        line("(Latin) first", 3),
    ];
    read(&mut lines);
    assert_eq!(
        lines.map(|line| line.text)[1..],
        ["Hello world.", "15/01/2024.", "12.50 - 13", "(Latin) first"]
    );
}

// X40
#[test]
fn pages_without_such_letters_are_left_alone() {
    let mut lines = [
        line("plain text (with brackets)", 0),
        line("人工智能 한국어", 0),
    ];
    assert!(!read(&mut lines));
    assert_eq!(lines[0].text, "plain text (with brackets)");
}

// X40
#[test]
fn whatever_a_line_says_it_is_shown_as_the_page_shows_it_and_nothing_is_lost() {
    const PIECES: [&str; 14] = [
        "שלום", "עולם", "سلام", "كتاب", "Windows", "a", "11", "12.50", "(", ")", "-", ",", "%", "״",
    ];
    let mut seed = 7_u32;
    let mut next = |limit: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % limit
    };
    let (mut all, mut same) = (0, 0);
    for _ in 0..2_000 {
        let typed = (0..2 + next(6))
            .map(|_| PIECES[next(PIECES.len())])
            .collect::<Vec<_>>()
            .join(" ");
        for base in [Level::ltr(), Level::rtl()] {
            let visual = shown_in(&typed, base);
            let read = logical(&visual, base);
            let sorted = |text: &str| {
                let mut chars = text.chars().collect::<Vec<_>>();
                chars.sort_unstable();
                chars
            };
            assert_eq!(sorted(&read), sorted(&typed));
            all += 1;
            same += usize::from(shown_in(&read, base) == visual);
        }
    }
    // No text is left whose reading is not one that Unicode shows so, but for odd heaps of signs.
    assert!(same * 100 >= all * 97, "{same} of {all}");
}
