//! What may happen: the faults of a configuration, the variants of the protocol, and every step by name.

use super::state::{Entry, Hint, JOBS};

/// What can go wrong. Each kind has a budget; all together have one, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// kill -9 of a worker.
    Crash,
    /// kill -9 of a process between two steps of a duty, or of a producer before its XADD.
    Dropped,
    /// A worker stands still for longer than its lease.
    Freeze,
    /// A publisher stands still for longer than the grace, between its COMMIT and its XADD.
    Late,
    /// A statement of an enqueue, a lease or a settle was committed or not, and its answer is lost.
    Unknown,
    /// The stream finds no room.
    Refused,
    /// The server has handed an entry out and the answer is lost.
    ReplyLost,
    /// XACK got through and XDEL did not. Not in the code as it is, where both are one script.
    AckTorn,
    Lose,
    Flush,
    Repeat,
    Forge,
    Resurrect,
    /// XGROUP DESTROY: what is pending is forgotten, and read again by the next group.
    Ungroup,
    /// XGROUP SETID $.
    SkipAhead,
    /// XGROUP DELCONSUMER of a consumer with a pending entry.
    Unpend,
    /// Redis is out of reach for a while.
    Outage,
}

pub(crate) const FAULT_KINDS: usize = Fault::Outage as usize + 1;

/// Where a job comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The Rust producer: commits the parcel as publishing and adds the entry itself.
    Producer,
    /// SQL, or a producer that saw no room: the parcel waits for dispatch.
    Sql,
    /// Not in this configuration.
    Shut,
}

/// How the modelled code differs from the real one. All false: the protocol as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent sabotage"
)]
pub(crate) struct Variant {
    /// Settle is guarded by id and state alone.
    pub(crate) settle_without_epoch: bool,
    /// Settle is guarded by the id alone.
    pub(crate) settle_without_guard: bool,
    /// Jobs are taken from a hint without asking Postgres.
    pub(crate) claim_without_asking: bool,
    /// Takeover gives the entry to another worker at the same epoch (XCLAIM) instead of re-handing its jobs.
    pub(crate) takeover_keeps_epoch: bool,
    /// The reader makes a missing group at `$`.
    pub(crate) group_at_dollar: bool,
    /// Reconcile takes whatever XRANGE lists for present, whether the group has passed it or not.
    pub(crate) reconcile_trusts_the_listing: bool,
    /// What was published is marked so, and reconcile looks at the rest only.
    pub(crate) reconcile_only_unpublished: bool,
    /// Reconcile asks Postgres at once instead of waiting out the first 200 ms.
    pub(crate) reconcile_does_not_wait: bool,
    /// The entry is acknowledged when its job is claimed.
    pub(crate) ack_at_claim: bool,
    /// The entry is added inside the transaction that inserts the job.
    pub(crate) publish_before_commit: bool,
    /// Takeover of a dead worker's entry does not tell that the worker died.
    pub(crate) takeover_misses_crashes: bool,
    /// Rescue charges each crash to all that the worker had leased, started or not.
    pub(crate) rescue_charges_all: bool,
}

/// Weak spots that this model has found, and whether the code has them mended. Where it has not, the invariants allow for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent mend"
)]
pub(crate) struct Mends {
    /// Rescue asks for the beat again when it acts: the worker may have thawed and taken other jobs since.
    pub(crate) rescue_asks_again: bool,
    /// Whoever re-hands a job on the word of an entry or a listing leaves a leased one alone.
    pub(crate) rehand_spares_leased: bool,
    /// Reconcile also lists streams of which no parcel is in doubt, and clears them of what nobody will read.
    pub(crate) reconcile_lists_all_streams: bool,
    /// A run that was claimed without Redis begins half a second later, when whoever had read the job before was refused its lease.
    pub(crate) direct_claim_waits: bool,
}

impl Mends {
    /// The code as it is.
    pub(crate) const TODAY: Self = Self {
        rescue_asks_again: true,
        rehand_spares_leased: true,
        reconcile_lists_all_streams: true,
        direct_claim_waits: false,
    };
}

