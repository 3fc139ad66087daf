//! The rules of docs/guarantees.md that no other test shows, against real servers. Each test names its rule.

#[path = "guarantees/batch_doors.rs"]
mod batch_doors;
#[path = "guarantees/batch_faults.rs"]
mod batch_faults;
#[path = "guarantees/batches.rs"]
mod batches;
#[path = "guarantees/claims.rs"]
mod claims;
#[path = "guarantees/connections.rs"]
mod connections;
#[path = "guarantees/database.rs"]
mod database;
#[path = "guarantees/groups.rs"]
mod groups;
#[path = "guarantees/hearts.rs"]
mod hearts;
#[path = "guarantees/payloads.rs"]
mod payloads;
#[path = "guarantees/plans.rs"]
mod plans;
#[path = "guarantees/races.rs"]
mod races;
#[path = "guarantees/retention.rs"]
mod retention;
#[path = "guarantees/streams.rs"]
mod streams;
