//! Journals: what producers and workers say they did, in files outside Postgres and Redis, one per process.
//!
//! A line is written with one `write` to a file opened for appending, before the act goes on: a `kill -9` loses nothing that
//! was written. A thread syncs it to disk. Lines carry `CLOCK_BOOTTIME`, which no fault steps and all processes share.
//! Knows nothing of what the lines mean.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, park_timeout},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

/// How often a child says that it lives.
pub const ALIVE_EVERY: Duration = Duration::from_millis(50);
/// At most this much of a journal is lost with the machine; a sync per line would be the load of the run.
const SYNC_EVERY: Duration = Duration::from_millis(50);

/// Microseconds of `CLOCK_BOOTTIME`.
pub type Micros = u64;
/// The identity of a piece of work: a number in its payload, known before any id is.
pub type Token = u64;

/// Now.
pub fn now() -> Micros {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// How a run ended, as its handler saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It returned a success.
    Ok,
    /// It returned a failure, as asked.
    Fail,
    /// Its future was dropped: cancelled, lost or handed back.
    Dropped,
}

/// One run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handout {
    /// The job's work.
    pub token: Token,
    /// The job.
    pub job: Uuid,
    /// Number of this hand-out.
    pub epoch: i32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A producer is about to ask.
    Intent(Token),
    /// A producer is about to hand in a document, whose jobs are in no journal.
    Document(Token),
    /// A case says, after its intent: this job may end dead, nobody else's may.
    Doomed(Token),
    /// It was answered OK; with the id, where the door tells one.
    Ok(Token, Option<Uuid>),
    /// It was refused.
    Failed(Token, String),
    /// It is not known what became of the request.
    Unknown(Token, String),
    /// A handler begins: attempt and process.
    Start(Handout, i16, u32),
    /// A handler's run is over.
    End(Handout, How),
    /// A child of a worker lives. It writes to the journal of its worker, which does not tell of its end.
    Alive(u32),
}

/// An event and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Micros,
    /// What.
    pub event: Event,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        match &self.event {
            Event::Intent(token) => write!(f, "intent {token}"),
            Event::Document(token) => write!(f, "document {token}"),
            Event::Doomed(token) => write!(f, "doomed {token}"),
            Event::Alive(pid) => write!(f, "alive {pid}"),
            Event::Ok(token, None) => write!(f, "ok {token}"),
            Event::Ok(token, Some(id)) => write!(f, "ok {token} {id}"),
            Event::Failed(token, why) => write!(f, "failed {token} {}", one_line(why)),
            Event::Unknown(token, why) => write!(f, "unknown {token} {}", one_line(why)),
            Event::Start(run, attempt, pid) => write!(
                f,
                "start {} {} {} {attempt} {pid}",
                run.token, run.job, run.epoch
            ),
            Event::End(run, how) => write!(
                f,
                "end {} {} {} {}",
                run.token,
                run.job,
                run.epoch,
                word(*how)
            ),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn word(how: How) -> &'static str {
    match how {
        How::Ok => "ok",
        How::Fail => "fail",
        How::Dropped => "dropped",
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.splitn(4, ' ');
        let mut next = || {
            words
                .next()
                .with_context(|| format!("a journal line ends early: {text:?}"))
        };
        let (at, name, token) = (next()?.parse()?, next()?, next()?.parse()?);
        let rest = words.next().unwrap_or_default();
        let event = match name {
            "intent" => Event::Intent(token),
            "document" => Event::Document(token),
            "doomed" => Event::Doomed(token),
            "alive" => Event::Alive(u32::try_from(token)?),
            "ok" => Event::Ok(token, (!rest.is_empty()).then(|| rest.parse()).transpose()?),
            "failed" => Event::Failed(token, rest.to_owned()),
            "unknown" => Event::Unknown(token, rest.to_owned()),
            "start" | "end" => run_event(name, token, rest)?,
            _ => bail!("no journal line: {text:?}"),
        };
        Ok(Self { at, event })
    }
}

