//! Printed line numbers, as in contracts and transcripts, where they stand in the middle of a word.
//!
//! Only there are they removed: a number elsewhere may belong to the text, and a numbered list looks the same.

/// Figures of a line number.
const FIGURES_MAX: usize = 4;

/// How far away another numbered line may be: many documents number each fifth line.
const REACH: usize = 5;

/// The lines without the numbers that part the halves of a word: `con-` and `12 tinued` become `con-` and `tinued`.
pub(super) fn without_those_in_words(lines: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let next = lines.get(at + 1).map_or("", String::as_str);
        if kept.last().is_some_and(|last| is_first_half(last)) {
            if number(line).is_some() && is_second_half(next) {
                continue;
            }
            if let Some((figure, rest)) = before(line).filter(|(_, rest)| is_second_half(rest))
                && is_in_sequence(lines, at, figure, |line| {
                    before(line).map(|(figure, _)| figure)
                })
            {
                kept.push(rest.to_owned());
                continue;
            }
        }
        let cut = behind(line).filter(|(rest, _)| is_first_half(rest) && is_second_half(next));
        let is_numbered = |figure| {
            is_in_sequence(lines, at, figure, |line| {
                behind(line).map(|(_, figure)| figure)
            })
        };
        kept.push(
            cut.filter(|(_, figure)| is_numbered(*figure))
                .map_or(line.as_str(), |(rest, _)| rest)
                .to_owned(),
        );
    }
    kept
}

/// A line that ends in the middle of a word.
fn is_first_half(line: &str) -> bool {
    line.strip_suffix('-')
        .is_some_and(|stem| stem.ends_with(char::is_alphabetic))
}

fn is_second_half(line: &str) -> bool {
    line.starts_with(char::is_lowercase)
}

/// Whether a line nearby has the number that belongs there.
fn is_in_sequence(
    lines: &[String],
    at: usize,
    figure: usize,
    of: impl Fn(&str) -> Option<usize>,
) -> bool {
    (1..=REACH).any(|away| {
        let above = at.checked_sub(away).and_then(|above| of(&lines[above]));
        let below = lines.get(at + away).and_then(|below| of(below));
        above.is_some_and(|above| above + away == figure) || below == Some(figure + away)
    })
}

/// The number before a line, and the line.
fn before(line: &str) -> Option<(usize, &str)> {
    let (figures, rest) = line.split_once([' ', '\t'])?;
    Some((number(figures)?, rest))
}

/// A line and the number behind it.
fn behind(line: &str) -> Option<(&str, usize)> {
    let (rest, figures) = line.rsplit_once([' ', '\t'])?;
    Some((rest, number(figures)?))
}

fn number(text: &str) -> Option<usize> {
    let is_number =
        (1..=FIGURES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::normalise;

    // X52
    #[test]
    fn x52_printed_line_numbers_do_not_divide_words() {
        assert_eq!(
            normalise("11 The parties have con-\n12 tinued their\n13 work"),
            "11 The parties have continued their\n13 work"
        );
        assert_eq!(
            normalise("11\tThe parties have con-\n12\ttinued their"),
            "11\tThe parties have continued their"
        );
        assert_eq!(
            normalise("have con- 11\ntinued their 12\nwork 13"),
            "have continued their 12\nwork 13"
        );
        assert_eq!(
            normalise("have con-\n12\ntinued their"),
            "have continued their"
        );
        let each_fifth = "5 The parties\nhave\ntheir\nown\nand con-\n10 tinued it";
        assert_eq!(
            normalise(each_fifth),
            "5 The parties\nhave\ntheir\nown\nand continued it"
        );
    }

    // X52
    #[test]
    fn numbers_that_are_no_line_numbers_stay() {
        for text in [
            "pages 3-\n4",
            "1 well-\n7 known",
            "1 oak\n2 beech\n3 ash",
            "Sub-\n12\nChapter",
            "see con- 11\nTinued 12",
        ] {
            assert_eq!(normalise(text), text);
        }
    }
}
