//! What goes when a migration is taken back, read from the statements that take it back.
//!
//! Somebody who is asked whether to go on must know what is destroyed by this very step, so nothing is told by hand. A test takes back every
//! migration, and steps of other shapes, and compares. It does not know how many rows there are.

use std::sync::LazyLock;

use regex::Regex;

/// What one step takes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reverted {
    /// The migration.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Tables that go with all rows.
    pub tables: Vec<String>,
    /// Columns that go, as `table.column`.
    pub columns: Vec<String>,
    /// Tables of which some rows go.
    pub rows_of: Vec<String>,
}

impl Reverted {
    /// Nothing that somebody stored goes.
    pub fn keeps_all_data(&self) -> bool {
        self.tables.is_empty() && self.columns.is_empty() && self.rows_of.is_empty()
    }

    /// Reads the statements that take a migration back.
    pub fn read(version: i64, name: &str, sql: &str) -> Self {
        let comments = SHAPES.comment.replace_all(sql, "");
        // What a function says that is put back is not done now.
        let sql = SHAPES.body.replace_all(&comments, "");
        let mut reverted = Self {
            version,
            name: name.to_owned(),
            ..Self::default()
        };
        for statement in SHAPES.drop_table.captures_iter(&sql) {
            reverted.tables.extend(statement[1].split(',').map(table));
        }
        for statement in SHAPES.alter_table.captures_iter(&sql) {
            let dropped = SHAPES
                .drop_column
                .captures_iter(&statement[2])
                .filter(|found| !is_no_column(&found[1]));
            reverted
                .columns
                .extend(dropped.map(|found| format!("{}.{}", table(&statement[1]), &found[1])));
        }
        reverted.rows_of.extend(
            SHAPES
                .delete
                .captures_iter(&sql)
                .map(|found| table(&found[1])),
        );
        reverted
    }
}

struct Shapes {
    comment: Regex,
    body: Regex,
    drop_table: Regex,
    alter_table: Regex,
    drop_column: Regex,
    delete: Regex,
}

#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, and every test of this file compiles them"
)]
static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let shape = |text| Regex::new(text).expect("a constant pattern compiles");
    Shapes {
        comment: shape(r"--[^\n]*"),
        body: shape(r"(?is)\bAS \$\w*\$.*?\$\w*\$"),
        drop_table: shape(r"(?i)\bDROP TABLE (?:IF EXISTS )?([^;]+);"),
        alter_table: shape(r"(?i)\bALTER TABLE (\S+)([^;]+);"),
        drop_column: shape(r"(?i)\bDROP (?:COLUMN )?(?:IF EXISTS )?(\w+)"),
        delete: shape(r"(?i)\b(?:DELETE FROM|TRUNCATE) (\S+)"),
    }
});

fn is_no_column(word: &str) -> bool {
    ["constraint", "default", "not", "expression", "identity"]
        .contains(&word.to_ascii_lowercase().as_str())
}

fn table(name: &str) -> String {
    let name = name.split_whitespace().next().unwrap_or_default();
    name.strip_prefix("millstream.")
        .unwrap_or(name)
        .trim_end_matches(';')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // X32
    #[test]
    fn x32_only_what_is_done_now_is_told() {
        let sql = "-- DROP TABLE millstream.a;\nDROP TABLE millstream.b,\n  millstream.c CASCADE;\nALTER TABLE millstream.d DROP COLUMN e, DROP f;
            ALTER TABLE millstream.d DROP CONSTRAINT g;\nCREATE FUNCTION h() RETURNS void AS $$ DELETE FROM millstream.i; $$;\nDELETE FROM millstream.j WHERE k;";
        let told = Reverted::read(7, "x", sql);
        assert_eq!(
            (told.tables, told.columns, told.rows_of),
            (
                vec!["b".into(), "c".into()],
                vec!["d.e".into(), "d.f".into()],
                vec!["j".into()]
            )
        );
        assert!(
            Reverted::read(15, "x", "ALTER TABLE millstream.parcel ALTER tenant_id RESET (n_distinct);\nANALYZE millstream.parcel;")
                .keeps_all_data()
        );
    }
}
