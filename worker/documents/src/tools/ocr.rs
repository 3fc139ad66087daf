//! Reads the text in a picture with Tesseract (P2, P3): turned, inverted, small or large.
//!
//! Invariants: only a real PNG of bounded size reaches Tesseract (it would take anything else for a list of files to
//! open); Tesseract is told the true resolution and gets letters of the size that it reads best; a picture that is too
//! small for letters costs no process.

mod picture;
mod table;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use self::picture::{Prepared, Turn};
use self::table::Read;
use super::error::{ToolError, clean, code};
use super::png;
use super::sandbox::{Limits, Sandbox, absolute};
use super::tool::Tool;

/// Tesseract needs letters of about 10 pixels; with its border a lower image holds none.
pub const EDGE_PX_MIN: u32 = 16;

/// Longest list of languages: a dozen. Each is a model of megabytes that is loaded for every image.
const LANGUAGES_BYTES_MAX: usize = 64;

/// Below this mean confidence a page may stand on its head without Tesseract having noticed.
const CONFIDENCE_DOUBTFUL: f32 = 60.0;

/// What is known of a picture before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Pixels per inch by its size on the page; 0: not known.
    pub dpi: u32,
    /// The picture is a whole page, so it holds text more likely than not, and more effort is worth its while.
    pub is_page: bool,
}

/// The text of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OcrText {
    /// Lines end in a newline, paragraphs in two. Empty if there is no text. Not normalised.
    pub text: String,
    /// Mean of the words' confidence from 0 to 100, weighted by their length; `None` without words.
    pub mean_confidence: Option<f32>,
}

/// Reads the PNG at `path`, whichever way up it is. `languages` are Tesseract's names joined by `+`, such as `eng` or
/// `eng+deu`. Files beside it, with names that begin with its own, may be written and are removed. `memory` is what the caller has set
/// aside for the decoded picture: each thread that decodes it keeps a share until it has ended, which may be after this future was dropped.
pub async fn read<M: Send + Sync + 'static>(
    sandbox: &Sandbox,
    path: &Path,
    hint: Hint,
    languages: &str,
    memory: &Arc<M>,
) -> Result<OcrText, ToolError> {
    check_languages(languages)?;
    let header = png::check(path).await?;
    if header.width.min(header.height) < EDGE_PX_MIN {
        return Ok(OcrText::default());
    }
    let prepared = prepare(path, hint, Turn::None, memory.clone()).await?;
    if prepared.short_edge < EDGE_PX_MIN {
        return Ok(OcrText::default());
    }
    let mut best = recognise(sandbox, &prepared, languages).await?;
    if hint.is_page
        && best
            .text
            .mean_confidence
            .is_some_and(|confidence| confidence < CONFIDENCE_DOUBTFUL)
    {
        for turn in [Turn::Half, Turn::Left, Turn::Right] {
            let other = recognise(
                sandbox,
                &prepare(path, hint, turn, memory.clone()).await?,
                languages,
            )
            .await?;
            best = if other.sure_letters > best.sure_letters {
                other
            } else {
                best
            };
        }
    }
    Ok(best.text)
}

async fn prepare<M: Send + Sync + 'static>(
    path: &Path,
    hint: Hint,
    turn: Turn,
    memory: Arc<M>,
) -> Result<Prepared, ToolError> {
    let path = path.to_owned();
    let prepared = tokio::task::spawn_blocking(move || {
        let prepared = picture::prepare(&path, hint, turn);
        drop(memory);
        prepared
    });
    let prepared = prepared.await;
    prepared.map_err(|_| ToolError::transient("the worker stopped while it prepared a picture"))?
}

/// One run of Tesseract. Page segmentation 1 finds out which way up the picture is.
async fn recognise(
    sandbox: &Sandbox,
    picture: &Prepared,
    languages: &str,
) -> Result<Read, ToolError> {
    let dpi = picture.dpi.to_string().into();
    let mut arguments: Vec<OsString> = vec![
        absolute(&picture.file)?,
        "stdout".into(),
        "-l".into(),
        languages.into(),
    ];
    arguments.extend(["--psm".into(), "1".into(), "--dpi".into(), dpi]);
    if let Some(dir) = sandbox.tessdata_dir() {
        arguments.extend(["--tessdata-dir".into(), dir.into()]);
    }
    arguments.extend(["-c".into(), "tessedit_create_tsv=1".into()]);
    let finished = sandbox
        .run(Tool::Tesseract, &arguments, &Limits::OCR)
        .await?;
    if finished.exit_code != 0 {
        return Err(refusal(&finished.stderr, languages));
    }
    Ok(table::parse(&String::from_utf8_lossy(&finished.stdout)))
}

