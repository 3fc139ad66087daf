//! The floors of the house: which crate may use which, what a crate must not know, and that no modules of the engine form a circle.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::{
    rust::{Rust, files},
    tree::{none, read, sources},
};

/// A crate: its folder, its floor, the crates that it may use (all on lower floors), and words that must not stand in its code or its
/// strings, because what they name is none of its business.
struct Room {
    folder: &'static str,
    floor: u8,
    may_use: &'static [&'static str],
    must_not_say: &'static [&'static str],
}

/// Who asks no database has no such words.
const ROOMS: [Room; 10] = [
    Room {
        folder: "common",
        floor: 0,
        may_use: &[],
        must_not_say: &["millstream.document", "millstream.embedding"],
    },
    Room {
        folder: "worker/outbound",
        floor: 1,
        may_use: &["common"],
        must_not_say: &["sqlx", "redis::", "JobId", "millstream."],
    },
    Room {
        folder: "producer",
        floor: 1,
        may_use: &["common"],
        must_not_say: &["millstream.worker", "millstream.lease"],
    },
    Room {
        folder: "admin/local",
        floor: 1,
        may_use: &["common"],
        must_not_say: &["sqlx", "redis::cmd", "millstream."],
    },
    Room {
        folder: "worker/models",
        floor: 2,
        may_use: &["outbound", "common"],
        must_not_say: &["sqlx", "redis::", "JobId", "millstream."],
    },
    Room {
        folder: "worker",
        floor: 2,
        may_use: &["common", "producer"],
        must_not_say: &["pdf", "Pdf", "PDF", "embedding"],
    },
    Room {
        folder: "worker/kinds",
        floor: 3,
        may_use: &["worker", "outbound", "common"],
        must_not_say: &["sqlx", "redis::", "millstream."],
    },
    Room {
        folder: "worker/documents",
        floor: 4,
        may_use: &["worker", "models", "outbound", "common"],
        must_not_say: &[
            "redis::",
            "stream::",
            "millstream.lease",
            "millstream.parcel",
        ],
    },
    Room {
        folder: "admin",
        floor: 5,
        may_use: &[
            "common",
            "producer",
            "outbound",
            "worker",
            "kinds",
            "documents",
            "local",
        ],
        must_not_say: &[],
    },
    Room {
        folder: "tests",
        floor: 6,
        may_use: &[
            "common",
            "producer",
            "outbound",
            "worker",
            "kinds",
            "documents",
            "local",
            "admin",
        ],
        must_not_say: &[],
    },
];

/// Programs that stand for somebody else's.
const OUTSIDE: [&str; 1] = ["worker/examples/"];

fn name(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

/// The crate of a file: that of the deepest folder.
fn room_of(path: &str) -> Option<&'static Room> {
    let holds = |room: &&Room| {
        let rest = path.strip_prefix(room.folder);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let rooms = ROOMS.iter().filter(holds);
    rooms
        .filter(|_| !OUTSIDE.iter().any(|outside| path.starts_with(outside)))
        .max_by_key(|room| room.folder.len())
}

/// The crates of ours that a manifest names as dependencies, of any section.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && let Some(rest) = line.strip_prefix("millstream-") {
            found.push(rest.split(['.', ' ', '=']).next().unwrap_or(rest));
        }
    }
    found
}

/// The crates of ours that code names, and where.
fn named_crates(file: &Rust) -> Vec<(usize, String)> {
    let named = file.program_code("millstream_").into_iter();
    let name_at = |at: usize| Some((at, word(file.code[at..].strip_prefix("millstream_")?)));
    // `millstream_` begins names of other things too: a path is meant.
    named
        .filter_map(name_at)
        .filter(|(at, name)| file.code[at + "millstream_".len() + name.len()..].starts_with("::"))
        .collect()
}

fn word(code: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    code.chars().take_while(is_part).collect()
}

