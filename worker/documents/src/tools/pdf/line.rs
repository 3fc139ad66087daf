//! Puts the boxes of a line together: what belongs to one line, in which order, and where a space is.
//!
//! Works on boxes that run from left to right ([`super::turn`]). The text is as the page shows it: what is written from
//! right to left still stands backwards.

use unicode_normalization::char::is_combining_mark;

use super::super::script::is_dense;
use super::bidi::{is_right_to_left, shown};
use super::boxes::{Boxes, Rect, Word};

/// A line of words that belong together.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) rect: Rect,
    pub(super) text: String,
    /// Words, however many boxes they were.
    pub(super) words: usize,
    /// Number of the block: a change of block is a change of paragraph.
    pub(super) block: usize,
    /// Place in poppler's own order.
    pub(super) order: usize,
}

/// Boxes this share of their height apart are two words. Poppler parts words from a tenth of the font size on, and a box
/// is up to 1.45 times as high as the font size.
const SPACE_SHARE_MIN: f32 = 0.07;

/// The same for two words of one font: poppler parts such words only where there is a space, however narrow.
const NARROW_SHARE_MIN: f32 = 0.03;

/// Letters of Han and Kana are set apart to fill a line, but by less than this share of their height if no space is meant.
const DENSE_SHARE_MIN: f32 = 0.15;

/// In a line whose Han or Kana are all set apart, a space is at least this many times as wide as the usual gap.
const STRETCH: f32 = 1.5;

/// Boxes narrower than this, in points, are accents, or letters that a font draws over the one before.
const HAIR: f32 = 0.01;

/// Lines of a block that are looked at for the other part of a torn one: poppler gives them close to each other.
const TORN_NEIGHBOURS_MAX: usize = 8;

/// The lines of a page from the boxes of lines; what poppler has torn apart at an accent is joined.
pub(super) fn lines(boxes: Vec<Boxes>) -> Vec<Line> {
    mended(boxes)
        .into_iter()
        .enumerate()
        .filter_map(|(order, boxes)| line(boxes, order))
        .collect()
}

/// Poppler begins a new line at an accent, or at a letter that is drawn over another one.
fn mended(boxes: Vec<Boxes>) -> Vec<Boxes> {
    let mut whole: Vec<Part> = Vec::with_capacity(boxes.len());
    for mut part in boxes.into_iter().filter_map(Part::new) {
        while let Some(at) = other_part(&whole, &part) {
            part = whole.remove(at).with(part);
        }
        whole.push(part);
    }
    whole.into_iter().map(|part| part.boxes).collect()
}

/// A line, or what is known of it so far.
struct Part {
    boxes: Boxes,
    rect: Rect,
    is_torn: bool,
}

impl Part {
    fn new(boxes: Boxes) -> Option<Self> {
        let rect = rect_of(&boxes.words)?;
        let is_torn = boxes.words.iter().any(|word| word.rect.width() < HAIR);
        Some(Self {
            boxes,
            rect,
            is_torn,
        })
    }

    fn with(mut self, other: Self) -> Self {
        self.boxes.words.extend(other.boxes.words);
        Self {
            rect: self.rect.union(&other.rect),
            is_torn: true,
            ..self
        }
    }

    fn is_other_part_of(&self, other: &Self) -> bool {
        let (one, two) = (&self.rect, &other.rect);
        let height = one.height().min(two.height());
        let shared = one.bottom.min(two.bottom) - one.top.max(two.top);
        let gap = one.left.max(two.left) - one.right.min(two.right);
        let is_near = shared > height / 2.0 && gap < SPACE_SHARE_MIN * height;
        is_near && (self.is_torn || other.is_torn) && self.boxes.block == other.boxes.block
    }
}

fn other_part(whole: &[Part], part: &Part) -> Option<usize> {
    let from = whole.len().saturating_sub(TORN_NEIGHBOURS_MAX);
    whole[from..]
        .iter()
        .rposition(|other| other.is_other_part_of(part))
        .map(|at| from + at)
}

fn rect_of(words: &[Word]) -> Option<Rect> {
    words
        .iter()
        .map(|word| word.rect)
        .reduce(|one, other| one.union(&other))
}

fn line(Boxes { words, block }: Boxes, order: usize) -> Option<Line> {
    let rect = rect_of(&words)?;
    let mut words = in_order(words);
    turn_clusters(&mut words);
    let usual = usual_gap(&words);
    let mut line = Line {
        rect,
        text: String::new(),
        words: 1,
        block,
        order,
    };
    let mut last: Option<(Rect, char)> = None;
    for word in &words {
        let text = word.text.trim();
        let Some((first, end)) = ends(text) else {
            continue;
        };
        if last.is_some_and(|(rect, last)| is_apart(&rect, last, &word.rect, first, usual)) {
            line.text.push(' ');
            line.words += 1;
        }
        line.text.push_str(text);
        // What is drawn over the letter before it does not move the place from which the next gap is measured.
        let reach = last
            .filter(|(rect, _)| rect.right > word.rect.right)
            .map_or(word.rect, |(rect, _)| rect);
        last = Some((reach, end));
    }
    Some(line)
}

