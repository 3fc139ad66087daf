//! A document's report, and failures that a stage's tolerance must not hide (N6, X41).

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
};

use millstream_admin::ops::upload::{Upload, add_file, open_store};
use millstream_tests::{Lab, Process, Served, eventually, process};
use serde_json::{Value, json};
use uuid::Uuid;

use super::tools::path_with;
use crate::scans::{self, Scan};

/// A PDF of these objects, numbered from 1; object 1 is the catalogue.
fn pdf(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", bytes.len()).unwrap();
        bytes.extend(
            format!("{} 0 obj\n", index + 1)
                .bytes()
                .chain(object.iter().copied())
                .chain(*b"\nendobj\n"),
        );
    }
    let (start, size) = (bytes.len(), objects.len() + 1);
    bytes.extend(
        format!("{table}trailer\n<</Size {size} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n")
            .bytes(),
    );
    bytes
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<<{dictionary} /Length {}>>\nstream\n", content.len());
    head.bytes()
        .chain(content.iter().copied())
        .chain(*b"\nendstream")
        .collect()
}

/// A page for each content; `/F` is a font, `/I0`, `/I1`… are the images.
pub fn document(contents: &[&str], images: &[Vec<u8>]) -> Vec<u8> {
    let first_image = 4 + 2 * contents.len();
    let names = (0..images.len())
        .map(|n| format!("/I{n} {} 0 R ", first_image + n))
        .collect::<Vec<_>>()
        .concat();
    let kids = (0..contents.len())
        .map(|n| format!("{} 0 R ", 4 + 2 * n))
        .collect::<Vec<_>>()
        .concat();
    let mut objects = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        format!("<</Type /Pages /Kids [{kids}] /Count {}>>", contents.len()).into(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>".to_vec(),
    ];
    for (n, content) in contents.iter().enumerate() {
        let resources = format!("/Resources <</Font <</F 3 0 R>> /XObject <<{names}>>>>");
        objects.push(format!("<</Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] {resources} /Contents {} 0 R>>", 5 + 2 * n).into());
        objects.push(stream("", content.as_bytes()));
    }
    objects.extend(images.iter().cloned());
    pdf(&objects)
}

fn image(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    let dictionary = format!(
        "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray /BitsPerComponent 8"
    );
    stream(&dictionary, pixels)
}

/// `HELP` in letters of 5 × 7 dots, black on white, each dot 8 pixels.
pub fn help() -> Vec<u8> {
    let letters: [[u8; 7]; 4] = [
        [17, 17, 17, 31, 17, 17, 17],
        [31, 16, 16, 30, 16, 16, 31],
        [16, 16, 16, 16, 16, 16, 31],
        [30, 17, 17, 30, 16, 16, 16],
    ];
    let (dot, width, height) = (8, 30 * 8, 13 * 8);
    let mut pixels = vec![255; width * height];
    for (place, letter) in letters.iter().enumerate() {
        for (x, y) in (0..5 * dot).flat_map(|x| (0..7 * dot).map(move |y| (x, y))) {
            if letter[y / dot] >> (4 - x / dot) & 1 == 1 {
                pixels[(y + 3 * dot) * width + (place * 6 + 3) * dot + x] = 0;
            }
        }
    }
    image(width, height, &pixels)
}

pub async fn add(lab: &Lab, name: &str, bytes: &[u8]) -> Uuid {
    let path: PathBuf = lab.folder().join(name);
    std::fs::write(&path, bytes).unwrap();
    let producer = lab.producer();
    let parts = producer.parts();
    let objects = open_store(&lab.config.objects.url).unwrap();
    let upload = Upload {
        name,
        tenant: "default",
        bytes_max: 100_000_000,
    };
    add_file(&parts.pg, &parts.catalog, &objects, &path, &upload)
        .await
        .unwrap()
}

/// State and error at its end.
pub async fn ended(lab: &Lab, id: Uuid) -> (String, Option<String>) {
    eventually("the document has ended", async || {
        let query = sqlx::query_as(
            "SELECT state, error FROM millstream.document WHERE id = $1 AND state <> 'running'",
        )
        .bind(id);
        query.fetch_optional(&lab.pool).await.unwrap()
    })
    .await
}

async fn report(api: &Served, id: Uuid) -> Value {
    api.json(&format!("/v1/documents/{id}")).await.1["report"].clone()
}