/// The parts of what stands behind a `crate::` or its like: one path, or each of a list in braces.
fn parts(code: &str) -> Vec<&str> {
    let Some(list) = code.strip_prefix('{') else {
        let end =
            code.find(|c: char| !(c.is_alphanumeric() || "_:{},".contains(c) || c.is_whitespace()));
        return vec![&code[..end.unwrap_or(code.len())]];
    };
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(list[begin..at].trim());
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The first name of each part.
fn heads(code: &str) -> Vec<String> {
    let heads = parts(code).into_iter().map(word);
    heads.filter(|head| !head.is_empty()).collect()
}

#[test]
fn crates_use_only_what_stands_on_lower_floors() -> Result<()> {
    let floors: BTreeMap<&str, u8> = ROOMS.iter().map(|r| (name(r.folder), r.floor)).collect();
    let mut broken = Vec::new();
    for room in &ROOMS {
        let high = |other: &&&str| floors.get(**other).is_none_or(|floor| *floor >= room.floor);
        broken.extend(
            room.may_use
                .iter()
                .filter(high)
                .map(|other| format!("the table lets {} use {other}", room.folder)),
        );
        let manifest = format!("{}/Cargo.toml", room.folder);
        let text = read(&manifest)?;
        let used = dependencies(&text).into_iter();
        broken.extend(
            used.filter(|other| !room.may_use.contains(other))
                .map(|other| format!("{manifest}: millstream-{other}")),
        );
    }
    for file in &files()? {
        let Some(room) = room_of(&file.source.path) else {
            continue;
        };
        let strange = |(_, other): &(usize, String)| {
            other != name(room.folder) && !room.may_use.contains(&other.as_str())
        };
        broken.extend(
            named_crates(file)
                .into_iter()
                .filter(strange)
                .map(|(at, other)| format!("{}: millstream_{other}", file.at(at))),
        );
    }
    none(
        "crates use what the table of the floors lets them use",
        &broken,
    )
}

#[test]
fn every_crate_has_a_floor() -> Result<()> {
    let manifests = sources()?.into_iter().map(|source| source.path);
    let homeless = manifests
        .filter(|path| path.ends_with("/Cargo.toml"))
        .filter(|path| !OUTSIDE.iter().any(|outside| path.starts_with(outside)))
        .filter(|path| {
            !ROOMS
                .iter()
                .any(|r| *path == format!("{}/Cargo.toml", r.folder))
        });
    none("crates without a floor", &homeless.collect::<Vec<_>>())
}

/// In the code of programs and in their strings; comments and tests may say anything.
#[test]
fn no_crate_says_what_it_must_not_know() -> Result<()> {
    let mut broken = Vec::new();
    for file in &files()? {
        let Some(room) = room_of(&file.source.path) else {
            continue;
        };
        for word in room.must_not_say {
            let in_code = file.program_code(word).into_iter();
            let strings = file.program_literals();
            let in_strings = strings.filter_map(|(at, text)| text.contains(word).then_some(at));
            broken.extend(
                in_code
                    .chain(in_strings)
                    .map(|at| format!("{}: {word}", file.at(at))),
            );
        }
    }
    none("words that name what a crate must not know", &broken)
}

/// The engine's `program`, `listen` and `testing` are for programs and tests.
#[test]
fn kinds_and_documents_use_the_engine_only_by_what_handlers_see() -> Result<()> {
    let mut broken = Vec::new();
    let crates = ["worker/kinds/", "worker/documents/"];
    let files = files()?;
    let theirs = |file: &&Rust| crates.iter().any(|c| file.source.path.starts_with(c));
    for file in files.iter().filter(theirs) {
        for at in file.program_code("millstream_worker::") {
            let heads = heads(&file.code[at + "millstream_worker::".len()..]);
            let inner = heads.into_iter().filter(|head| {
                head != "sqlx" && !head.starts_with(|c: char| c.is_ascii_uppercase())
            });
            broken.extend(inner.map(|head| format!("{}: {head}", file.at(at))));
        }
    }
    none("what a crate of handlers may see", &broken)
}

const ENGINE: &str = "worker/src/";

/// `worker/src/run/child/pool.rs` → `run`, and how deep the file's module lies.
fn module(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix(ENGINE)?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    let top = inner.split('/').next()?;
    (!["lib", "main"].contains(&top)).then(|| (top, inner.split('/').count()))
}

/// What a file imports from the root of its crate, by `crate::` or by as many `super::` as it lies deep.
fn imports_from_root(file: &Rust, depth: usize) -> Vec<(usize, String)> {
    let up = "super::".repeat(depth);
    let begins = |at: usize| !file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == ':');
    let from = |start: &str| {
        let places = file
            .program_code(start)
            .into_iter()
            .filter(|at| begins(*at));
        let heads = places.flat_map(|at| {
            let names = heads(&file.code[at + start.len()..]);
            names.into_iter().map(move |head| (at, head))
        });
        heads.collect::<Vec<_>>()
    };
    [from("crate::"), from(&up)].concat()
}

