//! A job that was in hand when a worker died runs in a child process of its worker (F15).
//!
//! The child is this program, started again in a one-job mode ([`inside`]). It runs one job at a time and is kept for the next one while
//! jobs end well. The parent keeps lease and heartbeat and settles plain outcomes ([`parent`]). An outcome with an effect is settled in the
//! child, because the effect is a closure: the child announces it and waits for the parent's word.
//!
//! A process boundary shows which job has killed. When a fresh child dies, no other job was in it. The second such death buries the job,
//! with the signal, the exit code or the limit as the reason. The death of a worker buries nothing; it only sends what was in hand here.
//! As a bound, the sixth death of a worker that had started the job here buries it (`duties::crash`).
//!
//! The job waits for its lease, for one of the places and for a slot. Then its lease says
//! `started`, and the child gets it. After a death a locking read finds out whether an effect has
//! committed; whatever the child writes later is refused. A death by drain, cancel or a missed beat
//! counts nothing, and neither does that of a child that had other jobs before.
//!
//! The child ends with its worker (end of file, parent-death signal) and when the worker is silent
//! for 0.7 of a lease. It has a process group of its own, so signals for the worker's group do not
//! reach it. What its jobs have started ends with it. A handler that blocks its thread is killed
//! with its child at its timeout. In a worker it makes that worker drain and end at twice the
//! timeout, which isolates the job.

pub(crate) mod inside;
mod parent;
mod pool;
mod process;
mod wire;

use std::time::Duration;

pub(super) use self::parent::run;
pub(crate) use self::pool::Children;

/// How much later than its job's timeout a child may say that the job has timed out.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a child may take to end when its worker is gone or has dismissed it.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Beats of a worker on the pipe, per lease.
const BEATS_PER_LEASE: u32 = 10;

/// A worker that is silent for longer may soon be taken for dead: the child ends before.
fn parent_silence_max(lease: Duration) -> Duration {
    lease * 7 / 10
}
