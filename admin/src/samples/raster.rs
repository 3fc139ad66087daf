//! Small pictures: one byte per pixel, from ink (0) to paper (255) in two colours of the picture's own.
//!
//! One channel keeps areas of one value together, which is what makes the simplest of PDF's compressions worth having.

use super::palette::Palette;
use super::strokes;

/// A picture in the making; the origin is the upper left corner.
#[derive(Debug, Clone)]
pub(super) struct Raster {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    palette: Palette,
}

impl Raster {
    pub(super) fn new((width, height): (usize, usize), palette: Palette) -> Self {
        Self { width, height, pixels: vec![255; width * height], palette }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    pub(super) fn palette_hex(&self) -> String {
        self.palette.hex()
    }

    /// Gives every pixel the value that `shade` has for its place, in parts of the width and height.
    pub(super) fn fill(&mut self, shade: impl Fn(f32, f32) -> f32) {
        for y in 0..self.height {
            for x in 0..self.width {
                let value = shade(x as f32 / self.width as f32, y as f32 / self.height as f32);
                self.pixels[y * self.width + x] = (value.clamp(0.0, 1.0) * 255.0) as u8;
            }
        }
    }

    /// A filled rectangle; what lies outside of the picture is left out.
    pub(super) fn block(&mut self, (left, top): (usize, usize), (width, height): (usize, usize), value: u8) {
        for y in top..(top + height).min(self.height) {
            let right = (left + width).min(self.width);
            self.pixels[y * self.width + left.min(right)..y * self.width + right].fill(value);
        }
    }

    /// Writes capitals, digits and a few signs in ink, `height` pixels high, with the upper left corner at the given place.
    pub(super) fn write(&mut self, (left, top): (usize, usize), height: usize, text: &str) {
        let scale = height as f32 / strokes::HEIGHT;
        let mut x = left as f32;
        for c in text.chars() {
            for [from, to] in strokes::segments(c) {
                let place = |(gx, gy): (f32, f32)| (x + gx * scale, top as f32 + (strokes::HEIGHT - gy) * scale);
                self.stroke(place(from), place(to), scale * strokes::PEN_RADIUS);
            }
            x += strokes::advance(c) * scale;
        }
    }

    /// A line with round ends and soft edges.
    fn stroke(&mut self, from: (f32, f32), to: (f32, f32), radius: f32) {
        let reach = radius + 1.0;
        let columns = span(from.0.min(to.0) - reach, from.0.max(to.0) + reach, self.width);
        let rows = span(from.1.min(to.1) - reach, from.1.max(to.1) + reach, self.height);
        for y in rows {
            for x in columns.clone() {
                let outside = distance((x as f32 + 0.5, y as f32 + 0.5), from, to) - radius;
                let value = ((outside + 0.5).clamp(0.0, 1.0) * 255.0) as u8;
                let pixel = &mut self.pixels[y * self.width + x];
                *pixel = value.min(*pixel);
            }
        }
    }

    /// The pixels in PDF's `RunLengthDecode` form: a length below 128 and one more bytes as they are, or 257 less the length
    /// and the byte that repeats; 128 ends it.
    pub(super) fn run_lengths(&self) -> Vec<u8> {
        const LENGTH_MAX: usize = 128;
        let mut packed = Vec::new();
        let mut rest = self.pixels.as_slice();
        while let [first, ..] = rest {
            let run = rest.iter().take(LENGTH_MAX).take_while(|byte| *byte == first).count();
            let length = if run > 2 {
                packed.extend([(257 - run) as u8, *first]);
                run
            } else {
                let next_run = rest.windows(3).take(LENGTH_MAX).position(|three| three[0] == three[1] && three[1] == three[2]);
                let length = next_run.unwrap_or(rest.len()).min(LENGTH_MAX);
                packed.push((length - 1) as u8);
                packed.extend_from_slice(&rest[..length]);
                length
            };
            rest = &rest[length..];
        }
        packed.push(128);
        packed
    }
}

/// The whole pixels between two places, inside the picture.
fn span(from: f32, to: f32, limit: usize) -> std::ops::Range<usize> {
    // A negative number becomes 0 in this cast.
    (from.floor() as usize).min(limit)..(to.ceil() as usize).min(limit)
}

fn distance((x, y): (f32, f32), (ax, ay): (f32, f32), (bx, by): (f32, f32)) -> f32 {
    let (dx, dy) = (bx - ax, by - ay);
    let length_squared = dx * dx + dy * dy;
    // A dot is a line without length.
    let along = if length_squared == 0.0 { 0.0 } else { (((x - ax) * dx + (y - ay) * dy) / length_squared).clamp(0.0, 1.0) };
    (x - ax - along * dx).hypot(y - ay - along * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: Palette = Palette { ink: [0; 3], paper: [255; 3] };

    fn unpack(mut packed: &[u8]) -> Vec<u8> {
        let mut pixels = Vec::new();
        while let [length, rest @ ..] = packed {
            match *length {
                128 => return pixels,
                length @ 0..128 => {
                    let (plain, after) = rest.split_at(usize::from(length) + 1);
                    pixels.extend_from_slice(plain);
                    packed = after;
                }
                length => {
                    pixels.extend(std::iter::repeat_n(rest[0], 257 - usize::from(length)));
                    packed = &rest[1..];
                }
            }
        }
        panic!("the end mark is missing")
    }

    #[test]
    fn run_lengths_give_the_pixels_back() {
        let mut raster = Raster::new((301, 40), GREY);
        raster.write((5, 4), 30, "MILL 90-X");
        raster.fill_corner_with_noise();
        assert_eq!(unpack(&raster.run_lengths()), raster.pixels);
        assert!(raster.run_lengths().len() < raster.pixels.len() / 2);
    }

    impl Raster {
        /// Bytes without a run, longer than one packet holds.
        fn fill_corner_with_noise(&mut self) {
            for (index, pixel) in self.pixels.iter_mut().take(400).enumerate() {
                *pixel = (index * 7 % 251) as u8;
            }
        }
    }

    #[test]
    fn a_block_beyond_the_edge_is_cut_off() {
        let mut raster = Raster::new((4, 4), GREY);
        raster.block((3, 3), (9, 9), 0);
        raster.block((9, 0), (1, 1), 0);
        assert_eq!(raster.pixels.iter().map(|pixel| usize::from(255 - pixel)).sum::<usize>(), 255);
    }
}
