//! The one-job mode: this process is the child of a worker and runs what that hands over, one job after another.

use std::{
    collections::HashMap, io, os::unix::net::UnixStream as Socket, pin::pin, sync::Arc,
    time::Duration,
};

use millstream_common::{
    config::Config,
    error::{Error, Refusal},
    failpoint::reach,
    limits::{ERROR_BYTES_MAX, NOTE_BYTES_MAX},
    pg::{GuardedPool, Pg},
    reconnect::Reconnect,
    redact::stored,
};
use rustix::{
    fs::{Mode, OFlags},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    stdio,
};
use tokio::{
    net::UnixStream,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    LEAVE_MAX, parent_silence_max,
    wire::{self, Job, Order, Terms, Word},
};
use crate::{
    api::{Context, Failure, Handler, Outcome, Reporter, Reports, Success},
    job::{Hold, RowState},
    run::call,
    settle::{
        effect::{self, Completion, Problem},
        refuse_large_result, unwritable,
    },
};

/// How often progress and log lines are passed on.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// Connections with which effects are settled: one job runs at a time.
const CONNECTIONS_MAX: u32 = 1;
/// Of a failure's text more than what is stored is passed on: what it must not say is looked for in whole words.
const TEXT_BYTES_MAX: usize = 4 * ERROR_BYTES_MAX;

/// The pipe to the worker, taken before any handler is made: handlers print, and read standard input.
pub struct ChildProcess {
    socket: Socket,
    /// A service manager or a terminal signals the worker's whole group. These end nothing here: the worker says when.
    #[expect(dead_code, reason = "caught as long as they are held")]
    signals: [Signal; 2],
}

/// What a child works with.
struct Runner {
    handlers: HashMap<String, Handler>,
    worker_id: i64,
    pg: Pg,
    handlers_pg: GuardedPool,
    reporter: Reporter,
    words: mpsc::UnboundedSender<Word>,
    /// The worker is gone, or wants no more.
    end: CancellationToken,
}

/// What it hears, from the worker and from the handler that runs.
struct Ears {
    orders: mpsc::UnboundedReceiver<Order>,
    reports: Reports,
}

impl ChildProcess {
    /// Takes standard input, which is the pipe, for itself. To be called before anything else reads or prints.
    pub fn enter() -> io::Result<Self> {
        let own = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty())?;
        stdio::dup2_stdin(null)?;
        Ok(Self {
            socket: own.into(),
            signals: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
        })
    }

    /// Runs jobs with these handlers until the worker is gone or wants no more.
    pub async fn serve(self, handlers: Vec<Handler>, config: &Config) -> Result<(), Error> {
        let state =
            |e: &dyn std::fmt::Display| Refusal::State(format!("no worker to run jobs for: {e}"));
        let (sender, mut orders) = mpsc::unbounded_channel();
        let (words, to_say) = mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let (socket, ended) = (self.socket, end.clone());
        let lease = config.worker.lease();
        let thread = std::thread::Builder::new().name("pipe".into());
        thread
            .spawn(move || keep_pipe(socket, sender, to_say, lease, &ended))
            .map_err(|e| state(&e))?;
        let Some(Order::Begin(terms)) = orders.recv().await else {
            return Err(state(&"this mode is for workers only").into());
        };
        bind(&terms).map_err(|e| state(&e))?;
        let url = config.database.url.expose();
        let (reporter, reports) = Reporter::new();
        let runner = Runner {
            handlers: handlers.into_iter().map(|h| (h.kind.clone(), h)).collect(),
            worker_id: terms.worker_id,
            pg: Pg::new(url, CONNECTIONS_MAX)?,
            handlers_pg: GuardedPool::for_handlers(url, config.database.connections_max)?,
            reporter,
            words,
            end,
        };
        runner.run(Ears { orders, reports }).await;
        Ok(())
    }
}

/// This process goes with its worker, and has no more memory than it may.
fn bind(terms: &Terms) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().unsigned_abs());
        if parent != Some(terms.parent) {
            return Err(io::Error::other("the worker has ended"));
        }
    }
    if terms.memory_bytes_max > 0 {
        let maximum = getrlimit(Resource::Data).maximum;
        let limit = Rlimit {
            current: Some(terms.memory_bytes_max.min(maximum.unwrap_or(u64::MAX))),
            // A tool that a handler starts may raise it again: it has limits of its own.
            maximum,
        };
        setrlimit(Resource::Data, limit)?;
    }
    Ok(())
}

/// Reads and writes at once, on a thread of its own: a handler that blocks the others keeps nobody from hearing that the worker is gone.
fn keep_pipe(
    socket: Socket,
    orders: mpsc::UnboundedSender<Order>,
    words: mpsc::UnboundedReceiver<Word>,
    lease: Duration,
    end: &CancellationToken,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let Ok(runtime) = runtime {
        // It ends when the pipe does, which is no error.
        let _ = runtime.block_on(speak_and_hear(socket, orders, words, lease));
        end.cancel();
        runtime.block_on(tokio::time::sleep(LEAVE_MAX));
    }
    std::process::exit(0);
}

