//! Text out of PDF files: order, spaces, scripts.

use std::{collections::BTreeSet, path::PathBuf};

use millstream_documents::tools::{
    Sandbox,
    normalise::normalise,
    pdf::{self, PageRead},
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("data/pdf")
        .join(name)
}

/// The first page.
async fn read(name: &str) -> PageRead {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new(std::env::var_os("PATH").unwrap(), folder.path());
    pdf::page_texts(
        &sandbox,
        &data(name),
        &std::collections::BTreeSet::new(),
        1,
        1,
    )
    .await
    .unwrap()
    .remove(0)
}

/// What the pipeline stores as the text of the first page.
async fn text_of(name: &str) -> String {
    normalise(&read(name).await.text)
}

/// Every space counts, but not whether it is a space or the end of a paragraph.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was typed is what is read.
async fn assert_read(name: &str) {
    let typed = std::fs::read_to_string(data(&format!("scripts/{name}.txt"))).unwrap();
    assert_eq!(
        spaced(&text_of(&format!("scripts/{name}.pdf")).await),
        spaced(&normalise(&typed.replace('\n', "\n\n"))),
        "{name}"
    );
}

// X40
#[tokio::test]
async fn x40_hebrew_is_stored_in_the_order_of_reading() {
    assert_eq!(text_of("hebrew.pdf").await, "שלום עולם");
}

// X40
#[tokio::test]
async fn x40_right_to_left_text_reads_as_it_was_typed_with_latin_and_numbers_in_it() {
    for name in ["hebrew", "arabic", "mixed"] {
        assert_read(name).await;
    }
}

// X40: cairo draws right-to-left text letter by letter, the ligatures of Arabic as one glyph
#[tokio::test]
async fn x40_text_that_is_drawn_letter_by_letter_reads_as_it_was_typed() {
    for name in ["hebrew-cairo", "arabic-cairo", "thai-cairo"] {
        assert_read(name).await;
    }
}

// X45
#[tokio::test]
async fn x45_words_of_text_that_is_turned_stand_apart() {
    let text = text_of("sidecaption.pdf").await;
    assert_eq!(
        text,
        "Normal text on the same page that reads well and a second line\n\nA side caption printed turned by ninety degrees"
    );
    let text = text_of("stamp.pdf").await;
    assert!(
        text.ends_with("arXiv:2510.25665v1 [cs.SE] 29 Oct 2025"),
        "{text}"
    );
    let places = [
        "left line 1 tells its story",
        "left line 40 tells",
        "right line 1 tells",
        "right line 40 tells",
    ];
    let places = places.map(|words| {
        text.find(words)
            .unwrap_or_else(|| panic!("{words}: {text}"))
    });
    assert!(places.is_sorted(), "{text}");
}

// X45
#[tokio::test]
async fn x45_text_that_is_drawn_twice_is_read_once() {
    let text = text_of("fakebold.pdf").await;
    assert_eq!(
        text.matches("Invoice total EUR 1234.50").count(),
        1,
        "{text}"
    );
}

/// The windows of eight letters of the sentence that are not in the text.
fn lost(text: &str) -> (usize, BTreeSet<String>) {
    let sentence: Vec<char> = "人工智能系统处理大量文档时需要准确提取每一页的文字内容并且按照阅读顺序排列才能支持后续检索\
        和问答功能否则用户搜索短语时会找不到应该出现的结果因此换行处不应插入空格也不应把一个词语分成两半"
        .chars()
        .collect();
    let windows = sentence
        .windows(8)
        .map(|window| window.iter().collect::<String>())
        .collect::<Vec<_>>();
    (
        windows.len(),
        windows
            .into_iter()
            .filter(|window| !text.contains(window))
            .collect(),
    )
}

// X46
#[tokio::test]
async fn x46_no_words_of_chinese_are_lost_where_lines_join() {
    for name in ["cjk45.pdf", "cjk30.pdf"] {
        let (windows, lost) = lost(&text_of(name).await);
        assert_eq!((windows, lost), (86, BTreeSet::new()), "{name}");
    }
}

// X46
#[tokio::test]
async fn x46_han_and_kana_join_without_a_space_and_hangul_keeps_its_spaces() {
    for name in ["han", "kana", "hangul"] {
        assert_read(name).await;
    }
}

// X42
#[tokio::test]
async fn x42_text_that_needs_tables_of_poppler_is_read_and_what_cannot_be_read_is_told() {
    assert!(
        text_of("japan1.pdf").await.ends_with("こんにちは世界"),
        "poppler's tables are missing: `make setup` installs poppler-data"
    );
    let page = read("nowhere1.pdf").await;
    assert_eq!(
        page.text,
        "A page with a font of a collection that does not exist"
    );
    assert!(
        page.complaints[0].contains("Unknown character collection 'Adobe-Nowhere1'"),
        "{page:?}"
    );
    for installer in ["../scripts/setup.sh", "../deploy/Dockerfile"] {
        let text =
            std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(installer))
                .unwrap();
        assert!(text.contains("poppler-utils poppler-data"), "{installer}");
    }
}

// X47
#[tokio::test]
async fn x47_text_of_a_font_that_does_not_say_its_letters_is_doubted() {
    assert!(read("nounicode.pdf").await.is_doubtful);
    for name in [
        "hebrew.pdf",
        "cjk45.pdf",
        "stamp.pdf",
        "xfa.pdf",
        "japan1.pdf",
        "scripts/thai-cairo.pdf",
        "scripts/arabic.pdf",
    ] {
        assert!(!read(name).await.is_doubtful, "{name}");
    }
}
