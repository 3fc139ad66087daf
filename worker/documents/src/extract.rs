//! `document.extract`: takes a file apart into the text of its pages and its images (P2, stage 1).
//!
//! Works page by page in slices: memory and temporary files stay small however long the document is, and the stage's
//! progress moves with every page. Images go to the object store at once; all rows wait for the effect. A page whose text
//! is in what it draws, or cannot be trusted, is drawn as a whole, for OCR among the images.

mod drawn;
mod remarks;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::FutureExt;
use millstream_outbound::objects::Objects;
use millstream_worker::{Context, Failure, Outcome, Success};
use serde_json::json;
use uuid::Uuid;

use self::drawn::Allowance;
use super::{
    Pipeline,
    failure::{blocking, gone, of_objects},
    fanout::{self, StageJob},
    payload::{self, OfDocument, OfImage},
    progress::StageProgress,
    store::{self, ImageRow},
    tools::{
        Note, Notes, PageText, Sandbox, ToolError,
        error::code,
        normalise::normalise,
        note,
        pdf::{
            self, ExtractedImage, IMAGES_PER_DOCUMENT_MAX, ListedImage, PAGES_PER_SLICE, PageRead,
            PdfInfo, Skipped,
        },
    },
};

/// Text of one document, in bytes: 5,000 well-filled pages have 15 MB. It is held until the job is settled.
const TEXT_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bytes of all images of one document in the object store; a large catalogue has a tenth of it.
const IMAGE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Skipped images named in the job's log; the number of all is in its result.
const SKIPPED_LINES_MAX: usize = 20;

pub(super) async fn run(
    pipeline: Arc<Pipeline>,
    context: Context,
    OfDocument { document_id }: OfDocument,
) -> Outcome {
    let _gate = pipeline.gates.extraction().await?;
    let original = store::original(context.pg(), document_id)
        .await?
        .ok_or_else(|| gone("the document"))?;
    let workspace = pipeline.home.workspace()?;
    let file = workspace
        .fetch(&pipeline.objects, &original.object_key, "document.pdf")
        .await?;
    let sandbox = pipeline.sandbox(&workspace);
    let info = pdf::inspect(&sandbox, &file).await?;
    let source = Source {
        document_id,
        sandbox,
        file,
        images_dir: workspace.subfolder("images")?,
        objects: pipeline.objects.clone(),
    };
    let mut taken = take_apart(&source, &context, &info).await?;
    taken.notes.extend(remarks::of_form(&info, &taken.pages));
    taken
        .notes
        .extend(remarks::of_lost_text(None, &taken.file_complaints));
    finish(document_id, &info, taken)
}

/// One file and where its parts go.
struct Source {
    document_id: Uuid,
    sandbox: Sandbox,
    file: PathBuf,
    images_dir: PathBuf,
    objects: Objects,
}

/// What has come out so far.
#[derive(Default)]
struct Taken {
    pages: Vec<PageText>,
    /// Of `pages`, those whose text may be rubbish.
    doubtful: Vec<u32>,
    text_bytes: usize,
    images: Vec<ImageRow>,
    /// What poppler said of text in the file as a whole.
    file_complaints: Vec<String>,
    /// For pages that are still to be drawn.
    allowance: Allowance,
    /// Of `images`, those that the file holds.
    pictures: usize,
    image_bytes: u64,
    skipped: usize,
    notes: Notes,
}

async fn take_apart(source: &Source, context: &Context, info: &PdfInfo) -> Result<Taken, Failure> {
    let pages = info.pages;
    let mut listed: BTreeMap<u32, Vec<ListedImage>> = BTreeMap::new();
    for image in pdf::list_images(&source.sandbox, &source.file, 1, pages).await? {
        listed.entry(image.page).or_default().push(image);
    }
    let mut taken = Taken::default();
    let mut progress = StageProgress::new(context);
    progress.tell(0, pages, &format!("page 1 of {pages}")).await;
    for first in (1..=pages).step_by(PAGES_PER_SLICE as usize) {
        let last = pages.min(first + PAGES_PER_SLICE - 1);
        taken.add_pages(first, page_texts(source, info, first, last).await?)?;
        for page in first..=last {
            let images = listed.remove(&page).unwrap_or_default();
            let is_scan = taken.add_drawing(source, page, &images).await?;
            if !images.is_empty() {
                taken.add_images(source, context, &images, is_scan).await?;
            }
            progress
                .tell(page, pages, &format!("page {page} of {pages}"))
                .await;
        }
    }
    Ok(taken)
}

async fn page_texts(
    source: &Source,
    info: &PdfInfo,
    first: u32,
    last: u32,
) -> Result<Vec<PageRead>, Failure> {
    let pages =
        pdf::page_texts(&source.sandbox, &source.file, &info.complaints, first, last).await?;
    blocking(move || {
        pages
            .into_iter()
            .map(|page| PageRead {
                text: normalise(&page.text),
                ..page
            })
            .collect()
    })
    .await
}

impl Taken {
    fn add_pages(&mut self, first: u32, read: Vec<PageRead>) -> Result<(), ToolError> {
        for (page, read) in (first..).zip(read) {
            self.text_bytes += read.text.len();
            self.notes
                .extend(remarks::of_lost_text(Some(page), &read.complaints));
            if self.file_complaints.is_empty() {
                self.file_complaints = read.file_complaints;
            }
            if read.is_doubtful && !read.text.is_empty() {
                self.doubtful.push(page);
            }
            self.pages.push(PageText {
                page,
                text: read.text,
            });
        }
        if self.text_bytes > TEXT_BYTES_MAX {
            let message = format!(
                "the file has more than {} MiB of text",
                TEXT_BYTES_MAX / (1024 * 1024)
            );
            return Err(ToolError::document(code::TOO_MUCH_TEXT, &message));
        }
        Ok(())
    }

