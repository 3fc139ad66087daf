//! A model of the protocol, explored to its end: every schedule of two jobs, two workers and two processes of duties, with faults.
//!
//! What is modelled is what the code does, cut into steps where a process can die, stand still or lose an answer. Time is not a
//! number here: a step that the code takes only after a wait (200 ms until a lease, 1 s of reconcile, 5 s of grace, a lease of
//! silence) can be taken when whatever must have happened by then has happened, except by those that are frozen. A path ends when
//! nobody has anything to do; no path goes in circles. So "each state has a driver" says that work is finished on every path.
//!
//! Not in it: failures and retries, cancels, several jobs per entry, paused queues, several streams, drains; of a child process that it starts
//! when its job has a lease, but not its death, whose outcome the worker settles like any other.

#[path = "model/check.rs"]
mod check;
#[path = "model/duties.rs"]
mod duties;
#[path = "model/faults.rs"]
mod faults;
#[path = "model/holds.rs"]
mod holds;
#[path = "model/invariants.rs"]
mod invariants;
#[path = "model/machine.rs"]
mod machine;
#[path = "model/postgres.rs"]
mod postgres;
#[path = "model/producer.rs"]
mod producer;
#[path = "model/redis.rs"]
mod redis;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/sabotage.rs"]
mod sabotage;
#[path = "model/state.rs"]
mod state;
#[path = "model/weak_spots.rs"]
mod weak_spots;
#[path = "model/worker.rs"]
mod worker;
