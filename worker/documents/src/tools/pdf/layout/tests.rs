//! Layouts drawn as boxes.

use super::*;

const HEIGHT: f32 = 10.0;

fn line(order: usize, left: f32, top: f32, text: &str) -> Line {
    let right = left + 5.0 * text.chars().count() as f32;
    let rect = Rect {
        left,
        top,
        right,
        bottom: top + HEIGHT,
    };
    Line {
        rect,
        text: text.to_owned(),
        words: text.split(' ').count(),
        block: 0,
        order,
    }
}

fn prose(order: usize, left: f32, top: f32, count: usize, name: &str) -> Vec<Line> {
    let text = |n: usize| format!("{name}{n} is a line of running text");
    (0..count)
        .map(|n| line(order + n, left, top + 12.0 * n as f32, &text(n)))
        .collect()
}

fn places(text: &str, words: &[&str]) -> Vec<usize> {
    words
        .iter()
        .map(|word| text.find(word).unwrap_or(usize::MAX))
        .collect()
}

// P2
#[test]
fn a_heading_above_the_left_column_does_not_swap_the_columns() {
    let mut lines = vec![line(
        0,
        100.0,
        50.0,
        "A title that is wider than either of the two columns below it",
    )];
    lines.push(line(1, 50.0, 95.0, "Abstract"));
    lines.extend(prose(2, 250.0, 100.0, 20, "right"));
    lines.extend(prose(40, 50.0, 117.0, 18, "left"));
    lines.push(line(99, 235.0, 400.0, "1 page number crossing the gutter"));
    let text = reading_order(lines);
    let order = places(
        &text,
        &[
            "A title", "Abstract", "left0", "left17", "right0", "right19", "1 page",
        ],
    );
    assert!(order.is_sorted(), "{text}");
}

// P2
#[test]
fn level_columns_of_running_text_are_not_taken_for_a_table() {
    let lines = [
        prose(0, 50.0, 100.0, 10, "left"),
        prose(20, 260.0, 100.0, 10, "right"),
    ]
    .concat();
    let text = reading_order(lines);
    assert!(
        places(&text, &["left0", "left9", "right0", "right9"]).is_sorted(),
        "{text}"
    );
}

// P2
#[test]
fn a_table_below_a_paragraph_keeps_its_rows() {
    let mut lines = prose(0, 50.0, 100.0, 3, "text");
    for (n, (name, price)) in [
        ("Bolt", "1.50"),
        ("Nut", "0.80"),
        ("A washer of brass, zinc plated and very thin", "2.00"),
    ]
    .into_iter()
    .enumerate()
    {
        let top = 160.0 + 14.0 * n as f32;
        lines.push(line(10 + n, 50.0, top, name));
        lines.push(line(20 + n, 400.0, top + 1.0, price));
    }
    let text = reading_order(lines);
    assert!(
        text.ends_with("Bolt\t1.50\nNut\t0.80\nA washer of brass, zinc plated and very thin\t2.00"),
        "{text}"
    );
    assert!(text.starts_with("text0"), "{text}");
}

// P2
#[test]
fn a_page_number_far_below_the_columns_comes_last() {
    let lines = [
        prose(0, 50.0, 100.0, 5, "left"),
        prose(10, 260.0, 100.0, 5, "right"),
        vec![line(20, 50.0, 300.0, "17")],
    ]
    .concat();
    let text = reading_order(lines);
    assert!(text.ends_with("\n\n17") || text.ends_with("\n17"), "{text}");
}

// X40
#[test]
fn lines_that_touch_are_one_paragraph_whatever_their_blocks() {
    let lines = [(0.0, 0), (10.0, 1), (20.5, 2), (45.0, 3)].map(|(top, block)| Line {
        block,
        ..line(block, 50.0, top, "word by word")
    });
    assert_eq!(
        reading_order(lines.to_vec()),
        "word by word\nword by word\nword by word\n\nword by word"
    );
}

// P4
#[test]
fn every_line_comes_out_once_whatever_the_layout() {
    let mut seed = 7_u32;
    let mut next = |limit: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % limit
    };
    for _ in 0..200 {
        let lines = (0..60)
            .map(|n| line(n, next(500) as f32, next(700) as f32, &format!("w{n:02} x")))
            .collect();
        let text = reading_order(lines);
        let mut found = text
            .split(|c: char| c.is_whitespace())
            .filter(|word| word.starts_with('w'))
            .collect::<Vec<_>>();
        found.sort_unstable();
        assert_eq!(
            found,
            (0..60).map(|n| format!("w{n:02}")).collect::<Vec<_>>()
        );
    }
}