/// The names that `lib.rs` shows, and the module that each is of.
fn shown_by_lib(lib: &Rust) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for at in lib.program_code("pub use self::") {
        let code = &lib.code[at + "pub use self::".len()..];
        for part in parts(&code[..code.find(';').unwrap_or(code.len())]) {
            let names = part.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let names = names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
            shown.extend(names.map(|name| (name.to_owned(), word(part))));
        }
    }
    shown
}

/// Which module imports which, with the first place where it does.
fn imports(files: &[Rust]) -> BTreeMap<String, BTreeMap<String, String>> {
    let lib = files
        .iter()
        .find(|file| file.source.path == "worker/src/lib.rs");
    let shown = lib.map(shown_by_lib).unwrap_or_default();
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in files {
        let Some((top, depth)) = module(&file.source.path) else {
            continue;
        };
        for (at, head) in imports_from_root(file, depth) {
            let of = shown.get(&head).cloned().unwrap_or(head);
            if of != top {
                let places = all.entry(top.to_owned()).or_default();
                places.entry(of).or_insert_with(|| file.at(at));
            }
        }
    }
    all
}

/// All modules that a module needs, by whatever way.
fn needed(all: &BTreeMap<String, BTreeMap<String, String>>, module: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![module.to_owned()];
    while let Some(next) = open.pop() {
        let new = all.get(&next).into_iter().flat_map(BTreeMap::keys);
        open.extend(new.filter(|name| found.insert((*name).clone())).cloned());
    }
    found
}

/// A module here is a file or a folder directly below `worker/src`. It imports another if its code, tests apart, has a path that begins
/// with `crate::` and that module, or with a name that `lib.rs` shows from it, or gets there by `super::`. Two modules that need each
/// other, by whatever way, are in one circle: every import inside it is told.
#[test]
fn no_modules_of_the_engine_form_a_circle() -> Result<()> {
    let files = files()?;
    let all = imports(&files);
    ensure!(all.len() > 15, "modules of the engine: {:?}", all.keys());
    let mut broken = Vec::new();
    for (from, imported) in &all {
        let back = |to: &&String| needed(&all, to).contains(from);
        let circular = imported.keys().filter(back);
        broken.extend(circular.map(|to| format!("{}: {from} imports {to}", imported[to])));
    }
    none("circles of modules", &broken)
}

#[test]
fn paths_and_lists_of_paths_are_read() {
    let code = "{api::{Context, self}, claim, run::here};";
    assert_eq!(heads(code), ["api", "claim", "run"]);
    assert_eq!(heads("shared::Shared;"), ["shared"]);
    assert_eq!(module("worker/src/run/mod.rs"), Some(("run", 1)));
    assert_eq!(module("worker/src/run/child/pool.rs"), Some(("run", 3)));
    assert_eq!(module("worker/src/lib.rs"), None);
}
