//! Progress of documents on stderr: a bar per document on a terminal, a line per step elsewhere.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::watch::line;
use crate::{
    cli::{Invocation, table},
    ops::documents::Document,
};

/// Bars at a time: what fits on a screen. The others get theirs when one is done.
const BARS_MAX: usize = 20;
/// A line is printed elsewhere than on a terminal whenever a document has come this much further, in per cent.
const LINE_STEP: f64 = 10.0;
/// Characters of a file name in a bar.
const NAME_CHARS_MAX: usize = 32;

/// Where progress is shown.
pub(super) enum View {
    /// On a terminal.
    Bars(Bars),
    /// In a log.
    Lines(HashMap<Uuid, String>),
    /// Nowhere.
    Silent,
}

impl View {
    pub(super) fn new(context: &Invocation) -> Self {
        if context.draws() {
            return Self::Bars(Bars::new());
        }
        if context.quiet {
            Self::Silent
        } else {
            Self::Lines(HashMap::new())
        }
    }

    /// Takes over the latest reading of the documents that were open.
    pub(super) fn update(&mut self, documents: &[Document]) {
        match self {
            Self::Bars(bars) => bars.update(documents),
            Self::Lines(told) => documents.iter().for_each(|document| tell(told, document)),
            Self::Silent => {}
        }
    }
}

fn tell(told: &mut HashMap<Uuid, String>, document: &Document) {
    let stage = document.current_stage().map_or("", |s| s.stage.as_str());
    // What makes a new line: another state, another stage, or a step further.
    let step = format!(
        "{} {stage} {:.0}",
        document.state,
        (document.progress / LINE_STEP).floor()
    );
    if told.insert(document.id, step.clone()).as_ref() != Some(&step) {
        table::say(&format!(
            "{:>3.0} % {} {}",
            document.progress.floor(),
            table::printable(&document.name),
            table::printable(&line(document))
        ));
    }
}

/// Bars of the documents that are being worked on; what is done scrolls away above them.
pub(super) struct Bars {
    screen: MultiProgress,
    style: ProgressStyle,
    shown: HashMap<Uuid, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:32!} {bar:30.cyan/dim} {percent:>3} % {wide_msg}",
        );
        Self {
            screen: MultiProgress::new(),
            style: style.unwrap_or_else(|_| ProgressStyle::default_bar()),
            shown: HashMap::new(),
        }
    }

    fn update(&mut self, documents: &[Document]) {
        for document in documents {
            if document.is_final() {
                self.finish(document);
            } else if self.shown.contains_key(&document.id) || self.shown.len() < BARS_MAX {
                self.bar(document)
                    .set_position(document.progress.floor() as u64);
            }
        }
    }

    fn bar(&mut self, document: &Document) -> &ProgressBar {
        let (screen, style) = (&self.screen, &self.style);
        let bar = self.shown.entry(document.id).or_insert_with(|| {
            let name: String = table::printable(&document.name)
                .chars()
                .take(NAME_CHARS_MAX)
                .collect();
            screen
                .add(ProgressBar::new(100))
                .with_style(style.clone())
                .with_prefix(name)
        });
        bar.set_message(table::printable(&line(document)));
        bar
    }

    fn finish(&mut self, document: &Document) {
        if let Some(bar) = self.shown.remove(&document.id) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
        let mark = if document.state == "completed" {
            "✓"
        } else {
            "✗"
        };
        // A terminal that has gone shows nothing, and the watching goes on.
        let _ = self.screen.println(format!(
            "{mark} {} {}",
            table::printable(&document.name),
            table::printable(&line(document))
        ));
    }
}
