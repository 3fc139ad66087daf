//! The closed sets of label values that the metrics module itself can name.
//!
//! A set is closed here when a typing error in one caller would make a second series that no
//! dashboard shows. Open labels (queue, kind, duty, op, pool, stage) are plain text from registered configuration.

/// Makes an enum whose variants are the only values of one label.
macro_rules! label_values {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration (the discriminant is the index).
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text that stands in the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label_values! {
    /// Which door a job came in by (label `source`).
    EnqueueSource {
        /// The Rust producer.
        Library => "library",
        /// The HTTP API.
        Http => "http",
        /// The command line.
        Cli => "cli",
        /// The functions of the schema; counted by the leading worker.
        Sql => "sql",
        /// A job that a finished job asked for (document stages).
        Pipeline => "pipeline",
        /// A schedule that came due.
        Schedule => "schedule",
    }
}

label_values! {
    /// How one hand-out of a job ended (label `outcome` of `millstream_jobs_finished_total`).
    JobOutcome {
        /// Done, final.
        Succeeded => "succeeded",
        /// Failed, to be tried again.
        Retried => "retried",
        /// Refused by a limit, to be tried again; not counted as an attempt.
        RateLimited => "rate_limited",
        /// Put off by its own handler; not counted as an attempt.
        Snoozed => "snoozed",
        /// Out of attempts or failed for good, final.
        Dead => "dead",
        /// Cancelled, final.
        Cancelled => "cancelled",
        /// Handed back unfinished by a worker that stops.
        Released => "released",
    }
}

label_values! {
    /// Who handed a job out again (label `reason` of `millstream_jobs_reclaimed_total`).
    ReclaimReason {
        /// A pending stream entry of another worker was taken over.
        Takeover => "takeover",
        /// A worker's beat stopped, its leases were handed out again.
        Rescue => "rescue",
        /// The stream had lost the entry.
        Reconcile => "reconcile",
        /// A job that could not run there was put back.
        PutBack => "put_back",
    }
}

label_values! {
    /// Whether a worker's slot holds a job (label `state` of `millstream_worker_slots`).
    SlotState {
        /// A job runs in it.
        Busy => "busy",
        /// It waits for a job.
        Idle => "idle",
    }
}

label_values! {
    /// What a process had to do without (label `reason` of the `millstream_degraded_…` metrics).
    Degraded {
        /// Jobs were worked straight from Postgres.
        RedisAway => "redis_away",
        /// Nothing could be accepted, claimed or settled.
        PostgresAway => "postgres_away",
    }
}

label_values! {
    /// How one run of a duty ended (label `outcome` of `millstream_duty_runs_total`).
    DutyOutcome {
        /// It did what there was to do.
        Succeeded => "succeeded",
        /// It stopped with an error and will be run again.
        Failed => "failed",
        /// It needs a server that is away, and did nothing.
        Skipped => "skipped",
    }
}