/// Refuses what could be an option or a path.
fn check_languages(languages: &str) -> Result<(), ToolError> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
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
    let first = stderr
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing");
    ToolError::document(
        code::IMAGE_UNREADABLE,
        &format!("the image cannot be read: Tesseract says “{first}”"),
    )
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::super::pdf::samples::Scratch;
    use super::*;

    const PICTURE: Hint = Hint {
        dpi: 0,
        is_page: false,
    };

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
                    picture.put_pixel(
                        (place as u32 * 6 + 3) * dot + x,
                        3 * dot + y,
                        image::Luma([0]),
                    );
                }
            }
        }
        encoded(&picture)
    }

    fn encoded(picture: &image::GrayImage) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    // P3
    #[tokio::test]
    async fn a_written_word_is_read_with_its_confidence() {
        let scratch = Scratch::new();
        let file = scratch.file("- a word.png", &written("HELP"));
        let found = read(&scratch.sandbox, &file, PICTURE, "eng", &Arc::new(()))
            .await
            .unwrap();
        assert_eq!(found.text, "HELP");
        assert!(
            found
                .mean_confidence
                .is_some_and(|confidence| confidence > 20.0),
            "{found:?}"
        );
    }

    // P2
    #[tokio::test]
    async fn an_image_without_text_or_too_small_is_empty_and_no_error() {
        let scratch = Scratch::new();
        let white = |edge| {
            encoded(&image::GrayImage::from_pixel(
                edge,
                edge,
                image::Luma([255]),
            ))
        };
        let without_tools = Sandbox::new("", scratch.path());
        let tiny = scratch.file("tiny.png", &white(EDGE_PX_MIN - 1));
        assert_eq!(
            read(&without_tools, &tiny, PICTURE, "eng", &Arc::new(())).await,
            Ok(OcrText::default())
        );
        let blank = scratch.file("blank.png", &white(64));
        assert_eq!(
            read(&scratch.sandbox, &blank, PICTURE, "eng", &Arc::new(())).await,
            Ok(OcrText::default())
        );
    }

    // P2
    #[tokio::test]
    async fn a_read_that_is_dropped_keeps_its_memory_until_the_picture_is_not_held_any_more() {
        let scratch = Scratch::new();
        // Opening it takes until somebody writes.
        let pipe = scratch.path().join("pipe.png");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let memory = Arc::new(());
        let mut preparing = Box::pin(prepare(&pipe, PICTURE, Turn::None, memory.clone()));
        assert!(futures::poll!(&mut preparing).is_pending());
        drop(preparing);
        let shares = Arc::strong_count(&memory);
        // Before anything is asserted: the test cannot end while its thread waits.
        std::fs::write(&pipe, "no picture").unwrap();
        assert_eq!(shares, 2);
        while Arc::strong_count(&memory) > 1 {
            tokio::task::yield_now().await;
        }
    }

    // P4
    #[tokio::test]
    async fn a_list_of_file_names_is_not_given_to_tesseract() {
        let scratch = Scratch::new();
        let file = scratch.file("list.png", b"/etc/passwd\n");
        let error = read(&scratch.sandbox, &file, PICTURE, "eng", &Arc::new(()))
            .await
            .expect_err("it is no image");
        assert_eq!(error.document_code(), Some(code::IMAGE_UNREADABLE));
    }

    // P4
    #[tokio::test]
    async fn unknown_and_malformed_languages_are_named() {
        let scratch = Scratch::new();
        let file = scratch.file("word.png", &written("HELP"));
        for language in ["xxx", "../eng", "", "eng+", "-c"] {
            let error = read(&scratch.sandbox, &file, PICTURE, language, &Arc::new(()))
                .await
                .expect_err("there is no such language");
            assert!(matches!(error, ToolError::Missing { .. }), "{error}");
        }
    }
}
