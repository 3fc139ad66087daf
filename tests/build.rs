//! Names the template database after the migrations, so that a changed migration gets a new template.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir("../migrations")
        .into_iter()
        .flatten()
        .flatten()
    {
        files.insert(
            entry.file_name(),
            std::fs::read(entry.path()).unwrap_or_default(),
        );
    }
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    println!("cargo:rustc-env=MIGRATIONS_HASH={:016x}", hasher.finish());
}
