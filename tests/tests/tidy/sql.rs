//! As much of SQL as the laws need: comments, and what a `SELECT *` selects from.

/// The text with `--` comments blanked, byte for byte as long.
pub(crate) fn without_comments(sql: &str) -> String {
    let mut code = sql.as_bytes().to_vec();
    for (at, _) in sql.match_indices("--") {
        let end = sql[at..].find('\n').map_or(sql.len(), |n| at + n);
        code[at..end].fill(b' ');
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Every `*` or `alias.*` that stands for the columns of a table, as (offset, table).
///
/// Our tables are always named with their schema, the system's begin with `pg_`; a name without a schema is a CTE or an alias, and a
/// name before a parenthesis is a function: their columns stand in the same statement or in its definition. `SELECT * INTO` fills
/// a variable of the table's row type, which has the table's columns by definition.
pub(crate) fn stars_of_tables(sql: &str) -> Vec<(usize, String)> {
    let tokens = tokens(sql);
    let mut found = Vec::new();
    for (nth, (at, token)) in tokens.iter().enumerate() {
        let after_select = nth > 0 && ["SELECT", "DISTINCT", ","].contains(&tokens[nth - 1].1);
        let alias = token
            .strip_suffix(".*")
            .or_else(|| (*token == "*" && after_select && tokens[nth - 1].1 != ",").then_some(""));
        let Some(alias) = alias.filter(|_| after_select) else {
            continue;
        };
        if tokens.get(nth + 1).is_some_and(|(_, next)| *next == "INTO") {
            continue;
        }
        found.extend(
            relation(&tokens[nth + 1..], alias)
                .filter(|name| is_table(name))
                .map(|name| (*at, name.to_owned())),
        );
    }
    found
}

/// What `alias` (or, if that is empty, the first item of the FROM clause) names.
fn relation<'a>(tokens: &[(usize, &'a str)], alias: &str) -> Option<&'a str> {
    let mut depth = 0;
    let mut from = None;
    for (nth, (_, token)) in tokens.iter().enumerate() {
        match *token {
            "(" => depth += 1,
            ")" if depth == 0 => break,
            ")" => depth -= 1,
            "FROM" | "JOIN" if depth == 0 => from = Some(nth + 1),
            _ => {}
        }
        let begins = from == Some(nth);
        let is_call = tokens.get(nth + 1).is_some_and(|(_, next)| *next == "(");
        if begins && alias.is_empty() {
            return (!is_call).then_some(*token);
        }
        let named = tokens.get(nth + 1).is_some_and(|(_, next)| *next == alias)
            || tokens.get(nth + 1).is_some_and(|(_, next)| *next == "AS")
                && tokens.get(nth + 2).is_some_and(|(_, next)| *next == alias);
        if begins && (named || *token == alias) {
            return Some(*token);
        }
    }
    None
}

fn is_table(name: &str) -> bool {
    name.contains('.') || name.starts_with("pg_")
}

/// Words, and commas and parentheses by themselves.
fn tokens(sql: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    for (at, c) in sql.char_indices() {
        let alone = matches!(c, ',' | '(' | ')' | ';');
        if !alone && !c.is_whitespace() {
            continue;
        }
        if from < at {
            found.push((from, &sql[from..at]));
        }
        from = at + 1;
        if alone {
            found.push((at, &sql[at..=at]));
        }
    }
    if from < sql.len() {
        found.push((from, &sql[from..]));
    }
    found
}

#[test]
fn stars_are_found_where_they_name_a_table() {
    let tables = |sql| {
        stars_of_tables(sql)
            .into_iter()
            .map(|(_, table)| table)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        tables("SELECT * FROM millstream.job WHERE x"),
        ["millstream.job"]
    );
    assert_eq!(
        tables("SELECT * FROM x JOIN (SELECT j.* FROM millstream.job AS j) y"),
        ["millstream.job"]
    );
    assert_eq!(
        tables("SELECT a.id, k.* FROM found a JOIN millstream.kind k ON true"),
        ["millstream.kind"]
    );
    assert_eq!(tables("SELECT DISTINCT * FROM pg_locks"), ["pg_locks"]);
    let fine = "SELECT * FROM unnest($1) AS u(id) UNION SELECT * FROM millstream.rehand($1) UNION SELECT r.*, 1 FROM released r UNION SELECT count(*), 2 * 3 FROM millstream.job";
    assert!(tables(fine).is_empty());
    assert!(tables("SELECT * INTO following FROM millstream.stage").is_empty());
}
