//! Doing without a server: it is said once, with the reason, in the probes, the metrics and the log; and it ends by itself.

#[path = "degraded/postgres.rs"]
mod postgres;
#[path = "degraded/redis.rs"]
mod redis_away;
#[path = "degraded/refusals.rs"]
mod refusals;
#[path = "degraded/schema.rs"]
mod schema;
