//! What there is: rows and parcels in Postgres, entries in one stream, and what each process has in its memory.
//!
//! Small and totally ordered, so that a state can be hashed and workers can be swapped. A parcel lists one job, because
//! every re-hand makes a new one: a parcel is named by the job and the epoch it announces. Knows no rules.

use std::{cmp::Ordering, fmt};

pub(crate) const JOBS: usize = 2;
pub(crate) const WORKERS: usize = 2;
/// Processes that dispatch, reconcile, take over, rescue and sweep. Each does one thing at a time and may be arbitrarily slow
/// between two steps, so a frozen one needs no fault of its own.
pub(crate) const DUTIES: usize = 2;

/// A job at an epoch: what an entry hints at, what a parcel announces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hint {
    pub(crate) job: u8,
    pub(crate) epoch: u8,
}

/// How an entry came to be: stands for its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Copy {
    Original,
    Repeated,
    Forged,
}

/// One stream entry: what it hints at, and the parcel it says it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) hint: Hint,
    pub(crate) parcel: Hint,
    pub(crate) copy: Copy,
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.job, self.epoch)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.hint, self.copy)?;
        if self.parcel == self.hint {
            Ok(())
        } else {
            write!(f, " of parcel {:?}", self.parcel)
        }
    }
}

impl Entry {
    pub(crate) fn original(hint: Hint) -> Self {
        Self {
            hint,
            parcel: hint,
            copy: Copy::Original,
        }
    }
}

/// A process as others see it: a worker of now, or one that died. A worker that crashes starts again as another process at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    Worker(u8),
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Unread,
    Pending(Owner),
    /// The group has passed it and it is pending with nobody: no read will ever return it.
    Skipped,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Redis {
    pub(crate) down: bool,
    pub(crate) group: bool,
    /// Sorted; reads take any unread entry, so their order means nothing.
    pub(crate) entries: Vec<(Entry, Place)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RowState {
    Available,
    /// With a lease row that names the worker.
    Running(Owner),
    Completed,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    pub(crate) state: RowState,
    pub(crate) epoch: u8,
    pub(crate) crashes: u8,
    /// The lease says that it has started in a child.
    pub(crate) started: bool,
}

impl Row {
    /// Whether the death of its worker counts: the first one for all that was in hand, later ones for what had started.
    pub(crate) fn counts_crash(self) -> bool {
        self.crashes == 0 || self.started
    }

    pub(crate) fn is_final(self) -> bool {
        matches!(self.state, RowState::Completed | RowState::Dead)
    }

    pub(crate) fn is_available(self, epoch: u8) -> bool {
        self.state == RowState::Available && self.epoch == epoch
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Parcel {
    Waiting,
    Publishing,
    /// Only in the sabotaged variant that marks what it has published.
    Published,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Postgres {
    pub(crate) rows: [Option<Row>; JOBS],
    pub(crate) parcels: Vec<(Hint, Parcel)>,
}

/// The caller of an enqueue, per job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Client {
    New,
    /// Entries were added before the COMMIT (a variant): the transaction is still open.
    Open,
    /// The answer to the COMMIT was lost.
    Unsure,
    /// Committed as publishing; the XADD is next. `late`: it takes longer than the grace.
    Promised {
        late: bool,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// Claimed and neither settled nor leased: the first 200 ms, unless its worker is frozen.
    Fresh,
    Leased,
}

/// A job in the hands of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hold {
    pub(crate) epoch: u8,
    pub(crate) entry: Option<Entry>,
    pub(crate) phase: Phase,
    /// Its worker was frozen while it had it.
    pub(crate) was_frozen: bool,
    /// Its handler has not begun: a job that has crashed waits for its lease, and for a child.
    pub(crate) waits: bool,
}

/// What is still to be done about an entry whose job was settled, leased or found stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct After {
    pub(crate) entry: Entry,
    /// This worker moved its job out of available: the parcel may go.
    pub(crate) count: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Worker {
    pub(crate) frozen: bool,
    /// Was frozen at some time: its beats stood still then.
    pub(crate) thawed: bool,
    /// Delivered, Postgres not asked yet; and whether the worker was frozen meanwhile.
    pub(crate) read: Vec<(Entry, bool)>,
    pub(crate) holds: [Option<Hold>; JOBS],
    pub(crate) after: Vec<After>,
}

/// What a duty process has seen and is about to act upon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Duty {
    Idle,
    /// Dispatch has committed the parcel as publishing; the XADD is next.
    Publish {
        hint: Hint,
        late: bool,
    },
    /// Reconcile has listed the stream. `busy`: workers that were in the first 200 ms of a missing job then.
    Listed {
        missing: Vec<Hint>,
        skipped: Vec<Entry>,
        busy: Vec<(u8, Hint)>,
    },
    /// Reconcile or sweep has asked Postgres and re-hands these next.
    Asked {
        lost: Vec<Hint>,
        over: Vec<Hint>,
        skipped: Vec<Entry>,
    },
    /// Takeover has seen the entry pending for too long.
    Abandoned {
        entry: Entry,
        crashed: bool,
    },
    Acks(Vec<Entry>),
    /// Rescue has seen this worker's beat stand still for a lease.
    Condemned(Owner),
}

/// What no process knows: kept for the invariants alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ghost {
    /// An entry of this job was repeated, forged or resurrected.
    pub(crate) tampered: bool,
    /// Its publisher was held up for longer than the grace.
    pub(crate) late: bool,
    /// Somebody re-handed it although a worker had a lease for it, on the word of an entry.
    pub(crate) seized: bool,
    /// Bit per epoch at which somebody has claimed it.
    pub(crate) claimed: u16,
    pub(crate) accepted: u8,
    /// Crashes of workers that had it in hand.
    pub(crate) kills: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    pub(crate) clients: [Client; JOBS],
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) duties: [Duty; DUTIES],
    pub(crate) ghosts: [Ghost; JOBS],
    /// Faults that may still happen, by `Fault` as a number, and in all.
    pub(crate) faults: [u8; super::rules::FAULT_KINDS],
    pub(crate) faults_in_all: u8,
    /// Bit per `Broken`.
    pub(crate) broken: u16,
}

