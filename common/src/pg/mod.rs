//! Postgres: pools, the guard against poisoned connections, and the schema's version.

mod guarded;
mod lent;
mod mark;
mod migrate;
mod pool;
mod revert;
mod rights;
mod statement;
mod trust;

pub use self::{
    guarded::GuardedPool,
    lent::{Lent, Loan, Tx, within},
    mark::mark,
    migrate::{
        SchemaStatus, check_encoding, migrate_down, migrate_up, require_schema, schema_status,
        tell_risks, would_revert,
    },
    pool::{LOCK_TIMEOUT_MS, Pg, STATEMENT_TIMEOUT_MS, address, connect_options},
    revert::Reverted,
    rights::{MissingRight, missing_rights, tell_missing_rights, tomorrow_is_there},
    statement::{Scalar, Statement},
};
