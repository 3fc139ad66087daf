//! What a stranger must read first is short: the size of the map, the length of sentences and of lines.

use anyhow::Result;

use super::{
    markdown::Markdown,
    tree::{none, read, sources_with},
};

/// Ten minutes of reading.
const MAP_BYTES_MAX: usize = 20_000;
/// Of the README and the map. Most sentences should have at most 25.
const SENTENCE_WORDS_MAX: usize = 40;
/// Of a line of Markdown outside tables and code, in characters.
const LINE_CHARS_MAX: usize = 100;

#[test]
fn the_architecture_is_a_map_that_one_reads_in_ten_minutes() -> Result<()> {
    let bytes = read("ARCHITECTURE.md")?.len();
    assert!(
        bytes <= MAP_BYTES_MAX,
        "{bytes} bytes, {MAP_BYTES_MAX} allowed: details belong to the module docs of the file that does them"
    );
    Ok(())
}

#[test]
fn no_sentence_of_the_readme_or_the_architecture_is_long() -> Result<()> {
    let mut broken = Vec::new();
    for path in ["README.md", "ARCHITECTURE.md"] {
        for (line, sentence) in sentences(&read(path)?) {
            let words = sentence.split_whitespace().count();
            if words > SENTENCE_WORDS_MAX {
                broken.push(format!("{path}:{line}: {words} words: {sentence}"));
            }
        }
    }
    none(
        &format!("sentences of more than {SENTENCE_WORDS_MAX} words"),
        &broken,
    )
}

#[test]
fn the_documents_are_wrapped() -> Result<()> {
    let mut broken = Vec::new();
    for document in sources_with("md")? {
        if document.path.contains('/') && !document.path.starts_with("docs/") {
            continue;
        }
        for (number, line) in prose(&document.text) {
            let bare = one_word_for_code(line.trim());
            let can_be_broken = bare.contains(' ') && !bare.starts_with(['|', '#']);
            if can_be_broken && line.chars().count() > LINE_CHARS_MAX {
                broken.push(format!("{}:{number}", document.path));
            }
        }
    }
    none(
        &format!("lines of more than {LINE_CHARS_MAX} characters"),
        &broken,
    )
}

/// The lines outside code blocks, as they stand.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let numbers = Markdown::parse(text).prose;
    numbers
        .into_iter()
        .filter_map(move |(number, _)| Some((number, *lines.get(number - 1)?)))
}

/// Every sentence with the line at which its paragraph, list item or table row begins. Inline code counts as one word.
fn sentences(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let mut before = 0;
    let mut open = false;
    for (number, line) in prose(text) {
        let line = one_word_for_code(line.trim_start_matches('>').trim());
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let begins = ["- ", "* ", ". "].iter().any(|mark| item.starts_with(mark));
        if let Some(cells) = line.strip_prefix('|') {
            paragraphs.extend(cells.split('|').map(|cell| (number, cell.to_owned())));
        } else if open && !begins && number == before + 1 {
            if let Some((_, paragraph)) = paragraphs.iter_mut().last() {
                paragraph.push(' ');
                paragraph.push_str(&line);
            }
        } else {
            paragraphs.push((number, line.clone()));
        }
        open = !line.is_empty() && !line.starts_with(['|', '#']);
        before = number;
    }
    paragraphs
        .into_iter()
        .flat_map(|(number, paragraph)| {
            split(&paragraph)
                .into_iter()
                .map(move |sentence| (number, sentence))
        })
        .collect()
}

fn one_word_for_code(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts
        .map(|(nth, part)| if nth % 2 == 0 { part } else { "code" })
        .collect()
}

/// At words that end with a full stop, a question mark or an exclamation mark.
fn split(paragraph: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for word in paragraph.split_whitespace() {
        if let Some(sentence) = found.last_mut() {
            *sentence += word;
            sentence.push(' ');
        }
        if word
            .trim_end_matches([')', '"', '*'])
            .ends_with(['.', '?', '!'])
        {
            found.push(String::new());
        }
    }
    found
}

#[test]
fn sentences_end_with_their_paragraph_item_or_cell() {
    let text = "# A b\nOne two. Three\n`four five` six.\n- seven\n  eight\n- nine\n\n| ten | eleven. Twelve |\n|---|---|\n> \"Said.\" Ten\n> more";
    let found: Vec<String> = sentences(text)
        .into_iter()
        .map(|(line, sentence)| format!("{line} {}", sentence.trim()))
        .filter(|sentence| sentence.contains(|c: char| c.is_alphabetic()))
        .collect();
    assert_eq!(
        found,
        [
            "1 # A b",
            "2 One two.",
            "2 Three code six.",
            "4 - seven eight",
            "6 - nine",
            "8 ten",
            "8 eleven.",
            "8 Twelve",
            "10 \"Said.\"",
            "10 Ten more",
        ]
    );
}
