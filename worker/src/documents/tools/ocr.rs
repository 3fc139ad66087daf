//! Reads the text in an image with Tesseract (P2, P3).
//!
//! Invariants: only a real PNG of bounded size reaches Tesseract (it would take anything else for a list of files to
//! open); an image that is too small for letters costs no process.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use super::error::{ToolError, clean, code};
use super::png;
use super::sandbox::{Limits, Sandbox, absolute};
use super::tool::Tool;

/// Tesseract needs letters of about 10 pixels; with its border a lower image holds none.
pub const EDGE_PX_MIN: u32 = 16;

/// Longest list of languages: a dozen. Each is a model of megabytes that is loaded for every image.
const LANGUAGES_BYTES_MAX: usize = 64;

/// The text of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OcrText {
    /// Lines end in a newline, paragraphs in two. Empty if there is no text. Not normalised.
    pub text: String,
    /// Mean of the words' confidence from 0 to 100, weighted by their length; `None` without words.
    pub mean_confidence: Option<f32>,
}

/// Reads the PNG at `path`. `languages` are Tesseract's names joined by `+`, such as `eng` or `eng+deu`.
pub async fn recognise(sandbox: &Sandbox, path: &Path, languages: &str) -> Result<OcrText, ToolError> {
    check_languages(languages)?;
    let header = png::check(path).await?;
    if header.width.min(header.height) < EDGE_PX_MIN {
        return Ok(OcrText::default());
    }
    let mut arguments: Vec<OsString> = vec![absolute(path)?, "stdout".into(), "-l".into(), languages.into()];
    if let Some(dir) = sandbox.tessdata_dir() {
        arguments.extend(["--tessdata-dir".into(), dir.into()]);
    }
    arguments.extend(["-c".into(), "tessedit_create_tsv=1".into()]);
    let finished = sandbox.run(Tool::Tesseract, &arguments, &Limits::OCR).await?;
    if finished.exit_code != 0 {
        return Err(refusal(&finished.stderr, languages));
    }
    Ok(parse(&String::from_utf8_lossy(&finished.stdout)))
}

/// Refuses what could be an option or a path.
fn check_languages(languages: &str) -> Result<(), ToolError> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if languages.len() <= LANGUAGES_BYTES_MAX && languages.split('+').all(is_name) {
        return Ok(());
    }
    Err(ToolError::Missing {
        tool: format!("the OCR language “{}”", clean(languages)),
        hint: "languages are names such as eng or eng+deu".to_owned(),
    })
}

fn refusal(stderr: &str, languages: &str) -> ToolError {
    if stderr.contains("loading language") || stderr.contains("load any languages") {
        return ToolError::Missing {
            tool: format!("Tesseract's data for “{languages}”"),
            hint: "install the language's package (Debian, Ubuntu: apt-get install tesseract-ocr-LANGUAGE)".to_owned(),
        };
    }
    let first = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    ToolError::document(code::IMAGE_UNREADABLE, &format!("the image cannot be read: Tesseract says “{first}”"))
}

/// A word of the table, with the place that says which words are neighbours.
struct Word<'a> {
    /// Page, block, paragraph.
    paragraph: [&'a str; 3],
    line: &'a str,
    confidence: f32,
    text: &'a str,
}

/// Puts the words of the table together again.
fn parse(table: &str) -> OcrText {
    let mut text = String::new();
    let (mut weighted, mut weight) = (0.0, 0.0);
    let mut last: Option<Word> = None;
    for word in table.lines().filter_map(parse_word) {
        if let Some(last) = &last {
            text.push_str(match last {
                last if last.paragraph != word.paragraph => "\n\n",
                last if last.line != word.line => "\n",
                _ => " ",
            });
        }
        text.push_str(word.text);
        let length = word.text.chars().count() as f32;
        weighted += word.confidence * length;
        weight += length;
        last = Some(word);
    }
    OcrText { text, mean_confidence: (weight > 0.0).then(|| weighted / weight) }
}

