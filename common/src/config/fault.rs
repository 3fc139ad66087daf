//! What is wrong with the settings, in words that hold no secret: neither a value of a secret setting nor a line of the file.

use figment::{
    Error, Figment,
    error::{Actual, Kind},
};

use super::secret::SECRETS;

/// All faults as one line.
pub(super) fn told(faults: Error, defaults: &Figment) -> String {
    let lines: Vec<_> = faults
        .into_iter()
        .map(|fault| one(fault, defaults))
        .collect();
    lines.join("; ")
}

fn one(mut fault: Error, defaults: &Figment) -> String {
    let path = fault.path.join(".");
    match &mut fault.kind {
        Kind::Message(text) => *text = without_source(text),
        Kind::InvalidType(found, _) | Kind::InvalidValue(found, _)
            if !may_be_shown(&path, defaults) =>
        {
            *found = Actual::Other("a value that is not shown".into());
        }
        _ => {}
    }
    fault.to_string()
}

/// A value is shown of a setting that is known and no secret. What stands in the place of a section may be anything.
fn may_be_shown(path: &str, defaults: &Figment) -> bool {
    !SECRETS.contains(&path)
        && defaults
            .find_value(path)
            .is_ok_and(|default| default.as_dict().is_none())
}

/// The parser of the file quotes the line that it does not understand. Where and why are enough.
fn without_source(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines[..] {
        [place, .., reason] => format!("{place}: {reason}"),
        _ => text.to_owned(),
    }
}
