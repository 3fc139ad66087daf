//! How long things took, and how large batches were. Durations are in seconds.

use prometheus::{Histogram, HistogramVec};

use super::family::families;

/// A job may take 5 ms or half an hour.
const JOB_DURATION_S: [f64; 17] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
];

/// Waiting has the same steps and one more: backlogs last longer than jobs. Stages of documents wait
/// for many jobs and share it. The step at 60 s is the objective that the alerts use.
const WAITING_S: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0, 3600.0,
];

/// A commit takes from half a millisecond (its share of a batch) to the statement timeout.
const ENQUEUE_S: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The knee of the batch size was measured at 250 to 500 jobs, so the steps are closest around it.
const BATCH_JOBS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 500.0, 1000.0,
];

families! {
    /// The histograms.
    Histograms {
        job_duration: HistogramVec = "millstream_job_duration_seconds" ["queue", "kind"] in JOB_DURATION_S
            "Time from the start of a handler to its outcome.";
        job_queue_time: HistogramVec = "millstream_job_queue_time_seconds" ["queue"] in WAITING_S
            "Time from when a job could run to when it did.";
        enqueue_duration: Histogram = "millstream_enqueue_duration_seconds" [] in ENQUEUE_S
            "Time from an enqueue request to its commit.";
        settle_batch_jobs: Histogram = "millstream_settle_batch_jobs" [] in BATCH_JOBS
            "Outcomes written by one settle statement.";
        stage_duration: HistogramVec = "millstream_stage_duration_seconds" ["stage"] in WAITING_S
            "Time from the first job of a document's stage to the end of its last one.";
    }
}
