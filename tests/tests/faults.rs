//! Each tool that injects faults does what it says, no less and no more: a test that breaks nothing proves nothing.

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/machine.rs"]
mod machine;
#[path = "faults/postgres.rs"]
mod postgres;
#[path = "faults/proxy.rs"]
mod proxy;
#[path = "faults/redis.rs"]
mod redis;
