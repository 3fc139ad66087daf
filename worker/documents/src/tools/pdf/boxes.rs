//! Reads the word boxes that `pdftotext -bbox-layout` prints.
//!
//! The output is XML in form only (poppler puts control characters into it), so it is scanned by its few tags and not
//! parsed as XML. Anything unexpected is passed over: the tool's output is as hostile as the file it came from.

/// A rectangle in points; y grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f32,
    pub(super) top: f32,
    pub(super) right: f32,
    pub(super) bottom: f32,
}

impl Rect {
    pub(super) fn height(&self) -> f32 {
        self.bottom - self.top
    }

    pub(super) fn width(&self) -> f32 {
        self.right - self.left
    }

    /// Halfway down.
    pub(super) fn middle(&self) -> f32 {
        f32::midpoint(self.top, self.bottom)
    }

    /// Halfway across.
    pub(super) fn centre(&self) -> f32 {
        f32::midpoint(self.left, self.right)
    }

    /// Left and right exchanged: a page from right to left has its first column at the right.
    pub(super) fn mirrored(&self) -> Self {
        Self {
            left: -self.right,
            right: -self.left,
            ..*self
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// Letters that poppler has put together: a word, a part of one, or a single letter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) rect: Rect,
    /// In the order in which the page shows it, from left to right; never blank.
    pub(super) text: String,
}

/// The boxes that poppler takes for one line; never empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Boxes {
    pub(super) words: Vec<Word>,
    /// Number of the block in the file: a change of block is a change of paragraph.
    pub(super) block: usize,
}

/// The lines of each page.
pub(super) fn parse(output: &str) -> Vec<Vec<Boxes>> {
    let mut pages: Vec<Vec<Boxes>> = Vec::new();
    let mut block = 0;
    let mut words = Vec::new();
    let mut rest = output;
    while let Some((tag, after)) = next_tag(rest) {
        rest = after;
        match tag.split(' ').next() {
            Some("page") => pages.push(Vec::new()),
            Some("block") => block += 1,
            Some("line") => words.clear(),
            Some("word") => {
                let end = rest.find('<').unwrap_or(rest.len());
                words.extend(word(tag, &rest[..end]));
                rest = &rest[end..];
            }
            Some("/line") => {
                let words = std::mem::take(&mut words);
                if let Some(lines) = pages.last_mut().filter(|_| !words.is_empty()) {
                    lines.push(Boxes { words, block });
                }
            }
            _ => {}
        }
    }
    pages
}

fn word(tag: &str, text: &str) -> Option<Word> {
    let text = unescape(text);
    if text.trim().is_empty() {
        None
    } else {
        Some(Word {
            rect: rect(tag)?,
            text,
        })
    }
}

/// The inside of the next tag, and what follows it.
fn next_tag(text: &str) -> Option<(&str, &str)> {
    let (_, tag_on) = text.split_once('<')?;
    tag_on.split_once('>')
}

fn rect(tag: &str) -> Option<Rect> {
    let number = |name: &str| {
        let (_, after) = tag.split_once(name)?;
        let (value, _) = after.strip_prefix("=\"")?.split_once('"')?;
        value
            .parse::<f32>()
            .ok()
            .filter(|number| number.is_finite())
    };
    Some(Rect {
        left: number("xMin")?,
        top: number("yMin")?,
        right: number("xMax")?,
        bottom: number("yMax")?,
    })
}

/// Poppler escapes just these five; `&amp;` comes last, so that nothing is unescaped twice.
fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    text.replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<page width="600" height="800"><flow><block><line xMin="1" yMin="1" xMax="2" yMax="2">
        <word xMin="10" yMin="10" xMax="20" yMax="20">R&amp;lt;</word>
        <word xMin="20.2" yMin="10" xMax="25" yMax="20">D</word>
        <word xMin="30" yMin="10" xMax="40" yMax="20">&lt;3</word></line></block></flow></page><page></page>"#;

    // P2
    #[test]
    fn boxes_are_found_and_escapes_are_undone_once() {
        let pages = parse(PAGE);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        let words = &pages[0][0].words;
        assert_eq!(
            words
                .iter()
                .map(|word| word.text.as_str())
                .collect::<Vec<_>>(),
            ["R&lt;", "D", "<3"]
        );
        assert_eq!(
            words[1].rect,
            Rect {
                left: 20.2,
                top: 10.0,
                right: 25.0,
                bottom: 20.0
            }
        );
    }

    // P4
    #[test]
    fn rubbish_gives_no_lines_and_no_panic() {
        for rubbish in [
            "",
            "<",
            "<word",
            "<word>x</word></line>",
            "<page><line><word xMin=\"nan\">x</word></line>",
        ] {
            assert_eq!(parse(rubbish).concat().len(), 0, "{rubbish}");
        }
    }
}
