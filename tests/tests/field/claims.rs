//! Who may start a job, and what becomes of outcomes and leases when Postgres is unwell.