    /// Stores the images of one page. Their names are made of their places, so a second run writes the same objects.
    async fn add_images(
        &mut self,
        source: &Source,
        context: &Context,
        page: &[ListedImage],
        is_scan: bool,
    ) -> Result<(), Failure> {
        if self.pictures + page.len() > IMAGES_PER_DOCUMENT_MAX
            || self.image_bytes > IMAGE_BYTES_MAX
        {
            self.skip(context, page.iter().map(beyond_limits));
            return Ok(());
        }
        let found =
            pdf::extract_images(&source.sandbox, &source.file, &source.images_dir, page).await?;
        self.skip(context, found.skipped.into_iter());
        for image in found.images {
            if image.reduced > 1 {
                let message = format!(
                    "it is stored {} times smaller: it has more pixels than can be worked on",
                    image.reduced
                );
                self.notes.add(Note::picture(
                    image.page,
                    image.index,
                    note::code::IMAGE_REDUCED,
                    &message,
                ));
            }
            let row = ImageRow {
                is_read_with_page: is_scan,
                ..row(source.document_id, &image)
            };
            self.store(source, row, &image.file).await?;
            self.image_bytes += image.bytes;
            self.pictures += 1;
        }
        Ok(())
    }

    async fn store(&mut self, source: &Source, row: ImageRow, file: &Path) -> Result<(), Failure> {
        source
            .objects
            .put_file(&row.object_key, file)
            .await
            .map_err(|error| of_objects(&error))?;
        self.images.push(row);
        // The workspace would remove it too, but not before a thousand others are beside it.
        drop(tokio::fs::remove_file(file).await);
        Ok(())
    }

    fn skip(&mut self, context: &Context, skipped: impl Iterator<Item = Skipped>) {
        let mut specks: Vec<Skipped> = Vec::new();
        for image in skipped {
            if image.is_loss {
                self.notes.add(Note::picture(
                    image.page,
                    image.index,
                    note::code::IMAGE_LEFT_OUT,
                    &image.reason,
                ));
            } else {
                specks.push(image.clone());
            }
            if self.skipped < SKIPPED_LINES_MAX {
                context.log(format!(
                    "image {} of page {} is left out: {}",
                    image.index, image.page, image.reason
                ));
            }
            self.skipped += 1;
        }
        if let Some(first) = specks.first() {
            let message = format!("{} pictures show nothing: {}", specks.len(), first.reason);
            self.notes.add(Note::page(
                first.page,
                note::code::IMAGES_TOO_SMALL,
                &message,
            ));
        }
    }
}

fn beyond_limits(image: &ListedImage) -> Skipped {
    Skipped {
        page: image.page,
        index: image.index,
        reason: "the document has too many images, or too large ones".to_owned(),
        is_loss: true,
    }
}

fn row(document_id: Uuid, image: &ExtractedImage) -> ImageRow {
    ImageRow {
        page: image.page as i32,
        position: image.index as i32,
        role: image.role.name(),
        object_key: format!(
            "documents/{document_id}/images/{}-{}.png",
            image.page, image.index
        ),
        width: image.width as i32,
        height: image.height as i32,
        dpi: image.dpi,
        is_read_with_page: false,
    }
}

fn finish(document_id: Uuid, info: &PdfInfo, mut taken: Taken) -> Outcome {
    let result =
        json!({"pages": info.pages, "images": taken.pictures, "images_skipped": taken.skipped});
    let (page_count, title) = (info.pages as i32, info.title.clone());
    let success = Success::with_result(&result)?;
    let notes = std::mem::take(&mut taken.notes).finish();
    Ok(success.and_write(store::effect(move |conn| {
        async move {
            store::document_facts(conn, document_id, page_count, title.as_deref()).await?;
            store::pages(conn, document_id, &taken.pages).await?;
            store::doubt(conn, document_id, &taken.doubtful).await?;
            store::images(conn, document_id, &taken.images).await?;
            store::notes(conn, document_id, &notes).await?;
            let jobs = taken
                .images
                .iter()
                .map(|image| StageJob::new(payload::IMAGE, &of_image(document_id, image)));
            fanout::open(conn, document_id, fanout::IMAGES, jobs).await
        }
        .boxed()
    })))
}

fn of_image(document_id: Uuid, image: &ImageRow) -> OfImage {
    let &ImageRow {
        page,
        position,
        dpi,
        is_read_with_page,
        ..
    } = image;
    OfImage {
        document_id,
        page,
        position,
        dpi,
        is_read_with_page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // P4
    #[test]
    fn endless_text_is_an_error_of_the_document() {
        let mut taken = Taken::default();
        let page = |text: String| PageRead {
            text,
            ..PageRead::default()
        };
        assert_eq!(
            taken.add_pages(
                1,
                vec![page(String::new()), page("x".repeat(TEXT_BYTES_MAX))]
            ),
            Ok(())
        );
        assert_eq!(taken.pages.len(), 2);
        let error = taken.add_pages(3, vec![page("one more".to_owned())]);
        assert_eq!(
            error.map_err(|e| e.to_string()),
            Err("the file has more than 24 MiB of text".to_owned())
        );
    }
}
