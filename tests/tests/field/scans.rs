//! Scans made for the tests: pages with order numbers, drawn by poppler, turned, inverted, cut into strips, and put into a PDF with or
//! without their resolution.

use std::{fmt::Write, fs, path::Path, process::Command};

/// Order numbers on each page.
pub const ORDERS: usize = 30;
/// A4, in points.
const PAGE: (f32, f32) = (595.0, 842.0);
/// A PDF counts in points.
const POINTS_PER_INCH: f32 = 72.0;

/// Grey pixels, row by row.
#[derive(Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// How a page was scanned.
#[derive(Clone, Copy)]
pub struct Scan {
    /// Pixels per inch.
    pub dpi: u32,
    /// Degrees by which the paper lay turned, clockwise.
    pub turned: u32,
    /// White on black.
    pub inverted: bool,
    /// Pictures that the page is cut into.
    pub strips: usize,
    /// The PDF knows the resolution; else each pixel is a point.
    pub marked: bool,
    /// `/Rotate` of the page, in degrees.
    pub rotate: u32,
}

impl Scan {
    /// Upright, in one piece, with its resolution.
    pub const PLAIN: Self = Self {
        dpi: 300,
        turned: 0,
        inverted: false,
        strips: 1,
        marked: true,
        rotate: 0,
    };
}

/// The order numbers of a page: each page has its own, and no two are alike.
pub fn orders(page: usize) -> Vec<String> {
    (0..ORDERS)
        .map(|nth| {
            format!(
                "MS-{}{:05}",
                page + 1,
                (nth * 37_591 + page * 7_919 + 10_243) % 100_000
            )
        })
        .collect()
}

/// A PDF of scanned pages; page `n` has the orders of `orders(n)`.
pub fn pdf(folder: &Path, scans: &[Scan]) -> Vec<u8> {
    let pages = scans
        .iter()
        .enumerate()
        .map(|(page, scan)| (picture(folder, page, *scan), *scan))
        .collect::<Vec<_>>();
    wrapped(&pages)
}

/// A typed page of orders, drawn by poppler as a scanner would see it.
fn picture(folder: &Path, page: usize, scan: Scan) -> Picture {
    let source = folder.join(format!("typed-{page}.pdf"));
    fs::write(&source, typed(&orders(page))).unwrap();
    let target = folder.join(format!("typed-{page}-{}", scan.dpi));
    let drawn = Command::new("pdftoppm")
        .args(["-gray", "-singlefile", "-r", &scan.dpi.to_string()])
        .args([&source, &target])
        .status();
    assert!(drawn.expect("pdftoppm is installed").success());
    let picture =
        Picture::read(&fs::read(target.with_extension("pgm")).unwrap()).turned(scan.turned);
    if scan.inverted {
        picture.inverted()
    } else {
        picture
    }
}

/// Lines as in a list of orders, 10 points high.
fn typed(orders: &[String]) -> Vec<u8> {
    let goods = ["oak boards", "beech tables", "steel bolts"];
    let mut lines = String::new();
    for (nth, order) in orders.iter().enumerate() {
        write!(
            lines,
            "(Order {order} of {} pieces: {}) Tj T* ",
            nth + 2,
            goods[nth % goods.len()]
        )
        .unwrap();
    }
    let content = format!("BT /F 10 Tf 24 TL 60 780 Td {lines} ET");
    let (width, height) = PAGE;
    let page = format!(
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Resources <</Font <</F 4 0 R>>>> /Contents 5 0 R>>"
    );
    let font = b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>".to_vec();
    assemble(
        &["3 0 R".to_owned()],
        vec![page.into_bytes(), font, stream("", content.as_bytes())],
    )
}

impl Picture {
    /// Poppler's form: `P5`, width, height, 255, and the bytes.
    fn read(file: &[u8]) -> Self {
        let header = file
            .split(u8::is_ascii_whitespace)
            .take(4)
            .map(|word| std::str::from_utf8(word).unwrap())
            .collect::<Vec<_>>();
        let (width, height): (usize, usize) =
            (header[1].parse().unwrap(), header[2].parse().unwrap());
        Self {
            width,
            height,
            pixels: file[file.len() - width * height..].to_vec(),
        }
    }

    fn turned(self, degrees: u32) -> Self {
        (0..degrees / 90).fold(self, |picture, _| picture.turned_right())
    }

    fn turned_right(self) -> Self {
        let (width, height) = (self.height, self.width);
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            pixels: pixels
                .map(|(x, y)| self.pixels[(self.height - 1 - x) * self.width + y])
                .collect(),
        }
    }

    fn inverted(mut self) -> Self {
        self.pixels.iter_mut().for_each(|grey| *grey = 255 - *grey);
        self
    }
}

/// Each strip is a picture of its own, drawn below the one before.
fn wrapped(pages: &[(Picture, Scan)]) -> Vec<u8> {
    let (mut objects, mut kids) = (Vec::new(), Vec::new());
    for (picture, scan) in pages {
        let first = objects.len() + 3;
        let points = |pixels: usize| {
            pixels as f32
                * if scan.marked {
                    POINTS_PER_INCH / scan.dpi as f32
                } else {
                    1.0
                }
        };
        let (width, height) = (points(picture.width), points(picture.height));
        let (mut content, mut names) = (String::new(), String::new());
        let rows = picture.height.div_ceil(scan.strips);
        for (nth, strip) in picture.pixels.chunks(rows * picture.width).enumerate() {
            let lines = strip.len() / picture.width;
            let bottom = height - points(nth * rows + lines);
            writeln!(
                content,
                "q {width} 0 0 {} 0 {bottom} cm /I{nth} Do Q",
                points(lines)
            )
            .unwrap();
            write!(names, "/I{nth} {} 0 R ", first + 2 + nth).unwrap();
        }
        let rotate = scan.rotate;
        let page = format!(
            "<</Type /Page /Parent 2 0 R /Rotate {rotate} /MediaBox [0 0 {width} {height}] /Resources <</XObject <<{names}>>>> /Contents {} 0 R>>",
            first + 1
        );
        kids.push(format!("{first} 0 R"));
        objects.extend([page.into_bytes(), stream("", content.as_bytes())]);
        objects.extend(picture.pixels.chunks(rows * picture.width).map(|strip| {
            let size = format!("/Width {} /Height {}", picture.width, strip.len() / picture.width);
            stream(&format!("/Type /XObject /Subtype /Image {size} /ColorSpace /DeviceGray /BitsPerComponent 8"), strip)
        }));
    }
    assemble(&kids, objects)
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    [
        format!("<<{dictionary} /Length {}>>\nstream\n", content.len()).as_bytes(),
        content,
        b"\nendstream",
    ]
    .concat()
}

/// A file of these objects, numbered from 3, behind the catalogue and the tree of the pages.
fn assemble(kids: &[String], objects: Vec<Vec<u8>>) -> Vec<u8> {
    let tree = format!(
        "<</Type /Pages /Kids [{}] /Count {}>>",
        kids.join(" "),
        kids.len()
    );
    let all = [
        vec![
            b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
            tree.into_bytes(),
        ],
        objects,
    ]
    .concat();
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", all.len() + 1);
    for (index, object) in all.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        file.extend(
            [
                format!("{} 0 obj\n", index + 1).as_bytes(),
                object,
                b"\nendobj\n",
            ]
            .concat(),
        );
    }
    let (start, size) = (file.len(), all.len() + 1);
    file.extend(
        format!("{table}trailer\n<</Size {size} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n")
            .into_bytes(),
    );
    file
}