/// From left to right by their middles, if poppler's order cannot be trusted. An accent over a letter that is read from
/// right to left stands before it, as in a line that is drawn in the order in which it is seen.
fn in_order(words: Vec<Word>) -> Vec<Word> {
    if !words.iter().any(|word| word.rect.width() < HAIR) {
        return words;
    }
    let is_base =
        |word: &&Word| word.rect.width() >= HAIR && word.text.chars().any(is_right_to_left);
    let mut bases = words
        .iter()
        .filter(is_base)
        .map(|word| word.rect)
        .collect::<Vec<_>>();
    bases.sort_by(|one, other| one.left.total_cmp(&other.left));
    let place = |word: &Word| {
        let at = word.rect.centre();
        let is_accent = word.rect.width() < HAIR && word.text.chars().all(is_combining_mark);
        let next = bases.partition_point(|base| base.left <= at);
        let base = next
            .checked_sub(1)
            .map(|n| bases[n])
            .filter(|base| is_accent && at < base.right);
        base.map_or(at, |base| base.centre().min(at) - HAIR)
    };
    let mut placed = words
        .into_iter()
        .map(|word| (place(&word), word))
        .collect::<Vec<_>>();
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    placed.into_iter().map(|(_, word)| word).collect()
}

/// Where each letter has a box of its own, a box with several is one glyph: a ligature, whose letters stand in the order
/// of reading. They are turned into the order of all others.
fn turn_clusters(words: &mut [Word]) {
    let is_turned = |word: &&Word| {
        word.text
            .chars()
            .all(|c| is_right_to_left(c) || is_combining_mark(c))
    };
    let (mut single, mut several) = (0, 0);
    for word in words.iter().filter(is_turned) {
        *(if word.text.chars().nth(1).is_some() {
            &mut several
        } else {
            &mut single
        }) += 1;
    }
    for word in words.iter_mut() {
        let is_cluster = single > several && is_turned(&&*word);
        // Poppler ends a word at a space, so what holds one was given by the file as the text of a single glyph.
        if is_cluster || (word.text.contains(' ') && word.text.chars().any(is_right_to_left)) {
            word.text = shown(word.text.trim());
        }
    }
}

/// The median gap between neighbours of Han and Kana, those within a box included.
fn usual_gap(words: &[Word]) -> f32 {
    let mut gaps = Vec::new();
    for pair in words.windows(2) {
        if ends(&pair[0].text).is_some_and(|(_, last)| is_dense(last))
            && ends(&pair[1].text).is_some_and(|(first, _)| is_dense(first))
        {
            gaps.push(gap(&pair[0].rect, &pair[1].rect));
        }
    }
    if gaps.is_empty() {
        return 0.0;
    }
    let within = words
        .iter()
        .map(|word| {
            word.text
                .chars()
                .filter(|c| is_dense(*c))
                .count()
                .saturating_sub(1)
        })
        .sum::<usize>();
    gaps.extend(std::iter::repeat_n(0.0, within));
    gaps.sort_by(f32::total_cmp);
    gaps[gaps.len() / 2]
}

fn ends(text: &str) -> Option<(char, char)> {
    Some((text.chars().next()?, text.chars().next_back()?))
}

fn gap(one: &Rect, other: &Rect) -> f32 {
    other.left - one.right
}

/// Whether a space belongs between two neighbours.
fn is_apart(one: &Rect, last: char, other: &Rect, first: char, usual: f32) -> bool {
    let height = one.height().min(other.height());
    let gap = gap(one, other);
    if is_combining_mark(first) && other.width() < HAIR {
        return false;
    }
    if is_dense(last) && is_dense(first) {
        return gap >= DENSE_SHARE_MIN * height && gap >= STRETCH * usual;
    }
    let is_one_font =
        (one.top - other.top).abs() < HAIR && (one.bottom - other.bottom).abs() < HAIR;
    // Other scripts are often drawn letter by letter, at places that are rounded.
    let is_narrow = is_one_font && last < SCRIPTS_OF_THE_EAST && first < SCRIPTS_OF_THE_EAST;
    gap >= height
        * if is_narrow {
            NARROW_SHARE_MIN
        } else {
            SPACE_SHARE_MIN
        }
}

/// Before it are Latin, Greek, Cyrillic and Armenian.
const SCRIPTS_OF_THE_EAST: char = '\u{590}';

#[cfg(test)]
mod tests;
