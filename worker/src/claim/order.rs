//! Which stream is read next: weighted priorities (F20).
//!
//! Smooth weighted round robin (as in nginx): over 6 turns high is first 3 times, medium 2, low 1, spread out; whichever is first,
//! the others follow by urgency, so an empty stream never costs a turn and low is never starved.

use millstream_common::job::Priority;

/// Turns of high, medium and low.
pub(crate) const WEIGHTS_DEFAULT: [i32; 3] = [3, 2, 1];

/// The turn keeper of one queue.
pub(crate) struct Order {
    weights: [i32; 3],
    credit: [i32; 3],
}

impl Order {
    pub(crate) fn new(weights: [i32; 3]) -> Self {
        Self {
            weights,
            credit: [0; 3],
        }
    }

    /// The order for one read: the one whose turn it is, then the others.
    pub(crate) fn next(&mut self) -> [Priority; 3] {
        for (credit, weight) in self.credit.iter_mut().zip(self.weights) {
            *credit += weight;
        }
        // The first of the largest: ties go to the more urgent.
        let first = (0..3).rev().max_by_key(|i| self.credit[*i]).unwrap_or(0);
        self.credit[first] -= self.weights.iter().sum::<i32>();
        let [high, medium, low] = Priority::ALL;
        match first {
            0 => [high, medium, low],
            1 => [medium, high, low],
            _ => [low, high, medium],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_turns_are_three_two_one_and_spread_out() {
        // F20
        let mut order = Order::new(WEIGHTS_DEFAULT);
        let turns: String = (0..12).map(|_| &order.next()[0].name()[..1]).collect();
        assert_eq!(turns, "hmhlmhhmhlmh");
    }
}
