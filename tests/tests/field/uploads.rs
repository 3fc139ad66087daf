//! Uploads that are cut: nothing half-stored counts, and nothing of it stays.

use std::path::PathBuf;

use futures::{SinkExt, channel::mpsc};
use millstream_admin::ops::upload::{Upload, UploadError, add_stream, open_store, sweep};
use millstream_common::documents::{NewDocument, submit};
use millstream_tests::{Lab, Links, Process, Served, eventually};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// A part of an upload, and more than the object store keeps in memory.
const PIECE: usize = 1024 * 1024;
const PIECES: usize = 20;

/// Files below the lab's object store, those that are being written among them, without its mark.
fn stored(lab: &Lab) -> Vec<PathBuf> {
    let mut folders = vec![lab.folder().join("objects")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_mark = path
                .file_name()
                .is_some_and(|name| name == ".millstream-store");
            if path.is_dir() {
                folders.push(path);
            } else if !is_mark {
                files.push(path);
            }
        }
    }
    files
}

/// A client that has sent more than the object store keeps in memory, and no end.
async fn half_an_upload(api: &Served) -> tokio::net::TcpStream {
    let mut client = tokio::net::TcpStream::connect(api.address()).await.unwrap();
    let head = format!(
        "POST /v1/documents HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000000\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n\r\n",
        api.address()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; PIECES * PIECE]).await.unwrap();
    client
}

