//! Puts the lines of a page in reading order.
//!
//! From top to bottom the page is cut into bands: either one column, or several columns parted by a gutter that no
//! line of the band crosses. A band of columns is read column by column if it is running text, and row by row if it
//! is a table (short cells that stand level with each other). Columns are treated in the same way again.
//!
//! Invariant: every line comes out exactly once, so an odd layout can cost order but never text.

use super::boxes::Rect;
use super::line::Line;

/// A gutter is at least this share of a line's height wide. Two-column pages are set with about one line height; the
/// spaces between words are a third of it.
const GUTTER_SHARE_MIN: f32 = 0.6;

/// Lines that share no more than this of their height only touch.
const TOUCH_SHARE_MAX: f32 = 0.1;

/// Lines that share more than this of their height stand level, even if they overlap in width.
const LEVEL_SHARE_OF_HEIGHT_MIN: f32 = 0.5;

/// How many lines of a row are looked at for a neighbour: the last ones begin nearest. It bounds the work.
const NEIGHBOURS_MAX: usize = 64;

/// Lines on one side of the gutter only, this many line heights away from the band, are not of the band any more: a
/// page number below the columns.
const APART_SHARE: f32 = 2.0;

/// Cells of a table have few words; lines of even a narrow text column have more.
const CELL_WORDS_MAX: f32 = 3.5;

/// Share of the cells that stand level with a cell of another column, for a table.
const LEVEL_SHARE_MIN: f32 = 0.6;

/// Cells whose middles differ by less than this share of the line height stand level.
const LEVEL_SHARE: f32 = 0.4;

/// Lines of one height with less than this share of it between them are one paragraph, whatever poppler makes of them: it
/// parts lines by the size of the font, and those of Arabic and Thai are set further apart than that.
const PARAGRAPH_SHARE_MIN: f32 = 0.1;

/// Heights that differ by no more than this share are the same.
const SAME_HEIGHT_SHARE: f32 = 0.05;

/// Gutters of one band: no table has more columns, and the work grows with lines × gutters.
const GUTTERS_MAX: usize = 64;

/// Columns within columns; real pages have two or three, a hostile page shall not recurse without end.
const DEPTH_MAX: usize = 8;

/// The text of a page: lines parted by a newline, paragraphs and bands by an empty line, table cells by a tab.
pub(super) fn reading_order(lines: Vec<Line>) -> String {
    let height = median_height(&lines);
    let mut page = Page {
        height,
        text: String::new(),
        last: None,
    };
    page.read(lines, 0);
    page.text
}

struct Page {
    /// Median height of the lines: the page's unit of length.
    height: f32,
    text: String,
    /// The last line written, by its block and place.
    last: Option<(usize, Rect)>,
}

/// Lines that are read together, and the places where they can be cut into columns.
struct Band {
    lines: Vec<Line>,
    bottom: f32,
    gutters: Vec<(f32, f32)>,
}

impl Page {
    fn read(&mut self, lines: Vec<Line>, depth: usize) {
        for band in self.bands(lines) {
            if band.gutters.is_empty() || depth == DEPTH_MAX {
                self.write_column(band.lines);
                continue;
            }
            let columns = columns(band.lines, &band.gutters);
            if self.is_table(&columns) {
                self.write_rows(columns.concat());
            } else {
                for column in columns {
                    self.read(column, depth + 1);
                }
            }
        }
    }

    /// Cuts from top to bottom. A row joins the band above it as long as a gutter is left.
    fn bands(&self, lines: Vec<Line>) -> Vec<Band> {
        let mut bands: Vec<Band> = Vec::new();
        for row in rows(lines) {
            let mut new = self.band(row);
            let joint = bands.last_mut().and_then(|last| {
                self.joint_gutters(last, &new)
                    .map(|gutters| (last, gutters))
            });
            if let Some((last, gutters)) = joint {
                last.lines.extend(new.lines);
                last.bottom = last.bottom.max(new.bottom);
                last.gutters = gutters;
                continue;
            }
            if let Some(last) = bands.last_mut() {
                self.take_back(last, &mut new);
            }
            bands.push(new);
        }
        bands.retain(|band| !band.lines.is_empty());
        bands
    }