impl Worker {
    pub(crate) fn has_read(&self, entry: Entry) -> bool {
        self.read.iter().any(|(other, _)| *other == entry)
    }
}

impl State {
    pub(crate) fn row(&self, job: u8) -> Option<Row> {
        self.postgres.rows[job as usize]
    }

    /// A worker that is not frozen is asking about, or has just claimed, the job at that epoch. It will have settled or leased it
    /// within 200 ms.
    pub(crate) fn is_busy(&self, worker: u8, hint: Hint) -> bool {
        let worker = &self.workers[worker as usize];
        !worker.frozen
            && (worker.read.iter().any(|(entry, _)| entry.hint == hint)
                || worker.holds[hint.job as usize]
                    .is_some_and(|hold| hold.phase == Phase::Fresh && hold.epoch == hint.epoch))
    }

    /// Somebody has promised to publish this parcel and is not late yet.
    pub(crate) fn is_being_published(&self, hint: Hint) -> bool {
        self.duties.contains(&Duty::Publish { hint, late: false })
            || (hint.epoch == 0
                && self.clients[hint.job as usize] == Client::Promised { late: false })
    }

    /// Published long enough ago to doubt that the stream holds it: by then its publisher is done, unless late.
    pub(crate) fn is_doubtful(&self, hint: Hint) -> bool {
        !self.is_being_published(hint) && self.is_known_to_all(hint)
    }

    /// Seconds have passed since the job was handed out at this epoch: a worker with a run of an earlier one was refused the lease, or
    /// has noticed at its next beat, unless it is frozen.
    pub(crate) fn is_known_to_all(&self, hint: Hint) -> bool {
        let outdated = |hold: Hold| hold.epoch < hint.epoch;
        self.workers
            .iter()
            .all(|worker| worker.frozen || !worker.holds[hint.job as usize].is_some_and(outdated))
    }

    /// The same state with the workers' names in a fixed order: which of two is which makes no difference.
    pub(crate) fn canonical(mut self) -> Self {
        self.duties.sort_unstable();
        match self.workers[0].cmp(&self.workers[1]) {
            Ordering::Less => self,
            Ordering::Greater => self.swapped(),
            // Others may know the two apart.
            Ordering::Equal => self.swapped().min(self),
        }
    }

    fn swapped(&self) -> Self {
        let mut other = self.clone();
        other.workers.swap(0, 1);
        for row in other.postgres.rows.iter_mut().flatten() {
            if let RowState::Running(owner) = row.state {
                row.state = RowState::Running(swap(owner));
            }
        }
        for (_, place) in &mut other.redis.entries {
            if let Place::Pending(owner) = *place {
                *place = Place::Pending(swap(owner));
            }
        }
        other.redis.entries.sort_unstable();
        for duty in &mut other.duties {
            match duty {
                Duty::Condemned(owner) => *owner = swap(*owner),
                Duty::Listed { busy, .. } => {
                    for (worker, _) in &mut *busy {
                        *worker = 1 - *worker;
                    }
                    busy.sort_unstable();
                }
                _ => {}
            }
        }
        other.duties.sort_unstable();
        other
    }
}

fn swap(owner: Owner) -> Owner {
    match owner {
        Owner::Worker(worker) => Owner::Worker(1 - worker),
        Owner::Dead => Owner::Dead,
    }
}
