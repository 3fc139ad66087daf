//! The local tools of the document pipeline (P2, P3): a file in, text, images, chunks, vectors and product lines out.
//!
//! Two kinds of function live here. Those that start a program (poppler, Tesseract) are `async`, take a [`Sandbox`]
//! and never wait without a deadline. All others are plain, deterministic and heavy on the CPU: call them through
//! `tokio::task::spawn_blocking`.
//!
//! Invariants: every input is hostile until proven otherwise, so everything has a limit with a name and a reason;
//! whatever a file does ends in a [`ToolError`], never in a panic or an endless wait (P4); the same bytes give the
//! same result on every machine, so that a repeated attempt writes the same rows.
//!
//! What it does not know: jobs, stages, tenants, Postgres, Redis, the object store, the network, the environment.

pub mod error;
pub mod note;

pub mod sandbox;
pub mod tool;

pub mod pdf;

pub mod ocr;
pub mod png;

pub mod fingerprint;

pub mod normalise;
mod script;

pub mod chunk;

pub mod embed_local;

pub mod analyse_local;

pub mod merge_products;

pub use chunk::{Chunk, PageText, split};
pub use error::ToolError;
pub use note::{Note, Notes};
pub use sandbox::Sandbox;