    /// Lines right above a band of columns that stand over one of its later columns begin that column: it begins
    /// higher than the first, as beside a heading.
    fn take_back(&self, last: &mut Band, new: &mut Band) {
        let Some((left, right)) = new
            .gutters
            .first()
            .copied()
            .filter(|_| last.gutters.is_empty())
        else {
            return;
        };
        let first_column_ends = f32::midpoint(left, right);
        let mut top = top_of(&new.lines);
        while let Some(line) = last.lines.last() {
            let is_near = top - line.rect.bottom <= self.height;
            let gutters = self.joined_gutters(&new.gutters, std::slice::from_ref(line));
            if !is_near || line.rect.left < first_column_ends || gutters.is_empty() {
                break;
            }
            top = line.rect.top;
            new.gutters = gutters;
            new.lines.extend(last.lines.pop());
        }
    }

    fn band(&self, row: Vec<Line>) -> Band {
        let bottom = row
            .iter()
            .map(|line| line.rect.bottom)
            .fold(f32::MIN, f32::max);
        Band {
            gutters: self.gutters(&row),
            lines: row,
            bottom,
        }
    }

    /// The gutters of both together, if they are one band: `Some` and empty for two parts of a single column.
    fn joint_gutters(&self, last: &Band, new: &Band) -> Option<Vec<(f32, f32)>> {
        match (last.gutters.is_empty(), new.gutters.is_empty()) {
            (true, true) => Some(Vec::new()),
            (true, false) => None,
            (false, new_is_one_sided) => {
                if new_is_one_sided && top_of(&new.lines) - last.bottom > APART_SHARE * self.height
                {
                    return None;
                }
                Some(self.joined_gutters(&last.gutters, &new.lines))
                    .filter(|gutters| !gutters.is_empty())
            }
        }
    }

    fn joined_gutters(&self, gutters: &[(f32, f32)], lines: &[Line]) -> Vec<(f32, f32)> {
        gutters
            .iter()
            .filter_map(|gutter| self.narrowed(*gutter, lines))
            .collect()
    }

    /// What these lines leave of a gutter, if it is still wide enough and none of them crosses it.
    fn narrowed(&self, (mut left, mut right): (f32, f32), lines: &[Line]) -> Option<(f32, f32)> {
        for line in lines {
            if line.rect.left < f32::midpoint(left, right) {
                left = left.max(line.rect.right);
            } else {
                right = right.min(line.rect.left);
            }
        }
        (right - left >= GUTTER_SHARE_MIN * self.height).then_some((left, right))
    }

    /// The gaps between the lines of one row, seen from above.
    fn gutters(&self, row: &[Line]) -> Vec<(f32, f32)> {
        let mut spans = row
            .iter()
            .map(|line| (line.rect.left, line.rect.right))
            .collect::<Vec<_>>();
        spans.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut gutters = Vec::new();
        let mut covered: Option<f32> = None;
        for (left, right) in spans {
            if let Some(covered) =
                covered.filter(|covered| left - covered >= GUTTER_SHARE_MIN * self.height)
            {
                gutters.push((covered, left));
            }
            covered = Some(covered.map_or(right, |covered| covered.max(right)));
        }
        gutters.truncate(GUTTERS_MAX);
        gutters
    }

    /// Short cells, level with each other, with at most one column of longer descriptions.
    fn is_table(&self, columns: &[Vec<Line>]) -> bool {
        let is_cells = |column: &&Vec<Line>| {
            let words = column.iter().map(|line| line.words).sum::<usize>();
            words as f32 <= CELL_WORDS_MAX * column.len() as f32
        };
        let cells = columns.iter().filter(is_cells).collect::<Vec<_>>();
        if cells.len() + 1 < columns.len() || cells.is_empty() {
            return false;
        }
        let all = cells.iter().map(|column| column.len()).sum::<usize>();
        let level = cells
            .iter()
            .map(|column| self.level_lines(column, columns))
            .sum::<usize>();
        level as f32 >= LEVEL_SHARE_MIN * all as f32
    }

    /// How many lines of `column` stand level with a line of another column.
    fn level_lines(&self, column: &[Line], columns: &[Vec<Line>]) -> usize {
        let mut middles = columns
            .iter()
            .filter(|other| {
                other.first().map(|line| line.order) != column.first().map(|line| line.order)
            })
            .flatten()
            .map(|line| line.rect.middle())
            .collect::<Vec<_>>();
        middles.sort_by(f32::total_cmp);
        let tolerance = LEVEL_SHARE * self.height;
        let is_level = |line: &&Line| {
            let middle = line.rect.middle();
            let next = middles.partition_point(|other| *other < middle - tolerance);
            middles
                .get(next)
                .is_some_and(|other| *other <= middle + tolerance)
        };
        column.iter().filter(is_level).count()
    }

