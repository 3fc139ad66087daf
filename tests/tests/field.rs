//! Faults that outside use found. Each test is named after the number of its fault, and shows the right value.

#[path = "field/backlog.rs"]
mod backlog;
#[path = "field/bodies.rs"]
mod bodies;
#[path = "field/certificates.rs"]
mod certificates;
#[path = "field/claims.rs"]
mod claims;
#[path = "field/dev.rs"]
mod dev;
#[path = "field/doors.rs"]
mod doors;
#[path = "field/forwarding.rs"]
mod forwarding;
#[path = "field/held.rs"]
mod held;
#[path = "field/idle.rs"]
mod idle;
#[path = "field/json.rs"]
mod json;
#[path = "field/leaders.rs"]
mod leaders;
#[path = "field/machine.rs"]
mod machine;
#[path = "field/neighbours.rs"]
mod neighbours;
#[path = "field/operators.rs"]
mod operators;
#[path = "field/outcomes.rs"]
mod outcomes;
#[path = "field/own_rows.rs"]
mod own_rows;
#[path = "field/parameters.rs"]
mod parameters;
#[path = "field/pictures.rs"]
mod pictures;
#[path = "field/readonly.rs"]
mod readonly;
#[path = "field/report.rs"]
mod report;
#[path = "field/rights.rs"]
mod rights;
#[path = "field/roles.rs"]
mod roles;
#[path = "field/scans.rs"]
mod scans;
#[path = "field/schema.rs"]
mod schema;
#[path = "field/servers.rs"]
mod servers;
#[path = "field/sharing.rs"]
mod sharing;
#[path = "field/snippets.rs"]
mod snippets;
#[path = "field/streams.rs"]
mod streams;
#[path = "field/text.rs"]
mod text;
#[path = "field/told.rs"]
mod told;
#[path = "field/tools.rs"]
mod tools;
#[path = "field/uploads.rs"]
mod uploads;
#[path = "field/yields.rs"]
mod yields;
