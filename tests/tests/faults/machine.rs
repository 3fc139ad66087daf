//! Limits of the machine.

use millstream_tests::{
    Lab, Process,
    faults::machine::{address_space_bytes, limit_memory},
};

// F47
#[tokio::test]
async fn a_process_whose_memory_is_limited_gets_no_more() {
    let lab = Lab::new().await;
    let mut worker = Process::start(&lab, &["worker"]);
    lab.await_workers(1).await;
    let used = address_space_bytes(&worker);
    assert!(used > 1_000_000 && !worker.has_ended());
    limit_memory(&worker, used);
    // Its next thread or growing buffer is one too many; that it is limited is what counts here.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max address space"))
        .unwrap();
    assert!(line.contains(&used.to_string()), "{line}");
}
