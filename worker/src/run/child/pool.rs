//! The children of one worker: a few places, and those that wait for their next job.

use std::{
    io,
    process::{Command, ExitStatus},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream_common::{config::Worker, tasks::Tasks};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    BEATS_PER_LEASE, LEAVE_MAX, parent_silence_max,
    process::{self, Group, LastWords, Started},
    wire::{self, Order, Terms, Word},
};

/// A child has so long from its start until it can run a job: it reads settings and makes handlers, on a machine that may be busy.
const START_MAX: Duration = Duration::from_secs(30);
/// A child that has had no job for so long is ended: it holds as much memory as an idle worker.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// What a child says waits here for its run; with more the child waits.
const WORDS_MAX: usize = 100;
/// After a death its last words are waited for so long. What the job has started may keep the pipe open.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(500);

/// The children of one worker.
pub(crate) struct Children {
    /// None: jobs that should be isolated run in the worker.
    command: Option<Arc<Mutex<Command>>>,
    terms: Terms,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Child>>,
    tasks: Tasks,
}

impl Children {
    /// Those of this worker, each started by `command`.
    pub(crate) fn new(command: Option<Command>, settings: &Worker, worker_id: i64) -> Arc<Self> {
        let (places, terms) = (
            settings.children_max.max(1),
            Terms {
                parent: std::process::id(),
                worker_id,
                lease: settings.lease(),
                memory_bytes_max: settings.child_memory_bytes,
            },
        );
        Arc::new(Self {
            command: command.map(|command| Arc::new(Mutex::new(command))),
            terms,
            places: Arc::new(Semaphore::new(places)),
            idle: Mutex::default(),
            tasks: Tasks::new(),
        })
    }

    /// Whether there is a command to start them with.
    pub(super) fn are_possible(&self) -> bool {
        self.command.is_some()
    }

