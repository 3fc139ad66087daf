//! Puts the words of Tesseract's table together to lines and paragraphs.
//!
//! Tesseract cuts a page into blocks, and cuts too much where figures stand below each other: `MS-` in one block, `204817`
//! in the next. Its boxes tell what stands beside what, so lines that touch are joined again.

use super::OcrText;

/// A word counts as surely read from this confidence on.
const CONFIDENCE_SURE: f32 = 60.0;

/// Pieces of two blocks are one line if their gap is less than this share of the higher one; columns stand farther apart.
const JOINED_SHARE_MAX: f32 = 0.6;

/// And if they share at least this much of their height.
const LEVEL_SHARE_MIN: f32 = 0.6;

/// Pieces that overlap by more than this share of their height do not stand beside each other.
const OVERLAP_SHARE_MAX: f32 = 0.5;

/// A hyphen is drawn with more room around it than a letter, and belongs to its word up to this share of the line's usual gap.
const HYPHEN_GAP_SHARE_MAX: f32 = 0.75;

/// The same for a code of capitals and figures, such as an order number: a narrow figure behind the hyphen widens the gap.
const CODE_GAP_SHARE_MAX: f32 = 1.25;

/// A number of this many figures behind a hyphen is the rest of a code; a shorter one may be an amount below zero.
const CODE_FIGURES_MIN: usize = 3;

/// Within the capitals before the hyphen of a code, as in `OR D-367853`: Tesseract cuts them at letters that stand apart by their form.
const CAPITALS_GAP_SHARE_MAX: f32 = 0.97;

/// A code begins with this many capitals at most.
const CAPITALS_MAX: usize = 6;

/// A word that goes on after its hyphen has at most this gap there, as a share of its height.
const GLUED_SHARE_MAX: f32 = 0.12;

/// Lines of a page among which neighbours are looked for: the work grows with their square. A newspaper page has 1,000.
const LINES_JOINED_MAX: usize = 2_000;

/// What one run has read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) text: OcrText,
    /// Letters of surely read words: the more, the better the picture stood.
    pub(super) sure_letters: usize,
}

/// A place on the page as its reader sees it: right is along the line, down is to the next line.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: f32,
    top: f32,
    right: f32,
    bottom: f32,
}

#[derive(Debug)]
struct Word<'a> {
    text: &'a str,
    confidence: f32,
    place: Place,
}

#[derive(Debug)]
struct Line<'a> {
    block: &'a str,
    paragraph: &'a str,
    words: Vec<Word<'a>>,
    place: Place,
}

/// The direction of writing in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Right,
    Down,
    Left,
    Up,
}

pub(super) fn parse(table: &str) -> Read {
    let mut lines = lines(table);
    let sure = lines
        .iter()
        .flat_map(|line| &line.words)
        .filter(|word| word.confidence >= CONFIDENCE_SURE);
    let sure_letters = sure.map(|word| word.text.chars().count()).sum();
    let mean_confidence = mean_confidence(&lines);
    turn(&mut lines);
    if lines.len() <= LINES_JOINED_MAX {
        lines = joined(lines);
    }
    Read {
        text: OcrText {
            text: text(&lines),
            mean_confidence,
        },
        sure_letters,
    }
}

fn lines(table: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut last = None;
    for (key, word) in table.lines().filter_map(parse_word) {
        match lines.last_mut().filter(|_| last == Some(key)) {
            Some(line) => {
                line.place = line.place.with(&word.place);
                line.words.push(word);
            }
            None => lines.push(Line {
                block: key[1],
                paragraph: key[2],
                place: word.place,
                words: vec![word],
            }),
        }
        last = Some(key);
    }
    lines
}

/// `level page_num block_num par_num line_num word_num left top width height conf text`; level 5 is a word. The key is
/// page, block, paragraph, line.
fn parse_word(line: &str) -> Option<([&str; 4], Word<'_>)> {
    let fields = line.splitn(12, '\t').collect::<Vec<_>>();
    let [
        level,
        page,
        block,
        paragraph,
        line,
        _,
        left,
        top,
        width,
        height,
        confidence,
        text,
    ] = fields[..]
    else {
        return None;
    };
    let confidence = confidence
        .parse::<f32>()
        .ok()
        .filter(|confidence| (0.0..=100.0).contains(confidence))?;
    let text = text.trim();
    let number = |field: &str| {
        field
            .parse::<f32>()
            .ok()
            .filter(|number| number.is_finite())
    };
    let (left, top) = (number(left)?, number(top)?);
    let place = Place {
        left,
        top,
        right: left + number(width)?,
        bottom: top + number(height)?,
    };
    (level == "5" && !text.is_empty()).then_some((
        [page, block, paragraph, line],
        Word {
            text,
            confidence,
            place,
        },
    ))
}

fn mean_confidence(lines: &[Line]) -> Option<f32> {
    let (mut weighted, mut weight) = (0.0, 0.0);
    for word in lines.iter().flat_map(|line| &line.words) {
        let length = word.text.chars().count() as f32;
        weighted += word.confidence * length;
        weight += length;
    }
    (weight > 0.0).then(|| weighted / weight)
}

/// Tesseract gives places in the picture, also when it has turned the page to read it.
fn turn(lines: &mut [Line]) {
    let direction = direction(lines);
    for line in lines {
        for word in &mut line.words {
            word.place = word.place.turned(direction);
        }
        line.place = line.place.turned(direction);
    }
}

