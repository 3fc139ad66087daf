//! Pictures and scans: orientation, resolution, size, language.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use millstream_admin::ops::upload::{Upload, add_file, open_store};
use millstream_tests::{Lab, Process, eventually, process};
use uuid::Uuid;

use crate::scans::{self, ORDERS, Scan};

/// Of the order numbers of a page, as many may be misread.
const MISREAD_MAX: usize = 1;

async fn add(lab: &Lab, path: &Path) -> Uuid {
    let producer = lab.producer();
    let parts = producer.parts();
    let objects = open_store(&lab.config.objects.url).unwrap();
    let upload = Upload {
        name: "scan.pdf",
        tenant: "default",
        bytes_max: 500_000_000,
    };
    add_file(&parts.pg, &parts.catalog, &objects, path, &upload)
        .await
        .unwrap()
}

/// Puts a file through the pipeline, with a bound for each of its pages.
async fn run(lab: &Lab, path: &Path, pages: usize) {
    let _worker = Process::start(lab, &["worker"]);
    add(lab, path).await;
    has_ended(lab, pages).await;
}

async fn has_ended(lab: &Lab, pages: usize) {
    lab.await_number("SELECT count(*) FROM millstream.image", 1)
        .await;
    for page in 1..=pages {
        let read = "SELECT count(DISTINCT page) >= $1 FROM millstream.image WHERE processed_at IS NOT NULL";
        eventually(&format!("{page} pages are read"), async || {
            sqlx::query_scalar::<_, bool>(read)
                .bind(page as i64)
                .fetch_one(&lab.pool)
                .await
                .unwrap()
                .then_some(())
        })
        .await;
    }
    eventually("the document has ended", async || {
        sqlx::query_scalar::<_, bool>("SELECT state <> 'running' FROM millstream.document")
            .fetch_one(&lab.pool)
            .await
            .unwrap()
            .then_some(())
    })
    .await;
    let end = sqlx::query_as::<_, (String, Option<String>)>(
        "SELECT state, error FROM millstream.document",
    )
    .fetch_one(&lab.pool)
    .await
    .unwrap();
    assert_eq!(end, ("completed".to_owned(), None));
}

async fn text(lab: &Lab) -> String {
    let chunks: Vec<String> =
        sqlx::query_scalar("SELECT text FROM millstream.chunk ORDER BY ordinal")
            .fetch_all(&lab.pool)
            .await
            .unwrap();
    chunks.join("\n")
}

/// Codes of the remarks with their pages.
async fn notes(lab: &Lab) -> Vec<(Option<i32>, String)> {
    sqlx::query_as("SELECT page, code FROM millstream.document_note ORDER BY page, code")
        .fetch_all(&lab.pool)
        .await
        .unwrap()
}

/// All order numbers but one of each page are found in the text of the document, and nothing is remarked on.
async fn assert_read(scans: &[Scan]) {
    let lab = Lab::new().await;
    let path = lab.folder().join("scan.pdf");
    std::fs::write(&path, scans::pdf(lab.folder(), scans)).unwrap();
    run(&lab, &path, scans.len()).await;
    let text = text(&lab).await;
    for page in 0..scans.len() {
        let missing = scans::orders(page)
            .into_iter()
            .filter(|order| !text.contains(order))
            .collect::<BTreeSet<_>>();
        assert!(
            missing.len() <= MISREAD_MAX,
            "of {ORDERS} orders of page {} are not found: {missing:?}\n{text}",
            page + 1
        );
    }
    assert_eq!(notes(&lab).await, []);
}

/// Scans that lay turned by so much: coarse and fine, whole and in strips, black on white and the reverse, with and without their
/// resolution.
fn turned(turned: u32) -> [Scan; 3] {
    let plain = Scan {
        turned,
        ..Scan::PLAIN
    };
    [
        Scan {
            dpi: 150,
            marked: false,
            ..plain
        },
        Scan {
            dpi: 200,
            strips: 7,
            inverted: true,
            ..plain
        },
        Scan {
            dpi: 300,
            inverted: turned == 180,
            marked: false,
            ..plain
        },
    ]
}

// P2, P3
#[tokio::test]
async fn x44_scans_are_read_upright() {
    assert_read(&turned(0)).await;
}

// P2, P3
#[tokio::test]
async fn x44_scans_are_read_turned_to_the_right() {
    assert_read(&turned(90)).await;
}

// P2, P3
#[tokio::test]
async fn x44_scans_are_read_upside_down() {
    assert_read(&turned(180)).await;
}

// P2, P3
#[tokio::test]
async fn x44_scans_are_read_turned_to_the_left() {
    assert_read(&turned(270)).await;
}

