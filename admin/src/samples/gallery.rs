//! A page of pictures, twelve of them and all different: one job each.

use super::palette::Palette;
use super::pdf::{Face, Frame, MARGIN, PAGE_HEIGHT, Page, Pdf};
use super::raster::Raster;

const COLUMNS: usize = 3;
const PICTURES: usize = 12;
/// Of each picture, in pixels.
const SIZE: (usize, usize) = (360, 240);

const WORDS: [&str; PICTURES] =
    ["RIVER", "WHEEL", "STONE", "GRAIN", "FLOUR", "BREAD", "SLUICE", "GEAR", "MILLER", "BRIDGE", "REED", "MEADOW"];

pub(super) fn document() -> Vec<u8> {
    let mut pdf = Pdf::default();
    let mut page = Page::default();
    page.line((MARGIN, PAGE_HEIGHT - MARGIN - 16.0), (Face::Bold, 20.0), "A year at the mill");
    page.line((MARGIN, PAGE_HEIGHT - MARGIN - 38.0), (Face::Regular, 11.0), "Twelve pictures, one for every month of 2025.");
    for (index, word) in WORDS.iter().enumerate() {
        let image = pdf.image(&picture(index, word));
        let (column, row) = ((index % COLUMNS) as f32, (index / COLUMNS) as f32);
        let (x, y) = (MARGIN + column * 166.0, 630.0 - row * 148.0);
        page.draw(image, Frame { x, y, width: 150.0, height: 100.0 });
        page.line((x, y - 14.0), (Face::Regular, 9.0), &format!("Picture {}", index + 1));
    }
    pdf.page(page);
    pdf.finish("A year at the mill")
}

/// A sky, a hill or two, a sun that wanders, and a word on a light strip.
fn picture(index: usize, word: &str) -> Raster {
    let turn = index as f32 / PICTURES as f32;
    let mut raster = Raster::new(SIZE, palette(index));
    raster.fill(|x, y| {
        let hill = 0.62 + 0.12 * (x * (3.0 + 5.0 * turn) + 6.0 * turn).sin();
        let sun = (x - 0.15 - 0.7 * turn).hypot((y - 0.24) * 0.67);
        // Steps instead of a smooth sky: they are what run lengths are good at.
        let sky = 0.55 + (y * 6.0).floor() * 0.04;
        if y > hill {
            0.2 + 0.1 * turn
        } else if sun < 0.09 {
            1.0
        } else {
            sky
        }
    });
    raster.block((0, 180), (SIZE.0, 60), 255);
    raster.write((14, 192), 36, &format!("{word} {:02}", index + 1));
    raster
}

fn palette(index: usize) -> Palette {
    let inks = [[20, 30, 70], [60, 24, 24], [16, 52, 32], [52, 20, 60]];
    let papers = [[255, 250, 230], [232, 246, 255], [244, 255, 236]];
    Palette { ink: inks[index % inks.len()], paper: papers[index % papers.len()] }
}