/// From the first word of its lines to the last one.
fn direction(lines: &[Line]) -> Direction {
    let (mut across, mut down) = (0.0, 0.0);
    for line in lines {
        if let [first, .., last] = &line.words[..] {
            across += last.place.left + last.place.right - first.place.left - first.place.right;
            down += last.place.top + last.place.bottom - first.place.top - first.place.bottom;
        }
    }
    match (
        f32::abs(across) >= f32::abs(down),
        across >= 0.0,
        down >= 0.0,
    ) {
        (true, true, _) => Direction::Right,
        (true, false, _) => Direction::Left,
        (false, _, true) => Direction::Down,
        (false, _, false) => Direction::Up,
    }
}

impl Place {
    fn height(&self) -> f32 {
        self.bottom - self.top
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    fn turned(&self, direction: Direction) -> Self {
        let Self {
            left,
            top,
            right,
            bottom,
        } = *self;
        match direction {
            Direction::Right => *self,
            Direction::Left => Self {
                left: -right,
                top: -bottom,
                right: -left,
                bottom: -top,
            },
            Direction::Down => Self {
                left: top,
                top: -right,
                right: bottom,
                bottom: -left,
            },
            Direction::Up => Self {
                left: -bottom,
                top: left,
                right: -top,
                bottom: right,
            },
        }
    }

    /// Whether `next` stands right behind this, on the same line.
    fn is_followed_by(&self, next: &Self) -> bool {
        let (low, high) = (
            self.height().min(next.height()),
            self.height().max(next.height()),
        );
        let (gap, shared) = (
            next.left - self.right,
            self.bottom.min(next.bottom) - self.top.max(next.top),
        );
        shared >= LEVEL_SHARE_MIN * low
            && gap < JOINED_SHARE_MAX * high
            && gap > -OVERLAP_SHARE_MAX * high
    }
}

/// Lines of two blocks that stand right beside each other become one, at the place of the left one.
fn joined(lines: Vec<Line<'_>>) -> Vec<Line<'_>> {
    let mut lines = lines.into_iter().map(Some).collect::<Vec<_>>();
    for at in 0..lines.len() {
        let Some(mut line) = lines[at].take() else {
            continue;
        };
        while let Some(next) = lines
            .iter()
            .position(|other| other.as_ref().is_some_and(|other| follows(other, &line)))
        {
            let Some(next) = lines[next].take() else {
                break;
            };
            line.place = line.place.with(&next.place);
            line.words.extend(next.words);
        }
        lines[at] = Some(line);
    }
    lines.into_iter().flatten().collect()
}

fn follows(next: &Line, line: &Line) -> bool {
    let (Some(last), Some(first)) = (line.words.last(), next.words.first()) else {
        return false;
    };
    next.block != line.block && last.place.is_followed_by(&first.place)
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut last: Option<&Line> = None;
    for line in lines {
        if let Some(last) = last {
            let is_same = (last.block, last.paragraph) == (line.block, line.paragraph);
            text.push_str(if is_same { "\n" } else { "\n\n" });
        }
        write_line(&mut text, &line.words);
        last = Some(line);
    }
    text
}

fn write_line(text: &mut String, words: &[Word]) {
    let usual_gap = usual_gap(words);
    let mut last: Option<&Word> = None;
    for word in words {
        if last.is_some_and(|last| !is_one_word(last, word, usual_gap)) {
            text.push(' ');
        }
        text.push_str(word.text);
        last = Some(word);
    }
}

/// The median of the gaps of a line.
fn usual_gap(words: &[Word]) -> f32 {
    let mut gaps = words
        .windows(2)
        .map(|pair| pair[1].place.left - pair[0].place.right)
        .collect::<Vec<_>>();
    gaps.sort_by(f32::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
}

/// Whether Tesseract has cut one word in two: at the border of a block, or beside a hyphen.
fn is_one_word(one: &Word, next: &Word, usual_gap: f32) -> bool {
    let gap = next.place.left - one.place.right;
    let Some(share) = hyphen_gap_share(one.text, next.text) else {
        return false;
    };
    gap < (share * usual_gap).max(GLUED_SHARE_MAX * one.place.height().min(next.place.height()))
}

/// How wide the gap between two words may be, of which one has its hyphen at the other; `None`: neither has.
fn hyphen_gap_share(one: &str, next: &str) -> Option<f32> {
    let is_hyphen = |c: char| matches!(c, '-' | '\u{2010}' | '\u{2011}');
    let are_figures = |rest: &str| {
        rest.len() >= CODE_FIGURES_MIN && rest.bytes().all(|byte| byte.is_ascii_digit())
    };
    if let Some((capitals, rest)) = next.split_once(is_hyphen)
        && are_capitals(&[one, capitals])
        && are_figures(rest)
    {
        return Some(CAPITALS_GAP_SHARE_MAX);
    }
    if let Some(rest) = next.strip_prefix(is_hyphen) {
        let is_code =
            are_figures(rest) && one.chars().all(|c| c.is_uppercase() || c.is_ascii_digit());
        let is_word =
            one.ends_with(char::is_alphanumeric) && rest.starts_with(char::is_alphanumeric);
        return is_word.then_some(if is_code {
            CODE_GAP_SHARE_MAX
        } else {
            HYPHEN_GAP_SHARE_MAX
        });
    }
    let stem = one.strip_suffix(is_hyphen)?;
    (stem.ends_with(char::is_alphanumeric) && next.starts_with(char::is_alphanumeric))
        .then_some(HYPHEN_GAP_SHARE_MAX)
}

/// Whether these pieces, none of them empty, are together the capitals before the hyphen of a code.
fn are_capitals(pieces: &[&str]) -> bool {
    let is_piece = |piece: &&str| !piece.is_empty() && piece.chars().all(char::is_uppercase);
    pieces.iter().all(is_piece)
        && pieces
            .iter()
            .map(|piece| piece.chars().count())
            .sum::<usize>()
            <= CAPITALS_MAX
}

#[cfg(test)]
mod tests;
