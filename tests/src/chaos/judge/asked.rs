//! I1 and I2: what was answered OK is there and final; what is there or ran was asked for.

use std::collections::{BTreeMap, HashMap};

use super::{Broken, Evidence, Row, Verdict, Violation, state};
use crate::chaos::journal::{Event, Micros, Token};

/// What became of the asking for one piece of work.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) at: Micros,
    pub(super) ok: Option<Micros>,
    refused: bool,
    pub(super) may_die: bool,
}

/// By token.
pub(super) type AllAsked = HashMap<Token, Asked>;

/// From the journals of producers.
pub(super) fn collect(evidence: &Evidence, verdict: &mut Verdict) -> AllAsked {
    let mut all = AllAsked::new();
    for (process, lines) in &evidence.journals {
        for line in lines {
            let answered: (Token, fn(&mut Asked, Micros)) = match &line.event {
                Event::Intent(token) | Event::Document(token) => {
                    if all
                        .insert(
                            *token,
                            Asked {
                                at: line.at,
                                ..Asked::default()
                            },
                        )
                        .is_some()
                    {
                        verdict.violations.push(Violation::new(
                            Broken::Case,
                            line.at,
                            format!("{process} used token {token} again"),
                        ));
                    }
                    continue;
                }
                Event::Ok(token, _) => (*token, |asked, at| asked.ok = asked.ok.or(Some(at))),
                Event::Failed(token, _) => (*token, |asked, _| asked.refused = true),
                Event::Doomed(token) => (*token, |asked, _| asked.may_die = true),
                _ => continue,
            };
            answered.1(all.entry(answered.0).or_default(), line.at);
        }
    }
    all
}

/// What is there under one token.
#[derive(Default)]
struct There<'a> {
    rows: Vec<&'a Row>,
    documents: Vec<&'a str>,
}

pub(super) fn check(evidence: &Evidence, asked: &AllAsked, verdict: &mut Verdict) {
    let mut there: BTreeMap<Token, There> = BTreeMap::new();
    for row in &evidence.rows {
        match row.token {
            Some(token) => there.entry(token).or_default().rows.push(row),
            None if row.kind.starts_with("chaos.") => {
                verdict.violations.push(Violation::new(
                    Broken::Phantom,
                    None,
                    format!("job {} has no token", row.job),
                ));
            }
            None if !is_final(row.state) => verdict.violations.push(unfinished(row, None)),
            None => {}
        }
    }
    for document in &evidence.documents {
        there
            .entry(document.token.unwrap_or_default())
            .or_default()
            .documents
            .push(&document.state);
    }
    verdict.violations.extend(
        asked
            .iter()
            .filter_map(|(token, asked)| lost(*token, asked, there.get(token))),
    );
    verdict.violations.extend(
        there
            .iter()
            .filter_map(|(token, there)| phantom(*token, asked.get(token), there)),
    );
    for (token, there) in &there {
        let at = asked.get(token).and_then(|asked| asked.ok);
        verdict.violations.extend(
            there
                .rows
                .iter()
                .filter(|row| !is_final(row.state))
                .map(|row| unfinished(row, at)),
        );
        let open = there
            .documents
            .iter()
            .filter(|state| !["completed", "failed"].contains(state));
        verdict.violations.extend(
            open.map(|state| {
                Violation::new(Broken::Lost, at, format!("document {token} is {state}"))
            }),
        );
    }
}

fn is_final(number: i16) -> bool {
    [state::COMPLETED, state::CANCELLED, state::DEAD].contains(&number)
}

fn unfinished(row: &Row, at: Option<Micros>) -> Violation {
    let token = row
        .token
        .map_or_else(String::new, |token| format!(", token {token}"));
    Violation::new(
        Broken::Lost,
        at,
        format!(
            "job {} ({}{token}) is not final: state {} epoch {}",
            row.job, row.kind, row.state, row.epoch
        ),
    )
}

fn lost(token: Token, asked: &Asked, there: Option<&There>) -> Option<Violation> {
    let count = there.map_or(0, |there| there.rows.len() + there.documents.len());
    (asked.ok.is_some() && count == 0).then(|| {
        Violation::new(
            Broken::Lost,
            asked.ok,
            format!("token {token} was answered OK and is nowhere"),
        )
    })
}

fn phantom(token: Token, asked: Option<&Asked>, there: &There) -> Option<Violation> {
    let count = there.rows.len() + there.documents.len();
    let text = match asked {
        None => format!("token {token} is there and nobody asked for it"),
        Some(asked) if asked.refused && asked.ok.is_none() => {
            format!("token {token} was refused and is there")
        }
        Some(_) if count > 1 => format!("token {token} is there {count} times"),
        Some(_) => return None,
    };
    Some(Violation::new(
        Broken::Phantom,
        asked.map(|asked| asked.at),
        text,
    ))
}