async fn speak_and_hear(
    socket: Socket,
    orders: mpsc::UnboundedSender<Order>,
    mut words: mpsc::UnboundedReceiver<Word>,
    lease: Duration,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (mut reads, mut writes) = UnixStream::from_std(socket)?.into_split();
    let hear = async {
        let mut silence_max = parent_silence_max(lease);
        while let Ok(order) = timeout(silence_max, wire::receive(&mut reads)).await {
            let order = order?;
            if let Order::Begin(terms) = &order {
                // The worker may have begun with other settings than this process.
                silence_max = parent_silence_max(terms.lease);
            }
            if orders.send(order).is_err() {
                break;
            }
        }
        io::Result::Ok(())
    };
    let speak = async {
        while let Some(word) = words.recv().await {
            wire::send(&mut writes, &word).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! { heard = hear => heard, spoken = speak => spoken }
}

impl Runner {
    async fn run(&self, mut ears: Ears) {
        self.say(Word::Ready);
        let jobs = async {
            while let Some(order) = ears.orders.recv().await {
                if let Order::Run(job) = order {
                    let span = tracing::debug_span!("job", id = %job.id, kind = job.kind, epoch = job.epoch, trace = job.trace);
                    self.run_one(&mut ears, &job).instrument(span).await;
                }
            }
        };
        // What still runs is dropped, and an effect that has not committed is rolled back.
        tokio::select! { () = self.end.cancelled() => {}, () = jobs => {} }
    }

    fn say(&self, word: Word) {
        // A worker that is gone hears nothing, and then this process ends.
        let _ = self.words.send(word);
    }

    async fn run_one(&self, ears: &mut Ears, job: &Job) {
        let hold = Arc::new(Hold::leased(job.id, job.epoch).cancelled_by(self.end.child_token()));
        let Some(handler) = self.handlers.get(&job.kind) else {
            return self.say(Word::NoHandler);
        };
        let mut outcome = self.attempt(ears, job, handler, &hold).await;
        self.report(ears, &hold);
        refuse_large_result(&mut outcome);
        let word = match outcome {
            Ok(success) if success.effect.is_some() => self.settle(ears, job, success).await,
            outcome => Word::Ended(outcome.map_err(|failure| failure.bounded(TEXT_BYTES_MAX))),
        };
        self.say(word);
    }

    async fn attempt(
        &self,
        ears: &mut Ears,
        job: &Job,
        handler: &Handler,
        hold: &Arc<Hold>,
    ) -> Outcome {
        let mut call = pin!(call(handler, self.context(job, hold), &job.payload));
        let mut timeout = pin!(tokio::time::sleep(job.timeout));
        let mut look = tokio::time::interval(REPORT_EVERY);
        loop {
            tokio::select! {
                biased;
                outcome = &mut call => return outcome,
                () = &mut timeout => return Err(Failure::TimedOut(job.timeout)),
                _ = look.tick() => self.report(ears, hold),
            }
        }
    }

    fn context(&self, job: &Job, hold: &Arc<Hold>) -> Context {
        Context {
            job_id: job.id,
            epoch: job.epoch,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            tenant_id: job.tenant_id,
            batch_id: job.batch_id,
            pg: self.handlers_pg.clone(),
            link: hold.clone(),
            reporter: self.reporter.clone(),
        }
    }

    fn report(&self, ears: &mut Ears, hold: &Hold) {
        if let Some((share, note)) = hold.take_report() {
            self.say(Word::Progress(share, stored(&note, NOTE_BYTES_MAX)));
        }
        // What an earlier job has left running may still speak.
        for line in ears.reports.batch() {
            if line.job == hold.id {
                self.say(Word::Line(line.at, line.text));
            }
        }
    }

    /// Completes the job with its effect, once the worker has said so, however long Postgres is away: the worker knows when to end this.
    async fn settle(&self, ears: &mut Ears, job: &Job, mut success: Success) -> Word {
        self.say(Word::HasEffect);
        loop {
            match ears.orders.recv().await {
                Some(Order::Go) => break,
                Some(_) => {}
                None => return Word::Ended(Err(Failure::retry("its worker has ended"))),
            }
        }
        let mut effect = success.effect.take();
        let completion = Completion {
            id: job.id,
            epoch: job.epoch,
            batch_id: job.batch_id,
            from: RowState::Running,
            worker_id: self.worker_id,
            started_at: job.started_at,
            success: &success,
        };
        let mut reconnect = Reconnect::default();
        loop {
            let failure = match effect::complete(&self.pg, &completion, &mut effect).await {
                Ok(accepted) => {
                    reach("child.committed");
                    return Word::Settled(accepted);
                }
                Err(Problem::Effect(message)) => Failure::Retry(message),
                Err(Problem::Outage(outage)) if outage.is_about_the_data() => unwritable(&outage),
                Err(Problem::Outage(_)) if effect.is_none() => effect::UNKNOWN,
                Err(Problem::Outage(_)) => {
                    tokio::time::sleep(reconnect.next_delay()).await;
                    self.say(Word::Waits);
                    continue;
                }
            };
            return Word::Ended(Err(failure.bounded(TEXT_BYTES_MAX)));
        }
    }
}
