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

    pub(super) fn middle(&self) -> f32 {
        f32::midpoint(self.top, self.bottom)
    }
}

/// A line of words that belong together, as poppler found it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) rect: Rect,
    pub(super) text: String,
    pub(super) words: usize,
    /// Number of the block in the page: a change of block is a change of paragraph.
    pub(super) block: usize,
    /// Place in poppler's own order.
    pub(super) order: usize,
}

/// Words nearer than this share of their height are one word: poppler parts a word where its font changes. It puts
/// a space from about a tenth of the font size on.
const SPACE_SHARE_MIN: f32 = 0.1;

/// The lines of each page.
pub(super) fn parse(output: &str) -> Vec<Vec<Line>> {
    let mut pages: Vec<Vec<Line>> = Vec::new();
    let mut block = 0;
    let mut line = LineBuilder::default();
    let mut rest = output;
    while let Some((tag, after)) = next_tag(rest) {
        rest = after;
        match tag.split(' ').next() {
            Some("page") => pages.push(Vec::new()),
            Some("block") => block += 1,
            Some("line") => line = LineBuilder::default(),
            Some("word") => {
                let end = rest.find('<').unwrap_or(rest.len());
                line.push(rect(tag), &unescape(&rest[..end]));
                rest = &rest[end..];
            }
            Some("/line") => {
                if let Some(lines) = pages.last_mut() {
                    let order = lines.len();
                    lines.extend(std::mem::take(&mut line).finish(block, order));
                }
            }
            _ => {}
        }
    }
    pages
}

#[derive(Default)]
struct LineBuilder {
    rect: Option<Rect>,
    last: Option<Rect>,
    text: String,
    words: usize,
}

impl LineBuilder {
    fn push(&mut self, rect: Option<Rect>, word: &str) {
        let (Some(rect), word) = (rect, word.trim()) else { return };
        if word.is_empty() {
            return;
        }
        if self.last.is_some_and(|last| is_apart(&last, &rect)) {
            self.text.push(' ');
        }
        self.text.push_str(word);
        self.words += 1;
        self.last = Some(rect);
        self.rect = Some(self.rect.map_or(rect, |all| union(&all, &rect)));
    }

    fn finish(self, block: usize, order: usize) -> Option<Line> {
        Some(Line { rect: self.rect?, text: self.text, words: self.words, block, order })
    }
}

/// Whether a space belongs between two neighbours, in either direction of writing.
fn is_apart(one: &Rect, other: &Rect) -> bool {
    let gap = (other.left - one.right).max(one.left - other.right);
    gap >= SPACE_SHARE_MIN * one.height().min(other.height())
}

fn union(one: &Rect, other: &Rect) -> Rect {
    Rect {
        left: one.left.min(other.left),
        top: one.top.min(other.top),
        right: one.right.max(other.right),
        bottom: one.bottom.max(other.bottom),
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
        value.parse::<f32>().ok().filter(|number| number.is_finite())
    };
    Some(Rect { left: number("xMin")?, top: number("yMin")?, right: number("xMax")?, bottom: number("yMax")? })
}

/// Poppler escapes just these five; `&amp;` comes last, so that nothing is unescaped twice.
fn unescape(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&#39;", "'").replace("&amp;", "&")
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
    fn words_that_touch_are_one_and_escapes_are_undone_once() {
        let pages = parse(PAGE);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        let line = &pages[0][0];
        assert_eq!((line.text.as_str(), line.rect.left, line.rect.right), ("R&lt;D <3", 10.0, 40.0));
    }

    // P4
    #[test]
    fn rubbish_gives_no_lines_and_no_panic() {
        for rubbish in ["", "<", "<word", "<word>x</word></line>", "<page><line><word xMin=\"nan\">x</word></line>"] {
            assert_eq!(parse(rubbish).concat().len(), 0, "{rubbish}");
        }
    }
}
