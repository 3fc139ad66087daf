//! The states of a job stand in three places: the code, the trigger of the database, and ARCHITECTURE.md.

use anyhow::{Context as _, Result};
use millstream_common::state::State;

use super::tree::read;

/// The states that may follow, as a set of bits.
fn bits(state: State) -> u32 {
    state.next().iter().map(|next| 1 << next.number()).sum()
}

// F2
#[test]
fn the_state_table_of_the_architecture_equals_the_code() -> Result<()> {
    let text = read("ARCHITECTURE.md")?;
    let (_, table) = text
        .split_once("<!-- state-table:begin -->")
        .context("no state table")?;
    let (table, _) = table
        .split_once("<!-- state-table:end -->")
        .context("the state table has no end")?;
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut told = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, from, to, _] = cells[..] else {
            anyhow::bail!("not two cells: {row}")
        };
        let next: Result<Vec<State>, String> = if to == "—" {
            Ok(Vec::new())
        } else {
            to.split(", ").map(str::parse).collect()
        };
        told.push((
            from.parse::<State>().map_err(anyhow::Error::msg)?,
            next.map_err(anyhow::Error::msg)?,
        ));
    }
    assert_eq!(told, State::ALL.map(|state| (state, state.next().to_vec())));
    Ok(())
}

// F2
#[test]
fn the_trigger_of_the_job_table_equals_the_code() -> Result<()> {
    let migration = read("migrations/0002_jobs.up.sql")?;
    let (before, _) = migration
        .split_once("}'::int[])[OLD.state + 1] >> NEW.state")
        .context("no bit masks in the trigger")?;
    let (_, masks) = before
        .rsplit_once("'{")
        .context("no bit masks in the trigger")?;
    let masks: Vec<u32> = masks.split(',').map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(masks, State::ALL.map(bits));
    Ok(())
}

// F2
#[test]
fn the_view_names_states_in_the_order_of_their_numbers() -> Result<()> {
    let names = State::ALL
        .map(|state| format!("'{}'", state.name()))
        .join(", ");
    let migration = read("migrations/0004_history.up.sql")?;
    let view = migration.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        view.contains(&format!("(ARRAY[{names}])[j.state + 1]")),
        "{names}"
    );
    Ok(())
}
