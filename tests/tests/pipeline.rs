//! Documents through two worker processes, undisturbed and disturbed: the same rows in the end, and progress that never falls.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
};

use millstream_admin::{
    ops::upload::{Upload, add_file, open_store},
    samples::{DAMAGED, write_to},
};
use millstream_local::Durability;
use millstream_tests::{Lab, Process, eventually};
use uuid::Uuid;

/// Pictures in each sample.
const IMAGES: [(&str, i64); 4] = [
    ("article.pdf", 0),
    ("catalogue.pdf", 3),
    ("gallery.pdf", 12),
    ("letter.pdf", 0),
];

/// The real tools, or a failure that says what to do.
fn require_tools() {
    for (program, option) in [
        ("pdftotext", "-v"),
        ("pdfimages", "-v"),
        ("tesseract", "--version"),
    ] {
        let found = Command::new(program)
            .arg(option)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            found.is_ok(),
            "{program} is missing: `make setup` installs poppler and Tesseract"
        );
    }
}

async fn add_samples(lab: &Lab) {
    require_tools();
    let producer = lab.producer();
    let parts = producer.parts();
    let objects = open_store(&lab.config.objects.url).unwrap();
    for path in write_to(&lab.folder().join("samples")).unwrap() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let upload = Upload {
            name,
            tenant: "default",
            bytes_max: 100_000_000,
        };
        add_file(&parts.pg, &parts.catalog, &objects, &path, &upload)
            .await
            .unwrap();
    }
}

/// Follows all documents to their ends.
async fn watch(lab: &Lab) {
    let mut seen: HashMap<Uuid, f32> = HashMap::new();
    eventually("all documents have ended", async || {
        (look(lab, &mut seen).await == 0).then_some(())
    })
    .await;
}

/// One look at the progress: it may not fall, and 100 is said of completed documents only. Returns how many are not final.
async fn look(lab: &Lab, seen: &mut HashMap<Uuid, f32>) -> usize {
    let rows: Vec<(Uuid, String, String, f32)> =
        sqlx::query_as("SELECT id, name, state, progress FROM millstream.document")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    for (id, name, state, progress) in &rows {
        let before = seen.insert(*id, *progress).unwrap_or(0.0);
        assert!(
            *progress >= before,
            "{name} fell from {before} to {progress}"
        );
        assert_eq!(
            *progress >= 100.0,
            state == "completed",
            "{name} is {state} at {progress}"
        );
    }
    rows.iter()
        .filter(|(_, _, state, _)| state == "running")
        .count()
}

/// What every run must yield, whatever happened on the way.
async fn assert_yield(lab: &Lab) {
    let images: Vec<(String, i64)> = sqlx::query_as(
        "SELECT d.name, (SELECT count(*) FROM millstream.image i WHERE i.document_id = d.id AND i.processed_at IS NOT NULL)
         FROM millstream.document d WHERE d.state = 'completed' ORDER BY d.name",
    )
    .fetch_all(&lab.pool)
    .await
    .unwrap();
    assert_eq!(images, IMAGES.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(
        lab.number("SELECT count(DISTINCT object_key) FROM millstream.image")
            .await,
        15,
        "one row and one object per picture"
    );
    let (state, error): (String, String) =
        sqlx::query_as("SELECT state, error FROM millstream.document WHERE name = $1")
            .bind(DAMAGED)
            .fetch_one(&lab.pool)
            .await
            .unwrap();
    assert!(state == "failed" && error.len() > 10, "{state}: {error}");
    let uneven = "SELECT count(*) FROM millstream.stage s JOIN millstream.document d ON d.id = s.document_id JOIN millstream.batch b ON b.id = s.id WHERE d.state = 'completed'
      AND (s.state <> 'completed' OR b.state <> 'completed' OR s.completed_items + s.failed_items <> s.total_items OR b.succeeded <> b.total)";
    assert_eq!(
        lab.number(uneven).await,
        0,
        "every stage has counted every job once"
    );
    assert_rows(lab).await;
    let others = "SELECT count(*) FROM millstream.job WHERE state <> 2 AND NOT (state = 8 AND kind_id = (SELECT id FROM millstream.kind WHERE name = 'document.extract'))";
    assert_eq!(
        lab.number(others).await,
        0,
        "no job is left over, and only the damaged file's is dead"
    );
    lab.await_drained("documents").await;
}

/// Chunks, analyses, vectors and products belong together, and words are found.
async fn assert_rows(lab: &Lab) {
    let bare = "SELECT count(*) FROM millstream.chunk c WHERE
      (SELECT count(*) FROM millstream.chunk_analysis a WHERE a.document_id = c.document_id AND a.ordinal = c.ordinal) <> 3
      OR (SELECT count(*) FROM millstream.embedding e WHERE e.document_id = c.document_id AND e.ordinal = c.ordinal AND e.source = 'chunk') <> 1";
    assert_eq!(
        lab.number(bare).await,
        0,
        "every chunk has three analyses and a vector"
    );
    assert_eq!(
        lab.number("SELECT count(DISTINCT document_id) FROM millstream.chunk")
            .await,
        4
    );
    let oak = "SELECT count(*) FROM millstream.product p JOIN millstream.document d ON d.id = p.document_id WHERE d.name = 'catalogue.pdf' AND p.name ILIKE '%oak table%'";
    assert_eq!(
        lab.number(oak).await,
        1,
        "the catalogue's oak table is one product"
    );
    let found = "SELECT count(DISTINCT document_id) FROM millstream.chunk WHERE search @@ to_tsquery('simple', 'oak & table')";
    assert!(lab.number(found).await >= 1, "the text can be searched");
}

/// Two worker processes in the middle of the pictures.
async fn half_done(lab: &Lab) -> [Process; 2] {
    let workers = [
        Process::start(lab, &["worker", "--concurrency", "2"]),
        Process::start(lab, &["worker", "--concurrency", "2"]),
    ];
    lab.await_workers(2).await;
    add_samples(lab).await;
    let partly = "SELECT count(*) FROM millstream.stage WHERE name = 'images' AND state = 'running' AND completed_items > 0 AND completed_items < total_items";
    lab.await_number(partly, 1).await;
    workers
}

// P2, P3, P4
#[tokio::test]
async fn documents_finish_with_all_that_is_in_them() {
    let lab = Lab::new().await;
    let _workers = [
        Process::start(&lab, &["worker"]),
        Process::start(&lab, &["worker"]),
    ];
    add_samples(&lab).await;
    watch(&lab).await;
    assert_yield(&lab).await;
}

// P2, F15, F16
#[tokio::test]
async fn documents_finish_although_a_worker_is_killed_in_the_middle() {
    let lab = Lab::new().await;
    let [mut victim, _other] = half_done(&lab).await;
    victim.kill9();
    watch(&lab).await;
    assert_yield(&lab).await;
}

// P2, F11
#[tokio::test]
async fn documents_finish_although_redis_is_flushed_in_the_middle() {
    let lab = Lab::private(Durability::None).await;
    let _workers = half_done(&lab).await;
    lab.command::<String>(&["FLUSHALL"]).await;
    watch(&lab).await;
    assert_yield(&lab).await;
}
