//! Tiny PDF files written by hand for the tests, good ones and hostile ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests take the tools from the PATH of whoever runs them"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::sandbox::Sandbox;

/// A folder of its own for one test, and a sandbox that works in it.
pub(in super::super::super) struct Scratch {
    dir: tempfile::TempDir,
    pub(in super::super::super) sandbox: Sandbox,
}

impl Scratch {
    pub(in super::super::super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new(search_path(), dir.path());
        Self { dir, sandbox }
    }

    pub(in super::super::super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(in super::super::super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Where the tools are.
pub(super) fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap()
}

/// A PDF of these objects, numbered from 1; object 1 is the catalogue. `extra` goes into the trailer.
pub(super) fn pdf(objects: &[Vec<u8>], extra: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", bytes.len()).unwrap();
        bytes.extend(format!("{} 0 obj\n", index + 1).bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let start = bytes.len();
    let trailer = format!(
        "trailer\n<</Size {} /Root 1 0 R {extra}>>\nstartxref\n{start}\n%%EOF\n",
        objects.len() + 1
    );
    bytes.extend(table.bytes().chain(trailer.bytes()));
    bytes
}

pub(super) fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("<<{dictionary} /Length {}>>\nstream\n", content.len()).into_bytes();
    bytes.extend(content);
    bytes.extend(b"\nendstream");
    bytes
}

/// A page for each list of lines, 14 points apart, Helvetica 12.
pub(super) fn text_pages(pages: &[&[&str]]) -> Vec<u8> {
    let contents = pages.iter().map(|lines| {
        let shown = lines
            .iter()
            .map(|line| format!("({line}) Tj T* "))
            .collect::<Vec<_>>()
            .concat();
        format!("BT /F 12 Tf 14 TL 50 750 Td {shown} ET")
    });
    drawn_pages(&contents.collect::<Vec<_>>())
}

/// A page for each content stream; the fonts are `/F` (Helvetica). The title is `A sample`.
pub(super) fn drawn_pages(contents: &[String]) -> Vec<u8> {
    let mut objects: Vec<Vec<u8>> = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        Vec::new(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>".to_vec(),
        b"<</Title (A sample)>>".to_vec(),
    ];
    let mut kids = String::new();
    for content in contents {
        let page = objects.len() + 1;
        write!(kids, "{page} 0 R ").unwrap();
        let resources = "/Resources <</Font <</F 3 0 R>>>>";
        objects.push(format!("<</Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] {resources} /Contents {} 0 R>>", page + 1).into());
        objects.push(stream("", content.as_bytes()));
    }
    objects[1] = format!("<</Type /Pages /Kids [{kids}] /Count {}>>", contents.len()).into();
    pdf(&objects, "/Info 4 0 R")
}

/// Many empty pages.
pub(in super::super::super) fn empty_pages(pages: u32) -> Vec<u8> {
    let kids = (0..pages)
        .map(|page| format!("{} 0 R ", page + 3))
        .collect::<Vec<_>>()
        .concat();
    let mut objects = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        format!("<</Type /Pages /Kids [{kids}] /Count {pages}>>").into(),
    ];
    objects.resize(
        pages as usize + 2,
        b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 100 100]>>".to_vec(),
    );
    pdf(&objects, "")
}

/// The page tree is its own child.
pub(super) fn looped_page_tree() -> Vec<u8> {
    let tree = b"<</Type /Pages /Kids [2 0 R 2 0 R] /Count 4>>".to_vec();
    pdf(&[b"<</Type /Catalog /Pages 2 0 R>>".to_vec(), tree], "")
}

/// Encrypted (standard handler, revision 2) with a user password that nobody knows.
pub(super) fn locked() -> Vec<u8> {
    let key = "41".repeat(32);
    let encryption = format!(
        "/Encrypt <</Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4>> /ID [<00><00>]"
    );
    pdf(
        &[
            b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
            b"<</Type /Pages /Kids [] /Count 0>>".to_vec(),
        ],
        &encryption,
    )
}

/// A page that draws image objects `images` = (dictionary without length, content), and then `inline` operators.
pub(super) fn image_page(images: &[(&str, &[u8])], inline: &str) -> Vec<u8> {
    let names = (0..images.len())
        .map(|index| format!("/I{index} {} 0 R ", index + 5))
        .collect::<Vec<_>>()
        .concat();
    let drawn = (0..images.len())
        .map(|index| format!("q 50 0 0 50 10 10 cm /I{index} Do Q\n"))
        .collect::<Vec<_>>()
        .concat();
    let mut objects = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        b"<</Type /Pages /Kids [3 0 R] /Count 1>>".to_vec(),
        format!("<</Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Resources <</XObject <<{names}>>>> /Contents 4 0 R>>").into(),
        stream("", format!("{drawn}{inline}").as_bytes()),
    ];
    objects.extend(images.iter().map(|(dictionary, content)| {
        stream(
            &format!("/Type /XObject /Subtype /Image {dictionary}"),
            content,
        )
    }));
    pdf(&objects, "")
}