fn run_event(name: &str, token: Token, rest: &str) -> Result<Event> {
    let words: Vec<&str> = rest.split(' ').collect();
    let [job, epoch, ref tail @ ..] = words[..] else {
        bail!("a run without a job: {rest:?}")
    };
    let run = Handout {
        token,
        job: job.parse()?,
        epoch: epoch.parse()?,
    };
    Ok(match (name, tail) {
        ("start", [attempt, pid]) => Event::Start(run, attempt.parse()?, pid.parse()?),
        ("end", ["ok"]) => Event::End(run, How::Ok),
        ("end", ["fail"]) => Event::End(run, How::Fail),
        ("end", ["dropped"]) => Event::End(run, How::Dropped),
        _ => bail!("no run: {rest:?}"),
    })
}

struct Shared {
    file: File,
    dirty: AtomicBool,
    closing: AtomicBool,
}

/// A journal being written; synced and closed when dropped.
pub struct Journal {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens a file for appending.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let shared = Arc::new(Shared {
            file,
            dirty: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let watched = shared.clone();
        let syncer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || sync_now_and_then(&watched))?;
        Ok(Self {
            shared,
            syncer: Some(syncer),
        })
    }

    /// Writes a line. A journal that cannot be written proves nothing: the process ends rather than go on.
    pub fn write(&self, event: Event) {
        let line = format!("{}\n", Line { at: now(), event });
        // One write: lines of several threads do not mix, and none is written in part.
        match (&self.shared.file).write(line.as_bytes()) {
            Ok(written) if written == line.len() => {
                self.shared.dirty.store(true, Ordering::Release);
            }
            other => {
                eprintln!("the journal cannot be written: {other:?}");
                std::process::abort();
            }
        }
    }
}

fn sync_now_and_then(shared: &Shared) {
    loop {
        let last = shared.closing.load(Ordering::Acquire);
        if shared.dirty.swap(false, Ordering::AcqRel) {
            shared.file.sync_data().expect("a journal is synced");
        }
        if last {
            return;
        }
        park_timeout(SYNC_EVERY);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(syncer) = self.syncer.take() {
            syncer.thread().unpark();
            let _ = syncer.join();
        }
    }
}

/// The whole lines of a journal's text; what stands behind the last line end was being written when its process died.
pub fn parse(text: &str) -> Result<Vec<Line>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::parse).collect()
}

/// Journals in a folder, by the name of their process, in the order of the names.
pub fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if let Some(name) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_suffix(".journal"))
        {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let run = Handout {
            token: 7,
            job: Uuid::from_u128(5),
            epoch: 2,
        };
        vec![
            Event::Intent(7),
            Event::Document(6),
            Event::Doomed(6),
            Event::Alive(4711),
            Event::Ok(7, None),
            Event::Ok(7, Some(run.job)),
            Event::Failed(8, "no such kind".into()),
            Event::Unknown(9, "timed out".into()),
            Event::Start(run, 1, 4711),
            Event::End(run, How::Ok),
            Event::End(run, How::Fail),
            Event::End(run, How::Dropped),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_last_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker-0.1.journal");
        let journal = Journal::open(&path).unwrap();
        for event in events() {
            journal.write(event);
        }
        drop(journal);
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Event> = parse(&text)
            .unwrap()
            .into_iter()
            .map(|line| line.event)
            .collect();
        assert_eq!(read, events());
        assert_eq!(
            parse(&text[..text.len() - 1]).unwrap().len(),
            events().len() - 1
        );
        assert_eq!(parse("12 inte").unwrap(), []);
        assert!(parse("12 rubbish 1\n").is_err());
        assert_eq!(
            files(folder.path()).unwrap(),
            [("worker-0.1".to_owned(), path)]
        );
    }

    #[test]
    fn an_error_of_several_lines_stays_one_line() {
        let line = Line {
            at: 1,
            event: Event::Unknown(3, "a\nb  c".into()),
        };
        assert_eq!(line.to_string(), "1 unknown 3 a b c");
    }
}
