//! What a program can reach that a hostile document has taken over, and what becomes of it (X70).

use std::{
    fs::{read_dir, read_to_string},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use millstream_tests::{Lab, Process, eventually, process::command};

use super::report::{add, document, ended};

/// A folder in which this script stands for a program, before the real programs, in the form of `PATH`.
pub fn path_with(lab: &Lab, program: &str, script: &str) -> String {
    let folder = lab.folder().join("stand-in");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join(program);
    std::fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

fn one_page() -> Vec<u8> {
    document(&["BT /F 12 Tf 50 700 Td (one) Tj ET"], &[])
}

/// This machine has what the program asks of it; where not, the doctor says so and the rest has nothing to show.
fn can_confine(lab: &Lab) -> bool {
    let said = command(lab, &["doctor"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("isolation of tools"))
        .unwrap_or_else(|| panic!("the doctor says nothing of it: {said}"));
    if !line.starts_with("ok") {
        eprintln!("skipped: {line}");
    }
    line.starts_with("ok")
}

#[tokio::test]
async fn x70_a_tool_reaches_neither_the_network_nor_other_files_nor_the_secrets_of_its_worker() {
    let lab = Lab::new().await;
    if !can_confine(&lab) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let outside = lab.folder().join("outside");
    let secret = lab.folder().join("secret");
    std::fs::write(&secret, "canary").unwrap();
    // Each attempt says whether it got through; the last word is an error that the document shows.
    let script = format!(
        "n=no; w=no; e=no; s=no; own=no; k=no; c=no
        {{ exec 3<>/dev/tcp/127.0.0.1/{port}; }} 2>/dev/null && n=yes
        {{ : >{outside}; }} 2>/dev/null && w=yes
        {{ : >/tmp/millstream-x70; }} 2>/dev/null && w=yes
        {{ read -r -d '' e </proc/$PPID/environ; }} 2>/dev/null && e=yes
        {{ read -r s <{secret}; }} 2>/dev/null && s=yes
        {{ : >$TMPDIR/mine; }} 2>/dev/null && own=yes
        kill -0 $PPID 2>/dev/null && k=yes
        chmod 0777 {secret} 2>/dev/null && c=yes
        [ $e = no ] || e=yes
        echo \"Syntax Error: network $n, write $w, environ $e, read $s, own $own, signal $k, chmod $c\" >&2; exit 1",
        outside = outside.display(),
        secret = secret.display(),
    );
    let _worker = Process::start_in(
        &lab.config,
        &["worker"],
        &[("PATH".into(), path_with(&lab, "pdfinfo", &script))],
    );
    let id = add(&lab, "hostile.pdf", &one_page()).await;
    let (state, error) = ended(&lab, id).await;
    let error = error.unwrap_or_default();
    assert!(
        state == "failed"
            && error.contains(
                "network no, write no, environ no, read no, own yes, signal no, chmod no"
            ),
        "{error}"
    );
    assert!(!outside.exists());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody has connected");
}

#[tokio::test]
async fn x70_a_tool_that_aborts_has_crashed_on_the_file() {
    let lab = Lab::new().await;
    if !can_confine(&lab) {
        return;
    }
    let path = path_with(
        &lab,
        "pdfinfo",
        "kill -ABRT $$; echo 'Syntax Error: it may not signal itself' >&2; exit 1",
    );
    let _worker = Process::start_in(&lab.config, &["worker"], &[("PATH".into(), path)]);
    let id = add(&lab, "hostile.pdf", &one_page()).await;
    let (state, error) = ended(&lab, id).await;
    assert_eq!(
        (state.as_str(), error.as_deref()),
        ("failed", Some("pdfinfo crashed on this file (signal 6)"))
    );
}

/// The process of this name below `parent`.
fn child(parent: u32, name: &str) -> Option<PathBuf> {
    let processes = read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    processes.into_iter().find(|process| {
        let stat = read_to_string(process.join("stat")).unwrap_or_default();
        let is_ours = stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&parent.to_string()));
        is_ours && stat.contains(&format!("({name})"))
    })
}

/// Gone, or dead and not yet waited for.
fn has_ended(process: &Path) -> bool {
    let stat = read_to_string(process.join("stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn x70_a_tool_dies_with_its_worker_and_the_next_start_sweeps_its_folder() {
    let lab = Lab::new().await;
    if !can_confine(&lab) {
        return;
    }
    let tmp = lab.folder().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    let path = path_with(&lab, "pdfinfo", "exec sleep 600");
    let env = [
        ("PATH".to_owned(), path),
        ("TMPDIR".to_owned(), tmp.to_str().unwrap().to_owned()),
    ];
    let mut worker = Process::start_in(&lab.config, &["worker"], &env);
    add(&lab, "slow.pdf", &one_page()).await;
    let tool = eventually("the tool runs", async || child(worker.id(), "sleep")).await;
    let left: Vec<PathBuf> = homes(&tmp);
    assert_eq!(left.len(), 1);
    worker.kill9();
    eventually("the tool has died with its worker", async || {
        has_ended(&tool).then_some(())
    })
    .await;
    assert_eq!(homes(&tmp), left, "a killed process removes nothing");
    let next = Process::start_in(&lab.config, &["worker"], &env[1..]);
    eventually("the folder is swept", async || {
        homes(&tmp)
            .iter()
            .all(|home| !left.contains(home))
            .then_some(())
    })
    .await;
    drop(next);
}

/// Folders of processes in the folder for temporary files.
fn homes(tmp: &Path) -> Vec<PathBuf> {
    let users = read_dir(tmp).unwrap().flatten().map(|entry| entry.path());
    users
        .flat_map(|user| {
            read_dir(user)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        })
        .collect()
}
