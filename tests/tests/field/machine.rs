//! What a shortage of this machine does to documents (X24, X48).

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use millstream_tests::{Lab, Process, eventually, faults::machine::SmallDisk, process::command};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::report::{add, document, ended, help};

/// A page with text and a picture, so that every tool and both folders are needed.
fn picture_page() -> Vec<u8> {
    document(
        &["BT /F 12 Tf 50 700 Td (A price list of bolts) Tj ET q 300 0 0 130 50 500 cm /I0 Do Q"],
        &[help()],
    )
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}

/// Waits until a job waits for this reason, on this machine, at no cost; nothing may be dead.
async fn await_waiting(lab: &Lab, reason: &str) {
    let said = eventually("a job waits", async || {
        let query =
            "SELECT e.class, e.message FROM millstream.job_error e ORDER BY e.at DESC LIMIT 1";
        sqlx::query_as::<_, (String, String)>(query)
            .fetch_optional(&lab.pool)
            .await
            .unwrap()
    })
    .await;
    let (class, message) = said;
    assert!(
        class == "unavailable"
            && message.contains(reason)
            && message.contains(&format!("(on {})", host())),
        "{class}: {message}"
    );
    assert_eq!(lab.count("dead").await, 0);
}

/// What has waited is done when the shortage has passed, without a counted try.
async fn assert_done(lab: &Lab, id: uuid::Uuid) {
    assert_eq!(ended(lab, id).await, ("completed".into(), None));
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job WHERE attempt > 1")
            .await,
        0
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.image WHERE ocr_text = 'HELP'")
            .await,
        1,
        "nothing was left out on the way"
    );
}

#[tokio::test]
async fn x48_a_full_folder_for_temporary_files_makes_documents_wait() {
    let lab = Lab::new().await;
    let folder = lab.folder().join("tmp");
    std::fs::create_dir(&folder).unwrap();
    let Some(disk) = SmallDisk::over(&folder, 4) else {
        return;
    };
    let _worker = Process::start_in(
        &lab.config,
        &["worker"],
        &[("TMPDIR".into(), folder.to_str().unwrap().into())],
    );
    lab.await_workers(1).await;
    disk.fill();
    let id = add(&lab, "waits.pdf", &picture_page()).await;
    await_waiting(&lab, "the disk is full").await;
    disk.free();
    assert_done(&lab, id).await;
}

#[tokio::test]
async fn x48_a_full_object_store_makes_documents_wait() {
    let lab = Lab::new().await;
    let folder = PathBuf::from(lab.config.objects.url.strip_prefix("file://").unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let Some(disk) = SmallDisk::over(&folder, 4) else {
        return;
    };
    // Filled before anybody works on it: the picture finds no room.
    let id = add(&lab, "waits.pdf", &picture_page()).await;
    disk.fill();
    let _worker = Process::start(&lab, &["worker"]);
    await_waiting(&lab, "the disk is full").await;
    disk.free();
    assert_done(&lab, id).await;
}

/// The limit of descriptors of a running process, which it had before.
fn limit_descriptors(process: &Process, most: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(process.id() as i32);
    let before = prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: most,
            maximum: maximum(process),
        },
    )
    .unwrap();
    before.current
}

fn maximum(process: &Process) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_whitespace()
        .nth(4)
        .and_then(|most| most.parse().ok())
}

#[tokio::test]
async fn x24_x48_a_process_without_file_descriptors_makes_documents_wait() {
    let lab = Lab::new().await;
    let worker = Process::start(&lab, &["worker"]);
    lab.await_workers(1).await;
    // Its connections are open once it has worked.
    let first = add(&lab, "first.pdf", &picture_page()).await;
    ended(&lab, first).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.id()))
        .unwrap()
        .count() as u64;
    // One file can be opened, and no program with its pipes started.
    let before = limit_descriptors(&worker, Some(open + 1));
    let id = add(&lab, "waits.pdf", &picture_page()).await;
    await_waiting(&lab, "Too many open files").await;
    limit_descriptors(&worker, before);
    assert_eq!(ended(&lab, id).await, ("completed".into(), None));
    assert_eq!(lab.count("dead").await, 0);
}

/// A folder with links to these programs, in the form of `PATH`.
fn path_of(folder: &Path, programs: &[&str]) -> String {
    std::fs::create_dir(folder).unwrap();
    for program in programs {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|dir| dir.join(program))
            .find(|file| file.is_file());
        symlink(
            found.unwrap_or_else(|| panic!("{program} is missing: `make setup` installs it")),
            folder.join(program),
        )
        .unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn x48_a_worker_without_a_tool_leaves_its_kinds_to_others_and_says_so() {
    let lab = Lab::new().await;
    let poppler = path_of(
        &lab.folder().join("bin"),
        &["pdfinfo", "pdffonts", "pdftotext", "pdfimages", "pdftoppm"],
    );
    let without = vec![("PATH".to_owned(), poppler.clone())];
    let _workers = [
        Process::start_in(&lab.config, &["worker"], &without),
        Process::start(&lab, &["worker"]),
    ];
    lab.await_workers(2).await;
    let takers = "SELECT count(*) FROM millstream.worker w JOIN millstream.kind k ON k.id = ANY (w.kinds) WHERE k.name = ";
    let takers = |kind: &str| {
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(format!("{takers}'{kind}'")))
            .fetch_one(&lab.pool)
    };
    assert_eq!(
        (
            takers("document.image").await.unwrap(),
            takers("document.extract").await.unwrap()
        ),
        (1, 2)
    );
    for nth in 0..3 {
        let id = add(&lab, &format!("{nth}.pdf"), &picture_page()).await;
        assert_eq!(ended(&lab, id).await, ("completed".into(), None));
    }
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.job_error")
            .await,
        0
    );
    assert_eq!(
        lab.number("SELECT count(*) FROM millstream.image WHERE ocr_text = 'HELP'")
            .await,
        3
    );
    let doctor = command(&lab, &["doctor"])
        .env("PATH", &poppler)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("tesseract"))
        .unwrap_or_default();
    assert!(
        line.starts_with("warn")
            && line.contains("do not take document.image")
            && line.contains("tesseract-ocr"),
        "{said}"
    );
}
