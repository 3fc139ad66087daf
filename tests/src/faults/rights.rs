//! The rights that Redis must give, as docs/operations.md lists them for people to copy.

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The rules of the documented `ACL SETUSER millstream`, word by word.
pub fn documented() -> Vec<&'static str> {
    let line = OPERATIONS
        .split("ACL SETUSER millstream")
        .nth(1)
        .expect("the line is in docs/operations.md");
    line.split("```")
        .next()
        .expect("it ends")
        .split_whitespace()
        .collect()
}

/// The commands among them without which work goes on straight from Postgres. INFO is asked for advice only.
pub fn needed() -> Vec<&'static str> {
    documented()
        .into_iter()
        .filter_map(|rule| rule.strip_prefix('+'))
        .filter(|right| *right != "info")
        .collect()
}