// N6
#[tokio::test]
async fn n6_a_document_reports_what_each_page_and_picture_yielded_and_what_was_left_out() {
    let lab = Lab::new().await;
    let (_worker, api) = (
        Process::start(&lab, &["worker"]),
        Served::start(&lab, &["api"]).await,
    );
    let pages = [
        "BT /F 12 Tf 50 700 Td (A price list of bolts) Tj ET",
        "q 300 0 0 130 50 500 cm /I0 Do Q q 9 0 0 9 50 400 cm /I1 Do Q",
        "q 300 0 0 300 50 300 cm /I2 Do Q",
        "",
    ];
    let speck = image(4, 4, &[0; 16]);
    // Its size alone decides: nobody decodes it.
    let huge = image(30_000, 30_000, b"short");
    let id = add(&lab, "mixed.pdf", &document(&pages, &[help(), speck, huge])).await;
    assert_eq!(ended(&lab, id).await, ("completed".into(), None));
    let report = report(&api, id).await;
    let wanted = json!({"pages": 4, "by_text": 1, "by_ocr": 1, "without_text": 2, "pictures": 1, "pictures_left_out": 1, "notes": 3});
    assert_eq!(report["summary"], wanted);
    let sources: Vec<_> = report["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| page["source"].as_str().unwrap())
        .collect();
    assert_eq!(sources, ["text", "ocr", "none", "none"]);
    assert_eq!(
        (
            &report["pages"][0]["chars"],
            &report["pages"][1]["chars"],
            &report["pages"][1]["pictures_with_text"]
        ),
        (&json!(21), &report["pictures"][0]["chars"], &json!(1))
    );
    assert!(report["pictures"][0]["chars"].as_i64() > Some(0));
    let picture = &report["pictures"][0];
    assert_eq!(
        (&picture["page"], &picture["position"], &picture["yield"]),
        (&json!(2), &json!(0), &json!("text"))
    );
    assert!(
        picture["confidence"]
            .as_f64()
            .is_some_and(|confidence| confidence >= 50.0),
        "{picture}"
    );
    let notes: Vec<_> = report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["page"].clone(), n["code"].clone()))
        .collect();
    assert_eq!(
        notes,
        [
            (json!(2), json!("images_too_small")),
            (json!(3), json!("no_text")),
            (json!(3), json!("image_left_out"))
        ]
    );
    assert!(
        report["notes"][2]["message"]
            .as_str()
            .unwrap()
            .contains("30000 × 30000 pixels"),
        "{report}"
    );
    let shown = process::run(&lab, &["documents", "show", &id.to_string()]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for line in [
        "4 pages: 1 by text, 1 by OCR, 2 without text; 1 picture left out",
        "note: page 3, picture 0: image_left_out: ",
    ] {
        assert!(shown.contains(line), "{line} is missing: {shown}");
    }
}

// N6
#[tokio::test]
async fn n6_a_picture_is_read_with_its_page_only_if_the_page_was_read() {
    let real = std::env::var("PATH").unwrap();
    for (has_ocr, yields, codes) in [
        (true, "with_page", json!([])),
        (false, "left_out", json!(["ocr_gave_up"])),
    ] {
        let lab = Lab::new().await;
        let path = if has_ocr {
            real.clone()
        } else {
            path_with(&lab, "tesseract", "echo 'Error in pixRead' >&2; exit 1")
        };
        let (_worker, api) = (
            Process::start_in(&lab.config, &["worker"], &[("PATH".into(), path)]),
            Served::start(&lab, &["api"]).await,
        );
        let id = add(
            &lab,
            "scan.pdf",
            &scans::pdf(
                lab.folder(),
                &[Scan {
                    dpi: 150,
                    ..Scan::PLAIN
                }],
            ),
        )
        .await;
        assert_eq!(ended(&lab, id).await, ("completed".into(), None));
        let report = report(&api, id).await;
        let noted: Vec<_> = report["notes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|note| note["code"].clone())
            .collect();
        assert_eq!(
            (&report["pictures"][0]["yield"], &json!(noted)),
            (&json!(yields), &codes),
            "{report}"
        );
    }
}

/// Status and body.
type Reply = (u16, String);

type Answer = fn() -> Reply;

/// An OpenAI-compatible server of vectors: what it answers to a text.
fn embeddings(answer: impl Fn(&str) -> Reply + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (status, body) = answer(&request(&mut stream));
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            // A worker that was killed at the end of its test does not listen any more.
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    url
}

/// The body of one request.
fn request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).unwrap_or(0);
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let wanted = text
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        match body.filter(|body| read == 0 || wanted.is_some_and(|wanted| body.len() >= wanted)) {
            Some(body) => return body,
            None if read == 0 => return String::new(),
            None => {}
        }
    }
}

