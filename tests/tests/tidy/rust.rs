//! As much of Rust as the laws need: what is code, what is a literal, what is a comment, and what is only compiled in tests.

use std::{collections::HashSet, path::Path};

use anyhow::Result;

use super::tree::{Source, sources_with};

/// A Rust file taken apart.
pub(crate) struct Rust {
    pub(crate) source: Source,
    /// The text with comments and literals blanked, byte for byte as long.
    pub(crate) code: String,
    /// Where each string literal begins, and its text between the quotes, escapes as written.
    pub(crate) literals: Vec<(usize, String)>,
    /// Not part of any program: a crate or module of tests, or a build script.
    pub(crate) is_test: bool,
}

impl Rust {
    pub(crate) fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.source.path, self.source.line_of(offset))
    }

    /// String literals outside `#[cfg(test)]`.
    pub(crate) fn program_literals(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = if self.is_test {
            vec![(0, self.code.len())]
        } else {
            test_modules(&self.code)
        };
        self.literals
            .iter()
            .filter(move |(at, _)| !tests.iter().any(|(from, to)| (from..to).contains(&at)))
            .map(|(at, text)| (*at, text.as_str()))
    }

    /// Where `what` stands in code outside `#[cfg(test)]`.
    pub(crate) fn program_code(&self, what: &str) -> Vec<usize> {
        let tests = if self.is_test {
            vec![(0, self.code.len())]
        } else {
            test_modules(&self.code)
        };
        self.code
            .match_indices(what)
            .map(|(at, _)| at)
            .filter(|at| !tests.iter().any(|(from, to)| (from..to).contains(&at)))
            .collect()
    }
}

/// All Rust files of the repository.
pub(crate) fn files() -> Result<Vec<Rust>> {
    let mut files: Vec<Rust> = sources_with("rs")?.into_iter().map(take_apart).collect();
    let tests: HashSet<String> = files.iter().flat_map(test_files).collect();
    for file in &mut files {
        let path = &file.source.path;
        let folder_of_tests = tests
            .iter()
            .any(|test| path.starts_with(&format!("{}/", test.trim_end_matches(".rs"))));
        file.is_test = path.starts_with("tests/")
            || path.ends_with("/build.rs")
            || path.contains("/tests/")
            || tests.contains(path)
            || folder_of_tests;
    }
    Ok(files)
}

fn take_apart(source: Source) -> Rust {
    let (code, literals) = scan(&source.text);
    Rust {
        source,
        code,
        literals,
        is_test: false,
    }
}

/// Files that a `#[cfg(test)] mod name;` of this file brings in.
fn test_files(file: &Rust) -> Vec<String> {
    let path = Path::new(&file.source.path);
    let stem = path
        .file_stem()
        .and_then(|s| s.to_str())
        .unwrap_or_default();
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    let folder = if ["mod", "lib", "main"].contains(&stem) {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut found = Vec::new();
    for (at, attribute) in file.code.match_indices("#[cfg(test)]") {
        let item = skip_attributes(&file.code[at + attribute.len()..]);
        let Some((_, declared)) = item.split_once("mod ") else {
            continue;
        };
        let end = declared.find([';', '{']).unwrap_or(declared.len());
        // The nearest item is a module of its own file only if nothing but a visibility stands before `mod`.
        if item.len() - declared.len() <= "pub(crate) mod ".len()
            && declared[end..].starts_with(';')
        {
            found.push(format!("{folder}/{}.rs", declared[..end].trim()));
        }
    }
    found
}

fn skip_attributes(code: &str) -> &str {
    let mut rest = code.trim_start();
    while rest.starts_with("#[") {
        let Some(end) = rest.find(']') else { break };
        rest = rest[end + 1..].trim_start();
    }
    rest
}

/// From each `#[cfg(test)]` to the closing brace of what it stands before.
fn test_modules(code: &str) -> Vec<(usize, usize)> {
    let spans = code.match_indices("#[cfg(test)]").filter_map(|(at, _)| {
        let end = code[at..].find([';', '{'])? + at;
        code[end..]
            .starts_with('{')
            .then(|| (at, closing(code, end)))
    });
    spans.collect()
}

/// The offset behind the brace that closes the one at `open`.
pub(crate) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

/// Blanks comments and literals; lines stay where they are.
fn scan(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                text[at..].find('\n').map_or(text.len(), |n| at + n)
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                text[at..].find("*/").map_or(text.len(), |n| at + n + 2)
            }
            b'"' => {
                let end = end_of_string(bytes, at + 1);
                literals.push((at, text[at + 1..end - 1].to_owned()));
                end
            }
            b'r' if starts_raw(bytes, at) => {
                let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
                let close = format!("\"{}", "#".repeat(hashes));
                let begin = at + hashes + 2;
                let end = text[begin..].find(&close).map_or(text.len(), |n| begin + n);
                literals.push((at, text[begin..end].to_owned()));
                end + close.len()
            }
            b'\'' => end_of_char(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            code[at..end]
                .iter_mut()
                .filter(|b| **b != b'\n')
                .for_each(|b| *b = b' ');
        }
        at = end;
    }
    (String::from_utf8_lossy(&code).into_owned(), literals)
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `r"…"` or `r#"…"#`, and not the end of a name or a raw identifier.
fn starts_raw(bytes: &[u8], at: usize) -> bool {
    let named = at > 0
        && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
        && bytes[at - 1] != b'b';
    let quote = bytes[at + 1..].iter().find(|b| **b != b'#');
    !named && quote == Some(&b'"')
}

/// A char literal, or one byte if it is a lifetime.
fn end_of_char(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at + 1..];
    let length = match rest.first() {
        Some(b'\\') => rest.iter().skip(2).position(|b| *b == b'\'').map(|n| n + 3),
        // At most one character of four bytes between the quotes.
        Some(_) => rest
            .iter()
            .take(5)
            .skip(1)
            .position(|b| *b == b'\'')
            .map(|n| n + 2)
            .filter(|n| *n == 2 || rest[0] >= 0x80),
        None => None,
    };
    at + 1 + length.unwrap_or(0)
}

#[test]
fn code_literals_and_comments_are_told_apart() {
    let (code, literals) =
        scan("let a = \"{\\\"\"; // {\nlet b = r#\"x\"y\"#; 'c: '{' '\\'' b\"}\"");
    assert_eq!(
        literals
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>(),
        ["{\\\"", "x\"y", "}"]
    );
    assert!(
        !code.contains(['{', '}']) && code.contains("'c:") && code.lines().count() == 2,
        "{code}"
    );
}
