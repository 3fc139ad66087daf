//! Every limit of the job protocol, with its reason. Limits of one tool stand beside that tool.

use std::time::Duration;

/// Largest payload, in bytes of JSON text. Larger data belongs in the object store (F8).
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// How deep a payload may be nested: common readers of JSON stop at 127, and a payload stands up to 3 levels deep in our answers.
pub const JSON_DEPTH_MAX: usize = 124;
/// Digits of a number before its point, when it is written out: with one more a double may overflow, and readers differ from which value on.
pub const JSON_WHOLE_DIGITS_MAX: usize = 308;
/// Digits of a number after its point, when it is written out without an exponent: with so many every double can be written exactly.
pub const JSON_FRACTION_DIGITS_MAX: usize = 1074;
/// Largest result a handler may return, in bytes of JSON text: a result is read by listings.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Longest stored error text in bytes: failure texts come from outside and are kept per attempt.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
/// Longest stored log line of a handler in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 2 * 1024;
/// Longest note beside the progress of a job in bytes: one line on a screen.
pub const NOTE_BYTES_MAX: usize = 500;
/// Longest idempotency key in characters, as in the IETF draft for the HTTP header.
pub const KEY_CHARS_MAX: usize = 255;

/// Jobs in one INSERT and in one parcel. The knee of the measured batch size is at 250 to 500.
pub const PARCEL_JOBS_MAX: usize = 500;
/// Jobs in one stream entry: beyond 25 the cost per job no longer falls, and an entry is redelivered whole.
pub const CHUNK_JOBS_MAX: usize = 25;
/// The work one stream entry may carry, so that a worker never hoards.
pub const CHUNK_WORK: Duration = Duration::from_millis(20);
/// Entries that a stream holds at least, read or not: below it a quick worker idles between two dispatch runs.
pub const WINDOW_ENTRIES_MIN: u64 = 200;

/// A job that still runs this long after it was read gets a lease. Shorter ones never write "running".
pub const LEASE_DELAY: Duration = Duration::from_millis(200);
/// Reconcile lists the stream, waits this long and then asks Postgres: `LEASE_DELAY` with a margin for a lease that is late.
pub const RECONCILE_SETTLE: Duration = Duration::from_secs(1);
/// A parcel is left alone by reconcile this long after somebody promised to publish it.
pub const PUBLISH_GRACE: Duration = Duration::from_secs(5);
/// The same after Redis is known to have lost its data: only publishers at work are spared, who give up on a parcel before this.
pub const PUBLISH_GRACE_AFTER_LOSS: Duration = Duration::from_secs(3);
/// An entry seen pending with the same owner and count in two looks this far apart has been abandoned: entries leave
/// the pending list within `LEASE_DELAY`.
pub const TAKEOVER_AFTER: Duration = Duration::from_secs(5);
/// A run that Postgres has not leased this long after it was read is stopped: soon its entry looks abandoned to others.
pub const UNLEASED_MAX: Duration = Duration::from_secs(4);
/// When the answer to a claim takes longer than this, nothing of it is started: half of `UNLEASED_MAX`, so that what does start has as
/// long again to be leased, over the link that was so slow.
pub const CLAIM_ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long jobs that a worker cannot run rest before they are offered again, at first: in a rollout another worker soon can.
pub const PUT_BACK_DELAY: Duration = Duration::from_secs(1);
/// How long at last, when nobody could run their version for minutes: whoever starts a worker that can should not have to wait much longer than this.
pub const PUT_BACK_DELAY_MAX: Duration = Duration::from_mins(1);
/// So many hand-outs double that rest.
pub const PUT_BACKS_PER_DELAY: u32 = 3;
/// Fresh child processes that one job may kill while it is alone in them (F15).
pub const CHILD_DEATHS_MAX: i32 = 2;
/// Crashes that one job may be in hand at (F15). The first only isolates it. The sixth death of a worker that ran it isolated buries it: a
/// job that takes whole machines down must end somewhere.
pub const CRASHES_MAX: i32 = 7;

/// One statement on the hot path; far above any healthy one. A lease may be shorter; the fence does not wait for a statement.
pub const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);
/// A batch waits so long for a row that another open transaction has written. Two honest callers of one idempotency key or id are through with
/// it in a few milliseconds.
pub const HELD_ROW_WAIT_MS: u64 = 100;
/// Waiting for a pooled connection.
pub const ACQUIRE_DEADLINE: Duration = Duration::from_secs(5);
/// One Redis command that does not block.
pub const REDIS_DEADLINE: Duration = Duration::from_secs(2);
/// How long a reader blocks on empty streams; bounds how late it notices a pause or a shutdown it was not woken for.
pub const READ_BLOCK: Duration = Duration::from_secs(2);
/// Entries kept in the capped dead-letter stream: a notice board, never the truth.
pub const DEAD_STREAM_ENTRIES_MAX: usize = 10_000;
/// Jobs asked about in one claim. Twice as many gave no more jobs a second, and urgent ones behind a backlog twice the p99.
pub const CLAIM_JOBS_MAX: usize = 500;
/// Outcomes written in one statement; for the same reason.
pub const SETTLE_JOBS_MAX: usize = 500;
/// Claimed and unfinished quick jobs of one worker process: while one batch is claimed, one runs and one is settled.
pub const IN_FLIGHT_JOBS_MAX: usize = 1500;

/// Shortens text from outside to `bytes_max` at a character boundary and drops NUL, which Postgres cannot store.
pub fn bounded(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn bounded_text_ends_at_a_character_and_has_no_nul() {
        assert_eq!(bounded("aé\0b", 2), "a");
        assert_eq!(bounded("aé\0b", 4), "aé");
        assert_eq!(bounded("ab", 9), "ab");
    }
}
