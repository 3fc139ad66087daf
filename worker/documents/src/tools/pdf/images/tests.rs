//! Images in PDF files written by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::super::samples::{self, Scratch};
use super::*;

const GREY: &str = "/Width 10 /Height 12 /ColorSpace /DeviceGray /BitsPerComponent 8";
const CMYK: &str = "/Width 10 /Height 12 /ColorSpace /DeviceCMYK /BitsPerComponent 8";
const TINY: &str = "/Width 10 /Height 7 /ColorSpace /DeviceGray /BitsPerComponent 8";

async fn extract(bytes: &[u8]) -> (Scratch, Images) {
    let scratch = Scratch::new();
    let file = scratch.file("a 'file'.pdf", bytes);
    let out = scratch.path().join("-out dir");
    std::fs::create_dir(&out).unwrap();
    let page = list_images(&scratch.sandbox, &file, 1, 1).await.unwrap();
    let images = extract_images(&scratch.sandbox, &file, &out, &page)
        .await
        .unwrap();
    (scratch, images)
}

// P2
#[tokio::test]
async fn grey_cmyk_and_inline_images_come_out_and_specks_are_counted() {
    let inline = "q 50 0 0 50 10 10 cm BI /W 8 /H 8 /CS /G /BPC 8 /F /AHx ID ".to_owned()
        + &"7f".repeat(64)
        + "> EI Q";
    let file = samples::image_page(
        &[(GREY, &[9; 120]), (TINY, &[9; 70]), (CMYK, &[9; 480])],
        &inline,
    );
    let (_scratch, result) = extract(&file).await;
    let found = result
        .images
        .iter()
        .map(|image| (image.index, image.width, image.height))
        .collect::<Vec<_>>();
    assert_eq!(found, [(0, 10, 12), (2, 10, 12), (3, 8, 8)]);
    assert_eq!(
        result
            .images
            .iter()
            .map(|image| image.colour.as_str())
            .collect::<Vec<_>>(),
        ["gray", "cmyk", "gray"]
    );
    assert_eq!(result.skipped.len(), 1);
    assert_eq!(
        (result.skipped[0].index, result.skipped[0].is_loss),
        (1, false)
    );
    assert!(
        result
            .images
            .iter()
            .all(|image| image.file.is_file() && image.bytes > 0)
    );
}

// P2
#[tokio::test]
async fn a_mask_comes_out_with_its_role() {
    // The soft mask is object 6, drawn with the picture that names it and once by itself.
    let picture = "/Width 10 /Height 12 /ColorSpace /DeviceGray /BitsPerComponent 8 /SMask 6 0 R";
    let stencil = "/Width 16 /Height 12 /ImageMask true /BitsPerComponent 1";
    let file = samples::image_page(
        &[(picture, &[9; 120]), (GREY, &[9; 120]), (stencil, &[9; 24])],
        "",
    );
    let (_scratch, result) = extract(&file).await;
    assert_eq!(result.skipped, []);
    let found = result
        .images
        .iter()
        .map(|image| (image.index, image.role.name()))
        .collect::<Vec<_>>();
    assert_eq!(
        found,
        [(0, "picture"), (1, "mask"), (2, "picture"), (3, "mask")]
    );
}

// P2
#[tokio::test]
async fn only_wanted_files_are_left_in_the_folder() {
    let (scratch, result) = extract(&samples::image_page(
        &[(GREY, &[9; 120]), (TINY, &[9; 70])],
        "",
    ))
    .await;
    assert_eq!(
        std::fs::read_dir(scratch.path().join("-out dir"))
            .unwrap()
            .count(),
        result.images.len()
    );
}

// P4
#[tokio::test]
async fn a_huge_image_is_refused_by_its_claim_before_it_is_decoded() {
    let huge = "/Width 100000 /Height 100000 /ColorSpace /DeviceRGB /BitsPerComponent 8";
    let (scratch, result) = extract(&samples::image_page(&[(huge, &[1; 10])], "")).await;
    assert_eq!(result.images, []);
    let reason = "an image of the page has 100000 × 100000 pixels, the limit is 160 megapixels";
    assert_eq!(
        result.skipped,
        [Skipped {
            page: 1,
            index: 0,
            reason: reason.to_owned(),
            is_loss: true
        }]
    );
    assert_eq!(
        std::fs::read_dir(scratch.path().join("-out dir"))
            .unwrap()
            .count(),
        0
    );
}

// P4
#[test]
fn a_page_with_thousands_of_images_or_too_many_pixels_is_passed_over_whole() {
    let line =
        "  1     0 image    6000  6000  rgb     3   8  jpeg   no   1 0   144   144 3901B 4.0%\n";
    let page = |count: usize| list::parse(&line.repeat(count)).remove(&1).unwrap();
    assert_eq!(sort_out(&page(4)).0.len(), 4);
    for count in [5, IMAGES_PER_PAGE_MAX + 1] {
        let page = page(count);
        let (wanted, skipped) = sort_out(&page);
        assert!(
            wanted.is_empty()
                && skipped.len() == count
                && skipped.iter().all(|image| image.is_loss)
        );
    }
}
