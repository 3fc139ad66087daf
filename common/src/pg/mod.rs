//! Postgres: pools, the guard against poisoned connections, and the schema's version.

mod lent;
mod mark;
mod migrate;
mod pool;

pub use self::{
    lent::{Lent, within},
    mark::mark,
    migrate::{SchemaStatus, migrate_down, migrate_up, require_schema, schema_status, tell_risks},
    pool::{Pg, connect_options},
};