    fn write_column(&mut self, lines: Vec<Line>) {
        for line in lines {
            let is_same = self
                .last
                .is_some_and(|(block, last)| block == line.block || is_next(&last, &line.rect));
            self.write(if is_same { "\n" } else { "\n\n" }, &line.text);
            self.last = Some((line.block, line.rect));
        }
    }

    fn write_rows(&mut self, mut lines: Vec<Line>) {
        lines.sort_by(|one, other| one.rect.middle().total_cmp(&other.rect.middle()));
        let mut separator = "\n\n";
        for mut row in chunk_by_gap(lines, LEVEL_SHARE * self.height) {
            row.sort_by(|one, other| one.rect.left.total_cmp(&other.rect.left));
            let cells = row
                .iter()
                .map(|line| line.text.as_str())
                .collect::<Vec<_>>();
            self.write(separator, &cells.join("\t"));
            separator = "\n";
        }
        self.last = None;
    }

    fn write(&mut self, separator: &str, text: &str) {
        if !self.text.is_empty() {
            self.text.push_str(separator);
        }
        self.text.push_str(text);
    }
}

/// Lines that stand beside each other, from top to bottom; within a row in poppler's order. Two columns of text whose
/// lines are not level are one row, since each line stands beside the next of the other column.
fn rows(mut lines: Vec<Line>) -> Vec<Vec<Line>> {
    lines.sort_by(|one, other| {
        one.rect
            .top
            .total_cmp(&other.rect.top)
            .then(one.order.cmp(&other.order))
    });
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for line in lines {
        match rows.last_mut() {
            Some(row)
                if row
                    .iter()
                    .rev()
                    .take(NEIGHBOURS_MAX)
                    .any(|other| is_beside(other, &line)) =>
            {
                row.push(line);
            }
            _ => rows.push(vec![line]),
        }
    }
    for row in &mut rows {
        row.sort_by_key(|line| line.order);
    }
    rows
}

/// Whether two lines share some height and no width, or most of their height: the boxes of lines below each other
/// often touch, because they hold accents and descenders.
fn is_beside(one: &Line, other: &Line) -> bool {
    let (one, other) = (&one.rect, &other.rect);
    let shared = one.bottom.min(other.bottom) - one.top.max(other.top);
    let height = one.height().min(other.height());
    let is_clear = one.right <= other.left || other.right <= one.left;
    shared
        > if is_clear {
            TOUCH_SHARE_MAX
        } else {
            LEVEL_SHARE_OF_HEIGHT_MIN
        } * height
}

/// Whether a line follows right below another of its kind.
fn is_next(last: &Rect, line: &Rect) -> bool {
    let (height, other) = (last.height(), line.height());
    let is_under = line.left < last.right && last.left < line.right;
    is_under
        && (line.top - last.bottom).abs() <= PARAGRAPH_SHARE_MIN * height
        && (height - other).abs() <= SAME_HEIGHT_SHARE * height
}

/// Parts sorted lines where the next middle is more than `gap` below the first of the row.
fn chunk_by_gap(lines: Vec<Line>, gap: f32) -> Vec<Vec<Line>> {
    let mut rows: Vec<Vec<Line>> = Vec::new();
    for line in lines {
        match rows.last_mut() {
            Some(row) if line.rect.middle() - row[0].rect.middle() <= gap => row.push(line),
            _ => rows.push(vec![line]),
        }
    }
    rows
}

/// The lines between the gutters, from left to right; a line belongs where its left edge is.
fn columns(lines: Vec<Line>, gutters: &[(f32, f32)]) -> Vec<Vec<Line>> {
    let mut columns = vec![Vec::new(); gutters.len() + 1];
    for line in lines {
        let index = gutters
            .iter()
            .filter(|(left, right)| line.rect.left >= f32::midpoint(*left, *right))
            .count();
        columns[index].push(line);
    }
    columns.retain(|column| !column.is_empty());
    columns
}

fn top_of(lines: &[Line]) -> f32 {
    lines
        .iter()
        .map(|line| line.rect.top)
        .fold(f32::MAX, f32::min)
}

fn median_height(lines: &[Line]) -> f32 {
    let mut heights = lines
        .iter()
        .map(|line| line.rect.height())
        .collect::<Vec<_>>();
    heights.sort_by(f32::total_cmp);
    heights
        .get(heights.len() / 2)
        .copied()
        .unwrap_or(0.0)
        .max(1.0)
}

#[cfg(test)]
mod tests;