    /// The right to use a child, when one is free. Where there are none, nobody waits for one.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if !self.are_possible() {
            return None;
        }
        self.places.clone().acquire_owned().await.ok()
    }

    /// A child that can run a job. `fresh`: one that has run none before.
    pub(super) async fn child(&self, fresh: bool) -> io::Result<Child> {
        // For a fresh one an idle one goes: there are never more than places.
        let idle = self.idle().pop().filter(|child| !child.has_ended());
        match idle.filter(|_| !fresh) {
            Some(child) => Ok(child),
            None => timeout(START_MAX, self.start())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn start(&self) -> io::Result<Child> {
        let command = self.command.clone().ok_or(io::ErrorKind::Unsupported)?;
        let Started {
            group,
            end,
            socket,
            words,
        } = process::start(command).await?;
        socket.set_nonblocking(true)?;
        let (reads, writes) = UnixStream::from_std(socket)?.into_split();
        let (orders, to_send) = mpsc::unbounded_channel();
        let (heard, said) = mpsc::channel(WORDS_MAX);
        let (was_late, last_words) = (Arc::new(AtomicBool::new(false)), LastWords::default());
        let lease = self.terms.lease;
        self.tasks
            .spawn(speak(writes, to_send, lease, was_late.clone()));
        self.tasks.spawn(listen(reads, heard, was_late.clone()));
        let passing_on = self
            .tasks
            .spawn(process::pass_on(words, last_words.clone()));
        let mut child = Child {
            group,
            end,
            orders: Some(orders),
            said,
            was_late,
            last_words,
            passing_on,
            is_fresh: true,
            idle_since: Instant::now(),
            memory_bytes_max: self.terms.memory_bytes_max,
            tasks: self.tasks.clone(),
        };
        child.order(Order::Begin(self.terms.clone()));
        match child.hears().await {
            Some(Word::Ready) => Ok(child),
            _ => Err(io::Error::other(child.death().await.how)),
        }
    }

    /// Keeps a child for the next job.
    pub(super) fn keep(self: &Arc<Self>, mut child: Child) {
        (child.is_fresh, child.idle_since) = (false, Instant::now());
        self.idle().push(child);
        let children = self.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(IDLE_MAX).await;
            children
                .idle()
                .retain(|child| child.idle_since.elapsed() < IDLE_MAX);
        });
    }

    /// Dismisses those that wait: the worker ends.
    pub(crate) fn dismiss(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Child>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child that runs, or waits for, a job. It is dismissed when this is dropped.
pub(super) struct Child {
    group: Arc<Group>,
    end: oneshot::Receiver<io::Result<ExitStatus>>,
    /// None: dismissed. The child sees the end of the pipe.
    orders: Option<mpsc::UnboundedSender<Order>>,
    said: mpsc::Receiver<Word>,
    was_late: Arc<AtomicBool>,
    last_words: LastWords,
    passing_on: JoinHandle<io::Result<()>>,
    /// It has run no job before.
    pub(super) is_fresh: bool,
    idle_since: Instant,
    memory_bytes_max: u64,
    tasks: Tasks,
}

/// How a child died.
pub(super) struct Death {
    pub(super) how: String,
    /// By nothing but its job.
    pub(super) counts: bool,
}

impl Child {
    pub(super) fn order(&self, order: Order) {
        // To a child that is gone: what it says next is its death.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// What it says next; `None`: nothing more.
    pub(super) async fn hears(&mut self) -> Option<Word> {
        self.said.recv().await
    }

    fn has_ended(&self) -> bool {
        self.said.is_closed()
    }

    /// Waits for the end of a child that has nothing more to say. The pipe's end is no death: it is killed if it lives on.
    pub(super) async fn death(mut self) -> Death {
        let end = tokio::select! {
            biased;
            end = &mut self.end => end,
            () = tokio::time::sleep(LEAVE_MAX) => {
                self.group.kill();
                (&mut self.end).await
            }
        };
        let _ = timeout(LAST_WORDS_WAIT, &mut self.passing_on).await;
        let counts = self.is_fresh && !self.was_late.load(Ordering::Relaxed);
        let how = match end {
            Ok(Ok(status)) => process::told(status, &self.last_words, self.memory_bytes_max),
            _ => "ended".to_owned(),
        };
        Death { how, counts }
    }

    pub(super) fn kill(&self) {
        self.group.kill();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.orders = None;
        let group = self.group.clone();
        if Handle::try_current().is_err() {
            return group.kill();
        }
        self.tasks.spawn(async move {
            tokio::time::sleep(LEAVE_MAX * 2).await;
            group.kill();
        });
    }
}

/// Sends orders, and beats between them, until the child is dismissed or gone.
async fn speak(
    mut to: OwnedWriteHalf,
    mut orders: mpsc::UnboundedReceiver<Order>,
    lease: Duration,
    was_late: Arc<AtomicBool>,
) -> io::Result<()> {
    let mut sent_at = Instant::now();
    loop {
        let order = match timeout(lease / BEATS_PER_LEASE, orders.recv()).await {
            Ok(Some(order)) => order,
            Ok(None) => return Ok(()),
            Err(_) => Order::Beat,
        };
        // After such a silence the child may have ended for it, which is not its job's doing.
        if sent_at.elapsed() > parent_silence_max(lease) / 2 {
            was_late.store(true, Ordering::Relaxed);
        }
        sent_at = Instant::now();
        wire::send(&mut to, &order).await?;
    }
}

/// Hears what the child says, until it says nothing more or something that is no word.
async fn listen(mut from: OwnedReadHalf, heard: mpsc::Sender<Word>, is_excused: Arc<AtomicBool>) {
    loop {
        let word = match wire::receive(&mut from).await {
            Ok(word) => word,
            Err(error) => {
                // What is killed for words that nobody understands, of another version perhaps, has not died of its job.
                if error.kind() == io::ErrorKind::InvalidData {
                    is_excused.store(true, Ordering::Relaxed);
                }
                return;
            }
        };
        if heard.send(word).await.is_err() {
            return;
        }
    }
}
