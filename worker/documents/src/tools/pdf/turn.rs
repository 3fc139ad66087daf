//! Which way the lines of a page run, and their boxes turned so that every line runs from left to right.
//!
//! Text that is printed sideways (a caption, a stamp in the margin, a table that fills a turned page) is then read by
//! the same rules as all other text: what is a space and what stands in which column is measured along its own lines.

use super::boxes::{Boxes, Rect};

/// Where a line goes on, as seen by whoever holds the page upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// To the right.
    Upright,
    /// From the bottom to the top: the spine of a book.
    Up,
    /// From the top to the bottom; also vertical writing, whose lines follow each other from right to left.
    Down,
    /// To the left: upside down.
    Over,
}

/// A single word is taken for a sideways one from this many letters on, if it is this many times higher than wide. Four upright
/// letters are never as narrow as that in any font.
const SIDEWAYS_LETTERS_MIN: usize = 4;
const SIDEWAYS_SHARE_MIN: f32 = 2.0;

/// The lines of each turn with their boxes turned upright; the turn with most letters first.
pub(super) fn upright(lines: Vec<Boxes>) -> Vec<Vec<Boxes>> {
    let known = lines.iter().map(turn_of).collect::<Vec<_>>();
    let count = |turn: Turn| known.iter().filter(|known| **known == Some(turn)).count();
    let level = if count(Turn::Over) > count(Turn::Upright) {
        Turn::Over
    } else {
        Turn::Upright
    };
    let sideways = if count(Turn::Down) > count(Turn::Up) {
        Turn::Down
    } else {
        Turn::Up
    };
    let mut groups: Vec<(Turn, Vec<Boxes>)> = Vec::new();
    for (mut line, known) in lines.into_iter().zip(known) {
        let turn = known.unwrap_or_else(|| if is_sideways(&line) { sideways } else { level });
        line.words
            .iter_mut()
            .for_each(|word| word.rect = turn.upright(&word.rect));
        match groups.iter_mut().find(|(other, _)| *other == turn) {
            Some((_, group)) => group.push(line),
            None => groups.push((turn, vec![line])),
        }
    }
    let letters = |group: &[Boxes]| {
        group
            .iter()
            .flat_map(|line| &line.words)
            .map(|word| word.text.len())
            .sum::<usize>()
    };
    groups.sort_by_key(|(turn, group)| (std::cmp::Reverse(letters(group)), *turn));
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Poppler gives the words of a line in the direction of the line; `None`: one word says nothing.
fn turn_of(line: &Boxes) -> Option<Turn> {
    let (first, last) = (line.words.first()?.rect, line.words.last()?.rect);
    let (across, down) = (last.left - first.left, last.top - first.top);
    if line.words.len() < 2 {
        None
    } else if down.abs() > across.abs() {
        Some(if down > 0.0 { Turn::Down } else { Turn::Up })
    } else {
        Some(if across < 0.0 {
            Turn::Over
        } else {
            Turn::Upright
        })
    }
}

fn is_sideways(line: &Boxes) -> bool {
    line.words.first().is_some_and(|word| {
        word.text.chars().count() >= SIDEWAYS_LETTERS_MIN
            && word.rect.height() > SIDEWAYS_SHARE_MIN * word.rect.width()
    })
}

impl Turn {
    fn upright(self, rect: &Rect) -> Rect {
        let Rect {
            left,
            top,
            right,
            bottom,
        } = *rect;
        match self {
            Self::Upright => *rect,
            Self::Up => Rect {
                left: -bottom,
                top: left,
                right: -top,
                bottom: right,
            },
            Self::Down => Rect {
                left: top,
                top: -right,
                right: bottom,
                bottom: -left,
            },
            Self::Over => Rect {
                left: -right,
                top: -bottom,
                right: -left,
                bottom: -top,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::boxes::Word;
    use super::*;

    fn line(rects: &[(f32, f32, f32, f32)], text: &str) -> Boxes {
        let word = |(left, top, right, bottom)| Word {
            rect: Rect {
                left,
                top,
                right,
                bottom,
            },
            text: text.to_owned(),
        };
        Boxes {
            words: rects.iter().copied().map(word).collect(),
            block: 0,
        }
    }

    // X45
    #[test]
    fn a_line_of_any_turn_runs_to_the_right_afterwards_and_the_next_one_is_below() {
        let turns = [
            (
                Turn::Upright,
                (10., 10., 40., 20.),
                (43., 10., 90., 20.),
                (10., 24., 40., 34.),
            ),
            (
                Turn::Up,
                (10., 60., 20., 90.),
                (10., 10., 20., 57.),
                (24., 60., 34., 90.),
            ),
            (
                Turn::Down,
                (50., 10., 60., 40.),
                (50., 43., 60., 90.),
                (36., 10., 46., 40.),
            ),
            (
                Turn::Over,
                (60., 50., 90., 60.),
                (10., 50., 57., 60.),
                (60., 36., 90., 46.),
            ),
        ];
        for (turn, one, two, next) in turns {
            let (top, below) = (line(&[one, two], "word"), line(&[next, next], "word"));
            assert_eq!(turn_of(&top), Some(turn));
            let [one, two] = [0, 1].map(|n| turn.upright(&top.words[n].rect));
            let below = turn.upright(&below.words[0].rect);
            assert_eq!((two.left - one.right, two.top), (3.0, one.top), "{turn:?}");
            assert_eq!(
                (below.left, below.top - one.bottom),
                (one.left, 4.0),
                "{turn:?}"
            );
        }
    }

    // X45
    #[test]
    fn what_runs_another_way_is_read_by_itself_and_comes_last() {
        let stamp = line(&[(20., 400., 40., 600.), (20., 300., 40., 390.)], "stamp");
        let single = line(&[(60., 400., 70., 440.)], "alone");
        let narrow = line(&[(60., 500., 64., 520.)], "il");
        let text = line(
            &[(70., 76., 80., 84.), (82., 76., 95., 84.)],
            "a longer line of text",
        );
        let groups = upright(vec![stamp, single, narrow, text]);
        let texts = groups.iter().map(|group| {
            group
                .iter()
                .map(|line| line.words[0].text.as_str())
                .collect::<Vec<_>>()
        });
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [vec!["il", "a longer line of text"], vec!["stamp", "alone"]]
        );
    }
}