/// One configuration.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) doors: [Door; JOBS],
    pub(crate) variant: Variant,
    pub(crate) mends: Mends,
    pub(crate) faults: [u8; FAULT_KINDS],
    pub(crate) faults_in_all: u8,
    /// Crashes that one job may be in hand at: `CRASHES_MAX`, here a smaller one.
    pub(crate) crashes_max: u8,
    /// Duty processes: two, or one where the second only costs states.
    pub(crate) duties: usize,
    /// Jobs that a worker may have in hand.
    pub(crate) slots: usize,
    /// Entries that the stream may hold.
    pub(crate) window: usize,
    /// Whether to remember how many workers each job has killed: only worth its states where that is asked.
    pub(crate) counts_kills: bool,
}

impl Protocol {
    pub(crate) fn new(doors: [Door; JOBS], faults: &[(Fault, u8)]) -> Self {
        let mut budget = [0; FAULT_KINDS];
        for (fault, times) in faults {
            budget[*fault as usize] = *times;
        }
        let in_all = budget.iter().sum();
        Self {
            doors,
            variant: Variant::default(),
            mends: Mends::TODAY,
            faults: budget,
            faults_in_all: in_all,
            crashes_max: 3,
            duties: 2,
            slots: 2,
            window: 9,
            counts_kills: false,
        }
    }

    /// At most so many faults in all, whichever they are.
    pub(crate) fn at_most(mut self, faults: u8) -> Self {
        self.faults_in_all = faults;
        self
    }

    pub(crate) fn duties(mut self, duties: usize) -> Self {
        self.duties = duties;
        self
    }

    pub(crate) fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    pub(crate) fn window(mut self, entries: usize) -> Self {
        self.window = entries;
        self
    }

    pub(crate) fn crashes_max(mut self, workers: u8) -> Self {
        self.crashes_max = workers;
        self
    }

    pub(crate) fn counting_kills(mut self) -> Self {
        self.counts_kills = true;
        self
    }

    pub(crate) fn mended(mut self, mends: Mends) -> Self {
        self.mends = mends;
        self
    }

    pub(crate) fn sabotaged(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }
}

/// One atomic step. Numbers are workers or duty processes, unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    // Producers, by job.
    Enqueue(u8),
    EnqueueOpen(u8),
    EnqueueCommit(u8),
    EnqueueAbort(u8),
    EnqueueUnknown { job: u8, committed: bool },
    Repeat(u8),
    GiveUp(u8),
    Publish(u8),
    PublishRefused(u8),
    ProducerDies(u8),
    ProducerLate(u8),
    // Workers.
    MakeGroup(u8),
    Read(u8, Entry),
    ReplyLost(u8, Entry),
    Claim(u8, Entry),
    Lease { worker: u8, job: u8, answered: bool },
    Settle { worker: u8, job: u8, answered: bool },
    StartChild { worker: u8, job: u8 },
    Conclude(u8, Entry),
    AckTorn(u8, Entry),
    ReturnOwnPending(u8, Entry),
    BeatStopsLostRun { worker: u8, job: u8 },
    BeatReturnsLease { worker: u8, job: u8 },
    ClaimDirectly(u8, Hint),
    Crash(u8),
    Freeze(u8),
    Thaw(u8),
    // Duties.
    Dispatch(u8, Hint),
    Add(u8),
    AddRefused(u8),
    PublisherLate(u8),
    List(u8),
    Ask(u8),
    Rehand(u8),
    LookAtPending(u8, Entry),
    TakeOver(u8),
    Redeliver { duty: u8, to: u8 },
    AckAll(u8),
    LookAtBeats { duty: u8, dead: bool, worker: u8 },
    Rescue(u8),
    LookForOrphan(u8, Hint),
    DutyDies(u8),
    // Redis.
    Lose(Entry),
    Flush,
    RepeatEntry(Entry),
    Forge(Entry),
    Resurrect { entry: Entry, pending: bool },
    Ungroup,
    SkipAhead,
    Unpend(Entry),
    RedisDown,
    RedisUp,
}