/// `level page_num block_num par_num line_num word_num left top width height conf text`; level 5 is a word.
fn parse_word(line: &str) -> Option<Word<'_>> {
    let fields = line.splitn(12, '\t').collect::<Vec<_>>();
    let [level, page, block, paragraph, line, .., confidence, text] = fields[..] else { return None };
    let confidence = confidence.parse::<f32>().ok().filter(|confidence| (0.0..=100.0).contains(confidence))?;
    let text = text.trim();
    (level == "5" && !text.is_empty()).then_some(Word { paragraph: [page, block, paragraph], line, confidence, text })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::pdf::samples::Scratch;
    use super::*;

    /// Letters of 5 × 7 dots; only those of the tests.
    const LETTERS: [(char, [u8; 7]); 5] = [
        ('H', [17, 17, 17, 31, 17, 17, 17]),
        ('E', [31, 16, 16, 30, 16, 16, 31]),
        ('L', [16, 16, 16, 16, 16, 16, 31]),
        ('P', [30, 17, 17, 30, 16, 16, 16]),
        ('T', [31, 4, 4, 4, 4, 4, 4]),
    ];

    /// Black on white, each dot 8 pixels.
    fn written(word: &str) -> Vec<u8> {
        let dot = 8;
        let width = (word.len() as u32 * 6 + 6) * dot;
        let mut picture = image::GrayImage::from_pixel(width, 13 * dot, image::Luma([255]));
        for (place, letter) in word.chars().enumerate() {
            let rows = LETTERS.iter().find(|(name, _)| *name == letter).unwrap().1;
            for (x, y) in (0..5 * dot).flat_map(|x| (0..7 * dot).map(move |y| (x, y))) {
                if rows[(y / dot) as usize] >> (4 - x / dot) & 1 == 1 {
                    picture.put_pixel((place as u32 * 6 + 3) * dot + x, 3 * dot + y, image::Luma([0]));
                }
            }
        }
        encoded(&picture)
    }

    fn encoded(picture: &image::GrayImage) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    // P3
    #[tokio::test]
    async fn a_written_word_is_read_with_its_confidence() {
        let scratch = Scratch::new();
        let file = scratch.file("- a word.png", &written("HELP"));
        let found = recognise(&scratch.sandbox, &file, "eng").await.unwrap();
        assert_eq!(found.text, "HELP");
        assert!(found.mean_confidence.is_some_and(|confidence| confidence > 20.0), "{found:?}");
    }

    // P2
    #[tokio::test]
    async fn an_image_without_text_or_too_small_is_empty_and_no_error() {
        let scratch = Scratch::new();
        let white = |edge| encoded(&image::GrayImage::from_pixel(edge, edge, image::Luma([255])));
        let without_tools = Sandbox::new("", scratch.path());
        let tiny = scratch.file("tiny.png", &white(EDGE_PX_MIN - 1));
        assert_eq!(recognise(&without_tools, &tiny, "eng").await, Ok(OcrText::default()));
        let blank = scratch.file("blank.png", &white(64));
        assert_eq!(recognise(&scratch.sandbox, &blank, "eng").await, Ok(OcrText::default()));
    }

    // P4
    #[tokio::test]
    async fn a_list_of_file_names_is_not_given_to_tesseract() {
        let scratch = Scratch::new();
        let file = scratch.file("list.png", b"/etc/passwd\n");
        let error = recognise(&scratch.sandbox, &file, "eng").await.expect_err("it is no image");
        assert_eq!(error.document_code(), Some(code::IMAGE_UNREADABLE));
    }

    // P4
    #[tokio::test]
    async fn unknown_and_malformed_languages_are_named() {
        let scratch = Scratch::new();
        let file = scratch.file("word.png", &written("HELP"));
        for language in ["xxx", "../eng", "", "eng+", "-c"] {
            let error = recognise(&scratch.sandbox, &file, language).await.expect_err("there is no such language");
            assert!(matches!(error, ToolError::Missing { .. }), "{error}");
        }
    }

    // P2
    #[test]
    fn words_lines_and_paragraphs_are_put_together() {
        let table = "level\tpage\n5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tone\n5\t1\t1\t1\t1\t2\t0\t0\t9\t9\t60\ttwo\n\
            5\t1\t1\t1\t2\t1\t0\t0\t9\t9\t90\tthree\n4\t1\t1\t2\t1\t0\t0\t0\t9\t9\t-1\t\n5\t1\t1\t2\t1\t1\t0\t0\t9\t9\t80\tfour\n";
        assert_eq!(parse(table).text, "one two\nthree\n\nfour");
    }
}
