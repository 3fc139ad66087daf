//! As much of Markdown as the laws need: links, headings, code.

use std::collections::BTreeMap;

/// A document without its code blocks, and the code that stood in it.
pub(crate) struct Markdown {
    /// Lines with their numbers; lines of code blocks are empty, inline code is blanked.
    pub(crate) prose: Vec<(usize, String)>,
    /// Inline code, with its line.
    pub(crate) spans: Vec<(usize, String)>,
    /// Fenced blocks: line of the fence, language, lines.
    pub(crate) blocks: Vec<(usize, String, Vec<String>)>,
    headings: Vec<String>,
}

impl Markdown {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self {
            prose: Vec::new(),
            spans: Vec::new(),
            blocks: Vec::new(),
            headings: Vec::new(),
        };
        let mut fenced = false;
        for (nth, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                if !fenced {
                    parsed
                        .blocks
                        .push((nth + 1, language.trim().to_owned(), Vec::new()));
                }
                fenced = !fenced;
            } else if fenced {
                parsed
                    .blocks
                    .iter_mut()
                    .last()
                    .into_iter()
                    .for_each(|(_, _, lines)| lines.push(line.to_owned()));
            } else {
                parsed.line(nth + 1, line);
            }
        }
        parsed
    }

    fn line(&mut self, number: usize, line: &str) {
        if line.starts_with('#') {
            self.headings
                .push(line.trim_start_matches('#').trim().to_owned());
        }
        let mut prose = String::new();
        for (nth, part) in line.split('`').enumerate() {
            if nth % 2 == 0 {
                prose.push_str(part);
            } else {
                self.spans.push((number, part.to_owned()));
            }
        }
        self.prose.push((number, prose));
    }

    /// Where links lead, with their lines: `[text](target)`.
    pub(crate) fn links(&self) -> Vec<(usize, &str)> {
        self.prose
            .iter()
            .flat_map(|(number, line)| {
                line.split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next())
                    .map(|target| (*number, target))
            })
            .collect()
    }

    /// The anchors that headings give, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let number = |slug: String| {
            let before = seen.entry(slug.clone()).or_default();
            *before += 1;
            if *before == 1 {
                slug
            } else {
                format!("{slug}-{}", *before - 1)
            }
        };
        self.headings
            .iter()
            .map(|heading| slug(heading))
            .map(number)
            .collect()
    }
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}

#[test]
fn anchors_are_those_of_github() {
    let parsed = Markdown::parse(
        "# Bird's-eye `view`\n## A, b\n## A, b\n```sh\n# no heading\n```\nSee [x](y#z) and `[no](link)`.",
    );
    assert_eq!(parsed.anchors(), ["birds-eye-view", "a-b", "a-b-1"]);
    assert_eq!(parsed.links(), [(7, "y#z")]);
    assert_eq!(
        parsed.blocks,
        [(4, "sh".to_owned(), vec!["# no heading".to_owned()])]
    );
}