async fn is_half_stored(lab: &Lab) {
    eventually("a part of the upload is in the store", async || {
        (!stored(lab).is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.upload").await,
        1
    );
}

/// As if an hour had passed.
async fn an_hour_later(lab: &Lab) {
    let update = "UPDATE millstream.upload SET seen_at = seen_at - interval '61 minutes'";
    sqlx::query(update).execute(&lab.pool).await.unwrap();
}

async fn is_swept(lab: &Lab) {
    eventually("nothing of the upload is left", async || {
        let rows = lab.number("SELECT count(*) FROM millstream.upload").await;
        (rows == 0 && stored(lab).is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.document").await,
        0
    );
}

// P1, F15
#[tokio::test]
async fn x50_what_a_killed_api_had_stored_is_swept_and_not_before_an_hour() {
    let lab = Lab::new().await;
    let mut api = Served::start(&lab, &["api"]).await;
    let _client = half_an_upload(&api).await;
    is_half_stored(&lab).await;
    api.process.kill9();
    let parts = lab.producer();
    let objects = open_store(&lab.config.objects.url).unwrap();
    assert_eq!(
        sweep(&parts.parts().pg, &objects).await.unwrap(),
        0,
        "an upload may take its time"
    );
    assert!(!stored(&lab).is_empty());
    an_hour_later(&lab).await;
    let _another = Served::start(&lab, &["api"]).await;
    is_swept(&lab).await;
}

// P1, F15
#[tokio::test]
async fn x50_what_an_ended_command_had_stored_is_swept_by_a_worker() {
    let lab = Lab::new().await;
    let path = lab.folder().join("large.pdf");
    // A file with a hole: large to read, small to keep.
    std::fs::File::create(&path)
        .unwrap()
        .set_len(500_000_000)
        .unwrap();
    let mut adding = Process::start(&lab, &["documents", "add", &path.display().to_string()]);
    is_half_stored(&lab).await;
    adding.signal(Signal::TERM);
    adding.exit_code().await;
    an_hour_later(&lab).await;
    let _worker = Process::start(&lab, &["worker"]);
    is_swept(&lab).await;
}

// P1, F13
#[tokio::test]
async fn x50_nothing_counts_when_postgres_is_away_in_the_end() {
    let lab = Lab::new().await;
    let links = Links::of(&lab).await;
    let producer = lab.producer_in(&links.config);
    let objects = open_store(&lab.config.objects.url).unwrap();
    let (mut pieces, stream) = mpsc::channel::<Result<Vec<u8>, String>>(1);
    let upload = Upload {
        name: "a.pdf",
        tenant: "default",
        bytes_max: u64::MAX,
    };
    let (pg, catalog) = (&producer.parts().pg, &producer.parts().catalog);
    let sending = async {
        for _ in 0..PIECES {
            pieces.send(Ok(vec![b'x'; PIECE])).await.unwrap();
        }
        is_half_stored(&lab).await;
        links.postgres.set(millstream_tests::Fault::Reset);
        drop(pieces);
    };
    let bytes = futures::StreamExt::map(stream, |piece| piece.map(Into::into));
    let (added, ()) = tokio::join!(add_stream(pg, catalog, &objects, bytes, &upload), sending);
    assert!(matches!(added, Err(UploadError::Door(_))), "{added:?}");
    an_hour_later(&lab).await;
    let other = lab.producer();
    assert_eq!(sweep(&other.parts().pg, &objects).await.unwrap(), 1);
    is_swept(&lab).await;
}

// P1
#[tokio::test]
async fn x50_an_upload_that_was_given_up_does_not_become_a_document() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let objects = open_store(&lab.config.objects.url).unwrap();
    let (mut pieces, stream) = mpsc::channel::<Result<Vec<u8>, String>>(1);
    let upload = Upload {
        name: "a.pdf",
        tenant: "default",
        bytes_max: u64::MAX,
    };
    let (pg, catalog) = (&producer.parts().pg, &producer.parts().catalog);
    let sending = async {
        for _ in 0..PIECES {
            pieces.send(Ok(vec![b'x'; PIECE])).await.unwrap();
        }
        is_half_stored(&lab).await;
        an_hour_later(&lab).await;
        assert_eq!(sweep(pg, &objects).await.unwrap(), 1);
        drop(pieces);
    };
    let bytes = futures::StreamExt::map(stream, |piece| piece.map(Into::into));
    let (added, ()) = tokio::join!(add_stream(pg, catalog, &objects, bytes, &upload), sending);
    assert!(added.is_err(), "{added:?}");
    is_swept(&lab).await;
}

/// Its bytes are all stored when it is given up, and then it ends, before what it stored is removed and after.
// P1
#[tokio::test]
async fn x50_an_upload_that_ends_after_it_was_given_up_does_not_become_a_document() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let pg = &producer.parts().pg;
    let objects = open_store(&lab.config.objects.url).unwrap();
    for is_removed in [false, true] {
        let id = Uuid::from_u128(u128::from(is_removed) + 1);
        let folder = format!("documents/{id}");
        let object_key = format!("{folder}/original");
        let stored = objects
            .put_bytes(&object_key, b"%PDF-".to_vec())
            .await
            .unwrap();
        let insert = "INSERT INTO millstream.upload (id, store, folder, seen_at, abandoned) VALUES ($1, $2, $3, now() - interval '1 day', true)";
        sqlx::query(insert)
            .bind(id)
            .bind(objects.place())
            .bind(&folder)
            .execute(&lab.pool)
            .await
            .unwrap();
        if is_removed {
            assert_eq!(sweep(pg, &objects).await.unwrap(), 2);
        }
        let document = NewDocument {
            id,
            tenant_id: 1,
            name: "a.pdf".to_owned(),
            object_key,
            bytes: stored.bytes,
            sha256: stored.sha256,
        };
        assert!(
            !submit(&document).fetch_one(&lab.pool).await.unwrap(),
            "removed: {is_removed}"
        );
    }
    is_swept(&lab).await;
}

// P1
#[tokio::test]
async fn x50_a_sweep_touches_no_other_store_and_no_document() {
    let lab = Lab::new().await;
    let producer = lab.producer();
    let objects = open_store(&lab.config.objects.url).unwrap();
    let upload = Upload {
        name: "a.pdf",
        tenant: "default",
        bytes_max: u64::MAX,
    };
    let bytes = futures::stream::iter([Ok::<_, String>(vec![b'x'; 10].into())]);
    let (pg, catalog) = (&producer.parts().pg, &producer.parts().catalog);
    let id = add_stream(pg, catalog, &objects, bytes, &upload)
        .await
        .unwrap();
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.upload").await,
        0
    );
    let insert = "INSERT INTO millstream.upload (id, store, folder, seen_at) VALUES ($1, 's3://elsewhere', $2, now() - interval '1 day')";
    sqlx::query(insert)
        .bind(id)
        .bind(format!("documents/{id}"))
        .execute(&lab.pool)
        .await
        .unwrap();
    assert_eq!(sweep(pg, &objects).await.unwrap(), 0);
    assert_eq!(stored(&lab).len(), 1);
}

// P1
#[tokio::test]
async fn x50_a_folder_of_the_same_path_on_another_machine_is_another_store() {
    let lab = Lab::new().await;
    let mut api = Served::start(&lab, &["api"]).await;
    let mut client = half_an_upload(&api).await;
    is_half_stored(&lab).await;
    api.process.kill9();
    client.shutdown().await.ok();
    an_hour_later(&lab).await;
    let (here, away) = (lab.folder().join("objects"), lab.folder().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let producer = lab.producer();
    let pg = &producer.parts().pg;
    let other = open_store(&lab.config.objects.url).unwrap();
    assert_eq!(
        sweep(pg, &other).await.unwrap(),
        0,
        "the other machine has not what was stored"
    );
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(
        sweep(pg, &open_store(&lab.config.objects.url).unwrap())
            .await
            .unwrap(),
        1
    );
    is_swept(&lab).await;
}

const FILE: (&str, &str) = ("file", "%PDF-1.4");

// N6: a document is never put where its sender did not want it
#[tokio::test]
async fn a_form_says_everything_before_its_file_and_each_part_once() {
    let lab = Lab::new().await;
    sqlx::query("INSERT INTO millstream.tenant (name) VALUES ('acme')")
        .execute(&lab.pool)
        .await
        .unwrap();
    let api = Served::start(&lab, &["api"]).await;
    let url = format!("http://{}/v1/documents", api.address());
    let post = async |parts: &[(&'static str, &'static str)]| {
        let form = parts
            .iter()
            .fold(reqwest::multipart::Form::new(), |form, (name, text)| {
                let part = reqwest::multipart::Part::bytes(text.as_bytes()).file_name("a.pdf");
                form.part(*name, part)
            });
        let sent = reqwest::Client::new().post(&url).multipart(form).send();
        let answer = sent.await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (parts, status, said) in [
        (&[FILE, ("tenant", "acme")][..], 400, "after the file"),
        (&[FILE, ("tenant", "nobody")], 400, "after the file"),
        (&[FILE, ("colour", "red")], 400, "after the file"),
        (&[FILE, FILE], 400, "after the file"),
        (
            &[("tenant", "acme"), ("tenant", "default"), FILE],
            422,
            "twice",
        ),
        (&[("tenant", "acme")], 422, "missing"),
    ] {
        let (told, text) = post(parts).await;
        assert!(
            told == status && text.contains(said),
            "{parts:?}: {told} {text}"
        );
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.document").await,
        0
    );
    assert_eq!(stored(&lab), Vec::<PathBuf>::new());
    assert_eq!(post(&[("tenant", "acme"), FILE]).await.0, 202);
    let of_acme = "SELECT count(*) FROM millstream.document d JOIN millstream.tenant t ON t.id = d.tenant_id WHERE t.name = 'acme'";
    assert_eq!(lab.number(of_acme).await, 1);
}
