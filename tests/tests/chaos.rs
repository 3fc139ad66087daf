//! The quick selection of the chaos runs, by the program that `make chaos` runs.

use std::process::Stdio;

use millstream_tests::servers::built;

/// The schedule of the quick selection, so that every run of the tests meets the same faults.
const SEED: &str = "20";
/// Jobs a second: what two busy cores carry beside the other tests.
const RATE: &str = "80";

// I1 to I9, I15; F01, F08, F12, F17, F34, F35
#[tokio::test]
async fn nothing_is_lost_repeated_or_accepted_twice_under_the_quick_faults() {
    let folder = tempfile::tempdir().unwrap();
    let run = tokio::process::Command::new(built("chaos"))
        .args(["--quick", "--seed", SEED, "--rate", RATE, "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    let failed = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{told}\n{failed}");
    assert!(told.contains("total"), "{told}");
}
