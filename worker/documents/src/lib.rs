//! The document pipeline: PDF in, searchable chunks, vectors and products out (P2, P3, P4).
//!
//! One handler per kind, in the order in which a document meets them: `extract` (pages and images out of the file),
//! `image` (one image: OCR and fingerprint), `chunk` (pages and OCR text into pieces), `analyse` and `embed` (one piece),
//! `products` (what the pieces offer, merged). The database moves a document from stage to stage, in the transaction that
//! settles the last job of a stage; `fanout` hands it the jobs of the next one.
//!
//! Invariants: every row a handler writes is part of its effect, so it commits with the job or not at all (G1); objects
//! are written before that under names that a second run writes again; a handler may be dropped at any await and leaves
//! neither a process nor a folder behind; whatever a file contains ends in one clear error of that document (P4).
//!
//! What it does not know: streams, leases, other tenants; how a stage is counted.
//!
//! | stage | progress in per cent | jobs | what fails the document |
//! |---|---|---|---|
//! | extraction | 0 to 20 | one | its failure |
//! | images | 20 to 40 | one per image, and per page that is read as one | more than half failed |
//! | chunking | 40 to 60 | one | its failure |
//! | analysis | 60 to 90 | three `document.analyse` and one `document.embed` per chunk | more than half of one of these four failed |
//! | products | 90 to 100 | one | its failure |
//!
//! Each kind of work bears failures by itself (`batch_work`): three analyses that succeed do not make
//! up for vectors that all failed. A stage without jobs ends at once.
//!
//! Progress is the start of the stage plus finished / total of its range, only ever raised. A
//! report of an earlier or frozen run can only repeat what is there. There is no watcher that could
//! die: the transaction that ends the last job of a stage moves the document on, whoever ends it. A
//! redriven job takes its stage and its document back to running, and its note goes away.
//!
//! An upload is a row (`millstream.upload`) from before its first byte until the transaction that
//! makes the document. The API and the workers remove objects of such rows that nobody has touched
//! for an hour. They mark the row first, so a late upload is refused. Only objects of this database
//! are ever removed, however many share a store.

pub mod tools;

mod extract;
mod image;

mod chunk;

mod analyse;
mod embed;

mod products;

mod payload;

mod fanout;
mod store;

mod gates;
mod progress;
mod servers;
mod setup;
mod workspace;

mod failure;
mod needs;

use std::{ffi::OsString, future::Future, path::PathBuf, sync::Arc, time::Duration};

use millstream_common::{
    config::{Config, Documents},
    retry::RetryPolicy,
};
use millstream_outbound::objects::Objects;
use millstream_worker::{Context, Handler, Outcome};
use serde::de::DeserializeOwned;

use self::{
    gates::Gates,
    progress::Announcer,
    servers::Servers,
    tools::{
        Sandbox,
        sandbox::{Isolation, Launcher},
    },
    workspace::{Home, Workspace},
};

pub use self::{chunk::OCR_CONFIDENCE_MIN, needs::NEEDS, servers::SetupError, setup::configured};

/// The queue of all jobs of the pipeline; `millstream.submit_document` names it too.
const QUEUE: &str = "documents";

/// Taking 5,000 pages apart; a page takes milliseconds, an image of it or a drawing a second.
const EXTRACT_TIMEOUT: Duration = Duration::from_mins(45);
/// OCR may take a minute of CPU, which is four on a busy machine; of a page that is hard to read it takes four turns.
const IMAGE_TIMEOUT: Duration = Duration::from_mins(20);
/// Everything else takes seconds, or one request to a model server.
const STEP_TIMEOUT: Duration = Duration::from_mins(2);

/// Work on this machine: what fails twice in a row for no reason of the file is the disk or the object store.
const LOCAL_RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_secs(2),
    factor: 3.0,
    cap: Duration::from_mins(1),
    max_attempts: 3,
};
/// Work of a server somewhere else, which may be restarting. The migration gives these kinds the same number of attempts.
const REMOTE_RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_secs(2),
    factor: 3.0,
    cap: Duration::from_mins(5),
    max_attempts: 6,
};

