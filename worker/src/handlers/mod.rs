//! The kinds in the box.
