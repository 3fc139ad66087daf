//! What may not start now: paused queues, kinds and tenants. The one rule, for all who hand out or take jobs.
//!
//! It stands in the view `millstream.closed`. Statements join that, so that they ask once for all their rows, and compare with
//! [`is_closed!`](crate::is_closed). It does not know who serves what, nor for how long a parcel rests.

use sqlx::{Postgres, postgres::PgArguments, query::QueryAs};

/// In a statement that has joined `millstream.closed`: whether the job or parcel `$row` may not go.
#[macro_export]
macro_rules! is_closed {
    ($row:literal) => {
        concat!(
            "(",
            $row,
            ".queue_id = ANY(queues) OR ",
            $row,
            ".kind_id = ANY(kinds) OR ",
            $row,
            ".tenant_id = ANY(tenants))"
        )
    };
}

/// The same as values, for what is in hand already.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Closed {
    queues: Vec<i32>,
    kinds: Vec<i32>,
    tenants: Vec<i32>,
}

impl Closed {
    /// These queues, kinds and tenants.
    pub fn of(queues: &[i32], kinds: &[i32], tenants: &[i32]) -> Self {
        Self {
            queues: queues.to_vec(),
            kinds: kinds.to_vec(),
            tenants: tenants.to_vec(),
        }
    }

    /// The statement that returns what is closed at this moment.
    pub fn read() -> QueryAs<'static, Postgres, Self, PgArguments> {
        sqlx::query_as("SELECT queues, kinds, tenants FROM millstream.closed")
    }

    /// Whether jobs of this queue, kind and tenant may not start.
    pub fn has(&self, queue: i32, kind: i32, tenant: i32) -> bool {
        self.queues.contains(&queue) || self.kinds.contains(&kind) || self.tenants.contains(&tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // X62
    #[test]
    fn any_one_of_the_three_closes_a_job() {
        let closed = Closed::of(&[1], &[2], &[3]);
        for (queue, kind, tenant) in [(1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 2, 3)] {
            assert!(closed.has(queue, kind, tenant));
        }
        assert!(
            !closed.has(2, 3, 1),
            "their numbers are not those of one another"
        );
        assert!(!Closed::default().has(1, 2, 3));
    }
}
