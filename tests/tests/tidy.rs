//! The laws of this repository that can be checked, each a test with the law as its name.
//!
//! Everything here reads files as they are shipped; no server is needed. A law that a place has to break is changed here,
//! with the reason, and not worked around there. What the laws are for stands in CONTRIBUTING.md, "Laws".

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/states.rs"]
mod states;
#[path = "tidy/storage.rs"]
mod storage;

#[path = "tidy/guarantees.rs"]
mod guarantees;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/prose.rs"]
mod prose;
#[path = "tidy/reading.rs"]
mod reading;

#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/sql.rs"]
mod sql;
#[path = "tidy/tree.rs"]
mod tree;
