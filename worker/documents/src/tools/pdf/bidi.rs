//! Turns text as a page shows it into text as it is read: what is written from right to left stands backwards on a line
//! of boxes that goes from left to right.
//!
//! It is the bidirectional algorithm of Unicode, asked the other way round: the result is a text that the algorithm shows
//! as the page shows it. Where there are several, Latin and a number beside it are read from left to right (`Windows 11`).

use std::collections::HashMap;

use unicode_bidi::{BidiClass, Level, ParagraphBidiInfo, bidi_class};

use super::arabic;
use super::line::Line;

/// Pairs whose signs change places in writing from right to left.
const PAIRS: [(char, char); 6] = [
    ('(', ')'),
    ('[', ']'),
    ('{', '}'),
    ('<', '>'),
    ('«', '»'),
    ('‹', '›'),
];

/// Whether `c` is a letter of a script that is written from right to left.
pub(super) fn is_right_to_left(c: char) -> bool {
    // All of them come after Latin and Greek, and most text is asked letter by letter.
    c >= '\u{590}' && matches!(bidi_class(c), BidiClass::R | BidiClass::AL)
}

/// Letters by direction.
#[derive(Debug, Clone, Copy, Default)]
struct Letters {
    from_left: usize,
    from_right: usize,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self::default();
        for c in text.chars() {
            letters.from_right += usize::from(is_right_to_left(c));
            letters.from_left += usize::from(is_left_to_right(c));
        }
        letters
    }

    fn add(&mut self, other: Self) {
        self.from_left += other.from_left;
        self.from_right += other.from_right;
    }

    fn are_from_right(self) -> bool {
        self.from_right > 0 && self.from_right >= self.from_left
    }
}

fn is_left_to_right(c: char) -> bool {
    c.is_ascii_alphabetic() || (!c.is_ascii() && bidi_class(c) == BidiClass::L)
}

/// Puts the text of all lines of a page into the order of reading. True if the page as a whole is written from right to
/// left: then so are its columns and its tables.
pub(super) fn read(lines: &mut [Line]) -> bool {
    let counted = lines
        .iter()
        .map(|line| Letters::of(&line.text))
        .collect::<Vec<_>>();
    let mut page = Letters::default();
    let mut blocks: HashMap<usize, Letters> = HashMap::new();
    for (line, letters) in lines.iter().zip(&counted) {
        page.add(*letters);
        blocks.entry(line.block).or_default().add(*letters);
    }
    if page.from_right == 0 {
        return false;
    }
    for (line, letters) in lines.iter_mut().zip(counted) {
        let block = blocks.get(&line.block).copied().unwrap_or_default();
        if let Some(base) = base(&line.text, letters, block, page) {
            line.text = logical(&line.text, base);
        }
    }
    mirror(lines);
    lines
        .iter_mut()
        .for_each(|line| arabic::mend(&mut line.text));
    page.are_from_right()
}

/// The direction of the paragraph that a line belongs to; `None`: it stays as it is shown.
fn base(text: &str, line: Letters, block: Letters, page: Letters) -> Option<Level> {
    let mut strong = text
        .chars()
        .filter(|c| is_right_to_left(*c) || is_left_to_right(*c));
    let (first, last) = (strong.next(), strong.next_back());
    let is_turned = first.is_some_and(is_right_to_left) && last.is_none_or(is_right_to_left);
    if is_turned || block.are_from_right() || (line.from_right > 0 && page.are_from_right()) {
        return Some(Level::rtl());
    }
    first.map(|_| Level::ltr())
}

/// The text that is shown as `visual`.
fn logical(visual: &str, base: Level) -> String {
    let visual = visual
        .chars()
        .filter(|c| !is_mark_of_direction(*c))
        .collect::<String>();
    let text = shown_in(&visual, base);
    if base.is_ltr() || shown_in(&text, base) == visual {
        return text;
    }
    let other = unturned(&visual);
    if shown_in(&other, base) == visual {
        other
    } else {
        text
    }
}

/// The other way to read a line of a text from right to left: numbers belong to what stands to their right, as in a date
/// whose parts are shown from right to left.
fn unturned(visual: &str) -> String {
    let turned = visual.chars().rev().collect::<String>();
    let levels = ParagraphBidiInfo::new(&turned, Some(Level::rtl())).levels;
    let mut text = String::with_capacity(turned.len());
    let mut run: Vec<char> = Vec::new();
    for (at, c) in turned.char_indices() {
        if levels[at].is_ltr() {
            run.push(c);
        } else {
            text.extend(run.drain(..).rev());
            text.push(c);
        }
    }
    text.extend(run.drain(..).rev());
    text
}

/// How a text from right to left is shown.
pub(super) fn shown(text: &str) -> String {
    shown_in(text, Level::rtl())
}

fn shown_in(text: &str, base: Level) -> String {
    ParagraphBidiInfo::new(text, Some(base))
        .reorder_line(0..text.len())
        .into_owned()
}

/// They say how to show what follows, and this is shown already.
fn is_mark_of_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Some programs store the bracket that was typed and others the one that is seen. On one page it is the same for all, so
/// the way that gives more pairs is right.
fn mirror(lines: &mut [Line]) {
    let mut kept = Pairing::default();
    let mut mirrored = Pairing::default();
    for (_, c) in lines.iter().flat_map(|line| turned_brackets(&line.text)) {
        kept.see(c);
        mirrored.see(other(c));
    }
    if mirrored.pairs <= kept.pairs {
        return;
    }
    for line in lines.iter_mut() {
        let places = turned_brackets(&line.text);
        for (at, c) in places.into_iter().rev() {
            line.text
                .replace_range(at..at + c.len_utf8(), other(c).encode_utf8(&mut [0; 4]));
        }
    }
}

/// The brackets that belong to what is written from right to left, with their places.
fn turned_brackets(text: &str) -> Vec<(usize, char)> {
    let brackets = text
        .char_indices()
        .filter(|(_, c)| other(*c) != *c)
        .collect::<Vec<_>>();
    if brackets.is_empty() || !text.chars().any(is_right_to_left) {
        return Vec::new();
    }
    let base = if Letters::of(text).are_from_right() {
        Level::rtl()
    } else {
        Level::ltr()
    };
    let levels = ParagraphBidiInfo::new(text, Some(base)).levels;
    brackets
        .into_iter()
        .filter(|(at, _)| levels[*at].is_rtl())
        .collect()
}

/// Counts brackets that close the one that was opened last.
#[derive(Default)]
struct Pairing {
    open: Vec<char>,
    pairs: usize,
}

impl Pairing {
    fn see(&mut self, c: char) {
        if PAIRS.iter().any(|(opening, _)| *opening == c) {
            self.open.push(c);
        } else if self.open.last().is_some_and(|open| other(*open) == c) {
            self.open.pop();
            self.pairs += 1;
        }
    }
}

fn other(c: char) -> char {
    PAIRS
        .iter()
        .find_map(|(one, two)| (c == *one).then_some(*two).or((c == *two).then_some(*one)))
        .unwrap_or(c)
}

#[cfg(test)]
mod tests;