// P2, P3
#[tokio::test]
async fn x44_the_rotation_of_the_page_is_honoured_and_a_coarse_scan_is_remarked_on() {
    let lab = Lab::new().await;
    let path = lab.folder().join("scan.pdf");
    let scans = [
        Scan {
            dpi: 150,
            turned: 270,
            rotate: 90,
            ..Scan::PLAIN
        },
        Scan {
            dpi: 100,
            marked: false,
            ..Scan::PLAIN
        },
    ];
    std::fs::write(&path, scans::pdf(lab.folder(), &scans)).unwrap();
    run(&lab, &path, scans.len()).await;
    let text = text(&lab).await;
    let found = scans::orders(0)
        .into_iter()
        .filter(|order| text.contains(order))
        .count();
    assert!(found + MISREAD_MAX >= ORDERS, "{found} orders in {text}");
    assert_eq!(
        notes(&lab).await,
        [(Some(2), "ocr_low_resolution".to_owned())]
    );
}

// P2, P4
#[tokio::test]
async fn x43_a_picture_that_ocr_does_not_take_costs_the_document_nothing_else() {
    let lab = Lab::new().await;
    run(
        &lab,
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wide.pdf"),
        1,
    )
    .await;
    let text = text(&lab).await;
    assert!(text.contains("WIDECANARY"), "{text}");
    assert_eq!(
        lab.number(
            "SELECT count(*) FROM millstream.image WHERE width = 40000 AND processed_at IS NOT NULL"
        )
        .await,
        1
    );
}

/// Where Tesseract has its languages.
fn installed_tessdata() -> PathBuf {
    let listed = Command::new("tesseract")
        .arg("--list-langs")
        .output()
        .expect("Tesseract is installed");
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    PathBuf::from(said.split('"').nth(1).expect("its folder in quotes"))
}

// P3
#[tokio::test]
async fn x49_languages_of_ones_own_are_used_and_the_doctor_says_where_from() {
    let lab = Lab::new().await;
    let folder = lab.folder().join("tessdata");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(
        installed_tessdata().join("eng.traineddata"),
        folder.join("ours.traineddata"),
    )
    .unwrap();
    let path = lab.folder().join("scan.pdf");
    std::fs::write(
        &path,
        scans::pdf(
            lab.folder(),
            &[Scan {
                dpi: 200,
                ..Scan::PLAIN
            }],
        ),
    )
    .unwrap();
    let env = [
        ("TESSDATA_PREFIX", folder.display().to_string()),
        ("MILLSTREAM_DOCUMENTS__OCR_LANGUAGES", "ours".to_owned()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    let _worker = Process::start_in(&lab.config, &["worker"], &env);
    add(&lab, &path).await;
    has_ended(&lab, 1).await;
    assert!(text(&lab).await.contains(&scans::orders(0)[0]));
    let doctor = process::command(&lab, &["doctor"])
        .envs(env.clone())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains(&format!(
            "ours in TESSDATA_PREFIX={}, no osd",
            folder.display()
        )),
        "{said}"
    );
    let doctor = process::command(&lab, &["doctor"])
        .envs(env)
        .env("MILLSTREAM_DOCUMENTS__OCR_LANGUAGES", "ours+xyz")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains("no data of xyz in TESSDATA_PREFIX="),
        "{said}"
    );
}

// P4
#[tokio::test]
async fn x51_a_folder_with_links_pipes_and_devices_is_added_once() {
    let lab = Lab::new().await;
    let folder = lab.folder().join("inbox");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.pdf"), scans::pdf(lab.folder(), &[])).unwrap();
    for (to, name) in [
        (".", "one"),
        (".", "two"),
        ("nowhere", "gone.pdf"),
        ("/dev/zero", "zero.pdf"),
    ] {
        std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
    }
    let made = Command::new("mkfifo")
        .arg(folder.join("pipe.pdf"))
        .status()
        .unwrap();
    assert!(made.success());
    let added = process::run(&lab, &["documents", "add", &folder.display().to_string()]).await;
    let said = String::from_utf8_lossy(&added.stderr).into_owned();
    assert!(added.status.success(), "{said}");
    for name in ["one", "two", "gone.pdf", "zero.pdf", "pipe.pdf"] {
        assert!(
            said.contains(&format!("/{name} is passed over: ")),
            "{name}: {said}"
        );
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.document").await,
        1
    );
    let partly = process::run(
        &lab,
        &[
            "documents",
            "add",
            "/dev/zero",
            &folder.join("a.pdf").display().to_string(),
        ],
    )
    .await;
    assert_eq!(
        (
            partly.status.code(),
            lab.number("SELECT count(*) FROM millstream.document").await
        ),
        (Some(1), 2)
    );
}