fn good() -> Reply {
    (
        200,
        json!({"model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}]}).to_string(),
    )
}

/// Eleven pages with a chunk each; the text of the third is of another kind.
fn eleven_pages() -> Vec<u8> {
    let words = |page: usize| {
        if page == 3 {
            "GUILTY text here"
        } else {
            "a quiet page of words"
        }
    };
    let pages: Vec<String> = (1..=11)
        .map(|page| format!("BT /F 12 Tf 50 700 Td ({} {page}) Tj ET", words(page)))
        .collect();
    document(&pages.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

/// A worker whose vectors come from there, with one try each.
async fn worker(lab: &Lab, url: &str) -> Process {
    let setting = |name: &str, value: &str| (format!("MILLSTREAM_{name}"), value.to_owned());
    // The shortest chunks there are, so that each page has its own.
    let env = [
        setting("EMBEDDING__PROVIDER", "openai"),
        setting("EMBEDDING__URL", url),
        setting("DOCUMENTS__CHUNK_CHARS_MAX", "200"),
        setting("DOCUMENTS__CHUNK_OVERLAP_CHARS", "0"),
    ];
    let worker = Process::start_in(&lab.config, &["worker"], &env);
    lab.await_workers(1).await;
    sqlx::query("UPDATE millstream.kind SET max_attempts = 1 WHERE name = 'document.embed'")
        .execute(&lab.pool)
        .await
        .unwrap();
    worker
}

#[tokio::test]
async fn x41_vectors_that_all_fail_fail_the_document_with_their_reason() {
    let cases: [(&str, Answer, &str); 4] = [
        (
            "refused.pdf",
            || {
                (
                    400,
                    json!({"error": {"message": "no such model"}}).to_string(),
                )
            },
            "no such model",
        ),
        (
            "nan.pdf",
            || {
                (
                    200,
                    r#"{"model": "m", "data": [{"index": 0, "embedding": [0.5, NaN]}]}"#.into(),
                )
            },
            "",
        ),
        (
            "null.pdf",
            || {
                (
                    200,
                    json!({"model": "m", "data": [{"index": 0, "embedding": [0.5, null]}]})
                        .to_string(),
                )
            },
            "",
        ),
        (
            "few.pdf",
            || (200, json!({"model": "m", "data": []}).to_string()),
            "0 vectors for 1",
        ),
    ];
    for (name, answer, reason) in cases {
        let lab = Lab::new().await;
        let _worker = worker(&lab, &embeddings(move |_| answer())).await;
        let id = add(&lab, name, &eleven_pages()).await;
        let (state, error) = ended(&lab, id).await;
        let error = error.unwrap_or_default();
        assert_eq!(state, "failed", "{name}: {error}");
        assert!(
            error.contains("embed jobs of stage analysis failed, the last one: ")
                && error.contains(reason),
            "{name}: {error}"
        );
        let named = lab
            .number("SELECT count(*) FROM millstream.document_note WHERE code = 'embed_failed'")
            .await;
        let chunks = lab.number("SELECT count(*) FROM millstream.chunk").await;
        assert!(
            named == chunks && chunks > 0,
            "{name}: {named} of {chunks} failures are named"
        );
    }
}

#[tokio::test]
async fn x41_one_guilty_text_is_named_and_a_redrive_takes_its_note_away() {
    let lab = Lab::new().await;
    let api = Served::start(&lab, &["api"]).await;
    let guilty = |text: &str| text.contains("guilty");
    let url = embeddings(move |text| {
        if guilty(text) {
            (
                400,
                json!({"error": {"message": "cannot read"}}).to_string(),
            )
        } else {
            good()
        }
    });
    let worker = worker(&lab, &url).await;
    let id = add(&lab, "guilty.pdf", &eleven_pages()).await;
    assert_eq!(ended(&lab, id).await, ("completed".into(), None));
    let notes = report(&api, id).await["notes"].clone();
    let [note] = &notes.as_array().unwrap()[..] else {
        panic!("one failure, one note: {notes}")
    };
    assert_eq!(note["code"], "embed_failed");
    let text: String = sqlx::query_scalar("SELECT text FROM millstream.chunk WHERE ordinal = $1")
        .bind(note["chunk"].as_i64().unwrap() as i32)
        .fetch_one(&lab.pool)
        .await
        .unwrap();
    assert!(
        text.contains("GUILTY") && note["message"].as_str().unwrap().contains("cannot read"),
        "{note}: {text}"
    );
    drop(worker);
    let redriven = process::run(&lab, &["dead", "redrive", "--all", "--yes"]).await;
    assert!(
        redriven.status.success(),
        "{}",
        String::from_utf8_lossy(&redriven.stderr)
    );
    assert_eq!(report(&api, id).await["notes"], json!([]));
}