/// The kinds of the pipeline.
pub const KINDS: [&str; 6] = [
    payload::EXTRACT,
    payload::IMAGE,
    payload::CHUNK,
    payload::ANALYSE,
    payload::EMBED,
    payload::PRODUCTS,
];

/// What the handlers of the pipeline are made of.
pub struct DocumentSetup {
    /// Settings; `documents`, `embedding`, `analysis` and `http` are used.
    pub config: Config,
    /// Where the files are and the images go.
    pub objects: Objects,
    /// Where poppler and Tesseract are found, in the form of `PATH`.
    pub search_path: OsString,
    /// Tesseract's language data, if it is not where Tesseract was installed.
    pub tessdata_dir: Option<PathBuf>,
    /// An existing folder for temporary files; each job has its own folder in it.
    pub work_dir: PathBuf,
    /// What stands between the worker and its tools: [`Launcher::ourselves`] in a program whose `main` calls
    /// [`tools::sandbox::helper`] first thing, else [`Launcher::Shell`].
    pub launcher: Launcher,
}

/// What all handlers of one process share.
struct Pipeline {
    config: Documents,
    objects: Objects,
    search_path: OsString,
    tessdata_dir: Option<PathBuf>,
    home: Home,
    launcher: Launcher,
    servers: Servers,
    gates: Gates,
    announcer: Announcer,
}

impl Pipeline {
    /// Programs that keep their temporary files in the folder of one job.
    fn sandbox(&self, workspace: &Workspace) -> Sandbox {
        let sandbox = Sandbox::new(self.search_path.clone(), workspace.path())
            .with_launcher(self.launcher.clone());
        match &self.tessdata_dir {
            Some(dir) => sandbox.with_tessdata_dir(dir),
            None => sandbox,
        }
    }
}

/// The six handlers of the pipeline, as far as this machine can run them. With a model server configured, the process must have installed its TLS provider.
///
/// Programs that are not installed are no error here: the kinds that need them are left out, and the log says which and why.
pub fn handlers(setup: &DocumentSetup) -> Result<Vec<Handler>, SetupError> {
    let (launcher, isolation) = setup.launcher.clone().tried();
    tell_gaps(isolation);
    let pipeline = Arc::new(Pipeline {
        config: setup.config.documents.clone(),
        objects: setup.objects.clone(),
        search_path: setup.search_path.clone(),
        tessdata_dir: setup.tessdata_dir.clone(),
        home: Home::new(&setup.work_dir),
        launcher,
        servers: Servers::new(&setup.config)?,
        gates: Gates::new(),
        announcer: Announcer::default(),
    });
    let all = vec![
        handler(payload::EXTRACT, &pipeline, extract::run)
            .timeout(EXTRACT_TIMEOUT)
            .retry(LOCAL_RETRY),
        handler(payload::IMAGE, &pipeline, image::run)
            .timeout(IMAGE_TIMEOUT)
            .retry(LOCAL_RETRY),
        handler(payload::CHUNK, &pipeline, chunk::run)
            .timeout(STEP_TIMEOUT)
            .retry(LOCAL_RETRY),
        handler(payload::ANALYSE, &pipeline, analyse::run)
            .timeout(STEP_TIMEOUT)
            .retry(REMOTE_RETRY),
        handler(payload::EMBED, &pipeline, embed::run)
            .timeout(STEP_TIMEOUT)
            .retry(REMOTE_RETRY),
        handler(payload::PRODUCTS, &pipeline, products::run)
            .timeout(STEP_TIMEOUT)
            .retry(LOCAL_RETRY),
    ];
    Ok(needs::served(all, &setup.search_path))
}

/// Once per process: what a program that a hostile file has taken over could do here.
fn tell_gaps(isolation: Isolation) {
    let gaps = isolation.gaps();
    if !gaps.is_empty() {
        tracing::warn!(
            "a document that takes over the program that reads it can {}: see \"millstream doctor\"",
            gaps.join(", ")
        );
    }
}

fn handler<P, F, R>(kind: &str, pipeline: &Arc<Pipeline>, run: F) -> Handler
where
    P: DeserializeOwned + 'static,
    F: Fn(Arc<Pipeline>, Context, P) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    let pipeline = pipeline.clone();
    Handler::new(kind, move |context, payload: P| {
        run(pipeline.clone(), context, payload)
    })
}
