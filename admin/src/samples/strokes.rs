//! An alphabet drawn with a pen: capitals, digits and a few signs, plain enough for Tesseract to read.
//!
//! Each glyph is a list of pen strokes; each stroke is a list of points, two digits each: x, then y above the baseline.

/// Height of a capital, in units of the grid.
pub(super) const HEIGHT: f32 = 9.0;
/// Half the width of the pen.
pub(super) const PEN_RADIUS: f32 = 0.62;
/// Between the right edge of a glyph and the next one.
const GAP: f32 = 2.6;
/// What a space takes.
const SPACE: f32 = 5.0;

type Point = (f32, f32);

/// The lines that make a glyph; none for a space and for what the alphabet lacks.
pub(super) fn segments(c: char) -> impl Iterator<Item = [Point; 2]> {
    glyph(c).split(' ').flat_map(|stroke| {
        let points: Vec<Point> = stroke.as_bytes().chunks_exact(2).map(point).collect();
        points.windows(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>()
    })
}

/// From the left edge of a glyph to that of the next.
pub(super) fn advance(c: char) -> f32 {
    segments(c).flatten().map(|(x, _)| x).reduce(f32::max).map_or(SPACE, |right| right + GAP)
}

fn point(digits: &[u8]) -> Point {
    (f32::from(digits[0] - b'0'), f32::from(digits[1] - b'0'))
}

fn glyph(c: char) -> &'static str {
    match c {
        'A' => "003960 1353",
        'B' => "0009 094958564505 4564614000",
        'C' => "6849290702204061",
        'D' => "0009 094967624000",
        'E' => "69090060 0555",
        'F' => "690900 0555",
        'G' => "68492907022040626434",
        'H' => "0009 6069 0565",
        'I' => "0009",
        'J' => "5952401002",
        'K' => "0009 6904 2660",
        'L' => "090060",
        'M' => "0009336960",
        'N' => "00096069",
        'O' => "200207294967624020",
        'P' => "0009 094968654404",
        'Q' => "200207294967624020 4260",
        'R' => "0009 094968654404 3460",
        'S' => "684929080615546361402001",
        'T' => "0969 3930",
        'U' => "090220406269",
        'V' => "093069",
        'W' => "0920476089",
        'X' => "0069 0960",
        'Y' => "093469 3430",
        'Z' => "09690060",
        '0' => "200306293956533020",
        '1' => "072920",
        '2' => "07294967660060",
        '3' => "082949674525 456362402001",
        '4' => "50590363",
        '5' => "691905456462402001",
        '6' => "5939050220406263452503",
        '7' => "096920",
        '8' => "250608294968664525 2503022040626345",
        '9' => "1030646749290706244466",
        '.' => "0000",
        '-' => "0434",
        ':' => "0000 0505",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_stays_on_its_grid() {
        for c in ('A'..='Z').chain('0'..='9').chain(".-:".chars()) {
            assert!(glyph(c).split(' ').all(|stroke| stroke.len() % 2 == 0), "{c}");
            assert!(segments(c).count() > 0, "{c}");
            assert!(segments(c).flatten().all(|(x, y)| x <= 8.0 && y <= HEIGHT), "{c}");
        }
    }

    #[test]
    fn what_the_alphabet_lacks_takes_the_room_of_a_space() {
        assert_eq!(segments(' ').count(), 0);
        assert!((advance('é') - SPACE).abs() < f32::EPSILON);
    }
}
