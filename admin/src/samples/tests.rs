//! The samples, read by the tools that the pipeline reads documents with.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use super::*;

use std::process::Command;

/// What a tool prints about a sample; `None` if it refuses the file.
fn tool(program: &str, arguments: &[&str], path: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).arg(path).arg("-").output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lines after the two of the heading.
fn images(path: &Path) -> usize {
    let output = Command::new("pdfimages").arg("-list").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().count().saturating_sub(2)
}

#[test]
fn every_sample_but_the_damaged_one_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_to(dir.path()).unwrap();
    let expected = [
        ("article.pdf", 0, "What a mill knows"),
        ("catalogue.pdf", 3, "Oak table A-1021"),
        (DAMAGED, 0, ""),
        ("gallery.pdf", 12, "Picture 12"),
        ("letter.pdf", 0, "12 rue des Écluses"),
    ];
    for (path, (name, image_count, words)) in paths.iter().zip(expected) {
        assert_eq!(path.file_name().unwrap(), name);
        let text = tool("pdftotext", &["-layout"], path);
        assert_eq!(text.is_none(), name == DAMAGED, "{name}");
        assert!(text.unwrap_or_default().contains(words), "{name}");
        assert_eq!(images(path), image_count, "{name}");
    }
}

#[test]
fn the_columns_of_the_article_are_read_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    write_to(dir.path()).unwrap();
    let text = tool("pdftotext", &[], &dir.path().join("article.pdf")).unwrap();
    let places: Vec<_> = ["Where the water", "The wheel", "The stones", "The bell", "The order of the day", "What remains"]
        .map(|heading| text.find(heading).unwrap())
        .into();
    assert!(places.is_sorted(), "{places:?}");
    let laid_out = tool("pdftotext", &["-layout"], &dir.path().join("article.pdf")).unwrap();
    assert!(laid_out.contains("experi- "), "a word is broken at the end of a line");
}

#[test]
fn ocr_reads_the_sign_in_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    write_to(dir.path()).unwrap();
    let picture = dir.path().join("picture");
    let extracted = Command::new("pdfimages").arg("-png").arg(dir.path().join("catalogue.pdf")).arg(&picture).status().unwrap();
    assert!(extracted.success());
    let output = Command::new("tesseract").env("OMP_THREAD_LIMIT", "1").arg(dir.path().join("picture-000.png")).arg("-").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("OAK TABLE") && text.contains("229.00 EUR"), "{text}");
}

#[test]
fn the_samples_are_the_same_every_time() {
    assert!(all() == all());
}
