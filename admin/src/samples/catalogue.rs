//! A product catalogue: lines with name, number and price, and on every page a picture with words that only OCR can read.

use super::palette::Palette;
use super::pdf::{Face, Frame, Image, MARGIN, PAGE_HEIGHT, PAGE_WIDTH, Page, Pdf};
use super::raster::Raster;

struct Product {
    name: &'static str,
    number: &'static str,
    price: &'static str,
    about: &'static str,
}

struct Chapter {
    title: &'static str,
    /// What the picture's sign says.
    sign: [&'static str; 3],
    products: [Product; 5],
}

const fn product(name: &'static str, number: &'static str, price: &'static str, about: &'static str) -> Product {
    Product { name, number, price, about }
}

const CHAPTERS: [Chapter; 3] = [
    Chapter {
        title: "Tables and chairs",
        sign: ["OFFER OF THE MONTH", "OAK TABLE A-1021", "NOW 229.00 EUR"],
        products: [
            product("Oak table", "A-1021", "249.00 EUR", "Solid oak, oiled, seats six. 180 x 90 x 75 cm, delivered in two parcels."),
            product("Beech chair", "A-1044", "79.50 EUR", "Bent beech with a woven seat. Stacks four high, weighs 3.9 kg."),
            product("Folding table", "A-1102", "119.00 EUR", "Ash top on a steel frame that folds flat. For the garden and for guests."),
            product("Bar stool", "A-1130", "64.90 EUR", "Seat height 74 cm, with a footrest of brushed steel."),
            product("Writing desk", "A-1175", "389.00 EUR", "Walnut veneer, two drawers, a channel for cables at the back."),
        ],
    },
    Chapter {
        title: "Lamps",
        sign: ["NEW IN SPRING", "READING LAMP B-2050", "FROM 45.00 EUR"],
        products: [
            product("Reading lamp", "B-2050", "45.00 EUR", "A warm light that reaches the page and not the neighbour. Dimmable, 7 W."),
            product("Pendant lamp", "B-2077", "138.00 EUR", "Hand-blown glass, 32 cm across, with three metres of textile cable."),
            product("Floor lamp", "B-2103", "159.00 EUR", "Arched arm on a marble foot. The shade turns by 180 degrees."),
            product("Desk lamp", "B-2118", "89.00 EUR", "Two joints, one spring, no screws to lose. Takes E27 bulbs up to 11 W."),
            product("Wall lamp", "B-2146", "72.40 EUR", "Brass, with a switch on the wall plate. Needs one fixed connection."),
        ],
    },
    Chapter {
        title: "Shelves",
        sign: ["WHILE STOCKS LAST", "WALL SHELF C-3007", "ONLY 38.75 EUR"],
        products: [
            product("Wall shelf", "C-3007", "38.75 EUR", "Pine, 80 cm, hidden brackets. Carries 15 kg in a solid wall."),
            product("Bookcase", "C-3032", "274.00 EUR", "Five boards, two of them adjustable. 200 x 80 x 30 cm."),
            product("Corner shelf", "C-3058", "56.00 EUR", "Fits where two walls meet, even where they do not quite meet squarely."),
            product("Shoe rack", "C-3090", "49.00 EUR", "Slatted beech for eight pairs. Three racks can be set side by side."),
            product("Room divider", "C-3121", "512.00 EUR", "Open on both sides, twelve fields, oak on a frame of black steel."),
        ],
    },
];

pub(super) fn document() -> Vec<u8> {
    let mut pdf = Pdf::default();
    pdf.page(cover());
    for (index, chapter) in CHAPTERS.iter().enumerate() {
        let image = pdf.image(&picture(chapter, index));
        pdf.page(chapter_page(chapter, image));
    }
    pdf.finish("Miller & Daughters: catalogue 2026")
}

fn cover() -> Page {
    let mut page = Page::default();
    page.line((MARGIN, 620.0), (Face::Bold, 34.0), "Miller & Daughters");
    page.line((MARGIN, 584.0), (Face::Regular, 18.0), "Furniture and light. Catalogue 2026");
    page.rule(566.0);
    let about = "Everything on these pages is made in our two workshops by the river. Prices include value added tax and are \
                 valid from 1 March 2026 to 30 September 2026. Orders above 150.00 EUR are delivered free of charge; for all others \
                 we charge 12.50 EUR. Goods may be returned within thirty days.";
    let y = page.paragraph((MARGIN, 540.0), PAGE_WIDTH - 2.0 * MARGIN, 12.0, about);
    page.line((MARGIN, y - 14.0), (Face::Regular, 12.0), "Orders: orders@miller-daughters.example, telephone +49 30 5550 1021");
    page
}

fn chapter_page(chapter: &Chapter, image: Image) -> Page {
    let mut page = Page::default();
    let mut y = PAGE_HEIGHT - MARGIN - 20.0;
    page.line((MARGIN, y), (Face::Bold, 22.0), chapter.title);
    page.rule(y - 10.0);
    y -= 44.0;
    for product in &chapter.products {
        page.line((MARGIN, y), (Face::Bold, 12.0), &format!("{} {}", product.name, product.number));
        page.line_to((PAGE_WIDTH - MARGIN, y), (Face::Regular, 12.0), product.price);
        y = page.paragraph((MARGIN, y - 16.0), 380.0, 10.5, product.about) - 14.0;
    }
    page.draw(image, Frame { x: MARGIN, y: MARGIN, width: PAGE_WIDTH - 2.0 * MARGIN, height: 242.0 });
    page
}

/// A shop sign beside a piece of furniture that differs from page to page.
fn picture(chapter: &Chapter, index: usize) -> Raster {
    let palettes = [
        Palette { ink: [62, 39, 20], paper: [250, 240, 222] },
        Palette { ink: [24, 32, 72], paper: [255, 248, 214] },
        Palette { ink: [18, 60, 40], paper: [236, 246, 236] },
    ];
    let mut raster = Raster::new((1200, 600), palettes[index]);
    for (row, text) in chapter.sign.iter().enumerate() {
        raster.write((60, 50 + row * 100), 48, text);
    }
    raster.block((0, 560), (1200, 40), 170);
    match index {
        0 => table(&mut raster),
        1 => lamp(&mut raster),
        _ => shelf(&mut raster),
    }
    raster
}

fn table(raster: &mut Raster) {
    raster.block((700, 390), (420, 24), 40);
    raster.block((740, 414), (22, 146), 60);
    raster.block((1058, 414), (22, 146), 60);
}

fn lamp(raster: &mut Raster) {
    raster.block((900, 380), (160, 70), 90);
    raster.block((974, 450), (12, 94), 30);
    raster.block((920, 544), (120, 16), 30);
}

fn shelf(raster: &mut Raster) {
    for board in 0..3 {
        raster.block((780, 390 + board * 60), (320, 14), 50);
    }
    raster.block((770, 380), (14, 180), 70);
    raster.block((1096, 380), (14, 180), 70);
}
