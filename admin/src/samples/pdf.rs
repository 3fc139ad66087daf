//! A writer of simple PDF 1.4 files: pages of A4 with Helvetica text, lines and images.
//!
//! Invariants: object numbers are positions in `objects`; the catalog and the page tree are written last. Text is put in
//! the order it is drawn, which is the order readers find it in.

use std::fmt::Write;

use super::metrics;
use super::raster::Raster;

/// A4, in points; the origin is the lower left corner.
pub(super) const PAGE_WIDTH: f32 = 595.0;
/// See [`PAGE_WIDTH`].
pub(super) const PAGE_HEIGHT: f32 = 842.0;
/// White space on every side.
pub(super) const MARGIN: f32 = 56.0;

/// From one line of text to the next, in parts of its size.
const LEADING: f32 = 1.35;

/// The two faces that every reader has built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Regular,
    Bold,
}

/// An image that was added to the file and can be drawn on any page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image(usize);

/// A rectangle to draw an image into, in points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) height: f32,
}

/// A file in the making.
#[derive(Debug, Default)]
pub(super) struct Pdf {
    objects: Vec<Vec<u8>>,
    pages: Vec<Page>,
}

/// What is drawn on one page, in the language of PDF content streams.
#[derive(Debug, Default)]
pub(super) struct Page {
    content: String,
    images: Vec<Image>,
}

impl Pdf {
    /// Stores an image; its pixels are in the file once, however often it is drawn.
    pub(super) fn image(&mut self, raster: &Raster) -> Image {
        let dictionary = format!(
            "/Type /XObject /Subtype /Image /Width {} /Height {} /BitsPerComponent 8 /ColorSpace [/Indexed /DeviceRGB 255 <{}>] /Filter /RunLengthDecode",
            raster.width(),
            raster.height(),
            raster.palette_hex()
        );
        Image(self.stream(&dictionary, &raster.run_lengths()))
    }

    pub(super) fn page(&mut self, page: Page) {
        self.pages.push(page);
    }

    /// The finished file.
    pub(super) fn finish(mut self, title: &str) -> Vec<u8> {
        let regular = self.font("Helvetica");
        let bold = self.font("Helvetica-Bold");
        // Pages name their parent before it is written: it comes right after them and their contents.
        let pages = std::mem::take(&mut self.pages);
        let tree = self.objects.len() + 2 * pages.len() + 1;
        let mut kids = String::new();
        for page in pages {
            let content = self.stream("", page.content.as_bytes());
            let mut images = String::new();
            for Image(image) in page.images {
                put(&mut images, format_args!("/I{image} {image} 0 R "));
            }
            let number = self.object(&format!(
                "<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}] /Contents {content} 0 R \
                 /Resources << /Font << /F1 {regular} 0 R /F2 {bold} 0 R >> /XObject << {images}>> >> >>"
            ));
            put(&mut kids, format_args!("{number} 0 R "));
        }
        let count = kids.matches(" R").count();
        self.object(&format!("<< /Type /Pages /Kids [{kids}] /Count {count} >>"));
        let catalog = self.object(&format!("<< /Type /Catalog /Pages {tree} 0 R >>"));
        let info = self.object(&format!("<< /Title {} /Producer (Millstream samples) >>", metrics::literal(title)));
        self.assemble(catalog, info)
    }

    fn font(&mut self, name: &str) -> usize {
        self.object(&format!("<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>"))
    }

    fn stream(&mut self, dictionary: &str, data: &[u8]) -> usize {
        let mut object = format!("<< {dictionary} /Length {} >>\nstream\n", data.len()).into_bytes();
        object.extend_from_slice(data);
        object.extend_from_slice(b"\nendstream");
        self.objects.push(object);
        self.objects.len()
    }

    /// Numbers begin at 1.
    fn object(&mut self, body: &str) -> usize {
        self.objects.push(body.as_bytes().to_vec());
        self.objects.len()
    }

    fn assemble(&self, catalog: usize, info: usize) -> Vec<u8> {
        // The second line tells programs that move files about that this one is binary.
        let mut file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
        // Every entry of the table is exactly 20 bytes long.
        let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", self.objects.len() + 1);
        for (index, object) in self.objects.iter().enumerate() {
            put(&mut table, format_args!("{:010} 00000 n \n", file.len()));
            file.extend_from_slice(format!("{} 0 obj\n", index + 1).as_bytes());
            file.extend_from_slice(object);
            file.extend_from_slice(b"\nendobj\n");
        }
        let start = file.len();
        let size = self.objects.len() + 1;
        put(&mut table, format_args!("trailer\n<< /Size {size} /Root {catalog} 0 R /Info {info} 0 R >>\nstartxref\n{start}\n%%EOF\n"));
        file.extend_from_slice(table.as_bytes());
        file
    }
}

impl Page {
    /// One line of text with its baseline at `y`.
    pub(super) fn line(&mut self, (x, y): (f32, f32), (face, size): (Face, f32), text: &str) {
        let font = if face == Face::Bold { "F2" } else { "F1" };
        put(&mut self.content, format_args!("BT /{font} {size} Tf {x:.2} {y:.2} Td {} Tj ET\n", metrics::literal(text)));
    }

    /// One line that ends at `right`: prices in a column.
    pub(super) fn line_to(&mut self, (right, y): (f32, f32), (face, size): (Face, f32), text: &str) {
        self.line((right - metrics::width(text, size), y), (face, size), text);
    }

    /// Text broken into lines of `width`; returns the baseline for what follows.
    pub(super) fn paragraph(&mut self, (x, mut y): (f32, f32), width: f32, size: f32, text: &str) -> f32 {
        for line in metrics::lines(text, width, size) {
            self.line((x, y), (Face::Regular, size), &line);
            y -= size * LEADING;
        }
        y
    }

    /// A thin horizontal rule.
    pub(super) fn rule(&mut self, y: f32) {
        put(&mut self.content, format_args!("0.5 w {MARGIN} {y:.2} m {:.2} {y:.2} l S\n", PAGE_WIDTH - MARGIN));
    }

    pub(super) fn draw(&mut self, image: Image, frame: Frame) {
        let Frame { x, y, width, height } = frame;
        put(&mut self.content, format_args!("q {width:.2} 0 0 {height:.2} {x:.2} {y:.2} cm /I{} Do Q\n", image.0));
        self.images.push(image);
    }
}

/// Writing to a string cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}
