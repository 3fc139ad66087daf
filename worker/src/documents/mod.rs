//! The document pipeline: PDF in, searchable chunks and products out (P1 to P4).
pub mod tools;
