//! Failpoints: named steps of the protocol at which a test build can be told to die or to stand still.
//!
//! Compiled only with the feature `failpoints`, which only the tests ask for; in every other build these functions are empty.
//! What happens where comes from the variable `FAILPOINTS` (`claim.after_read=return` dies there, `3*off->return` at the
//! fourth time, `pause` stands still for good). Knows nothing of the steps themselves.

/// Reads the orders. Called once, at the start of the process.
#[cfg(feature = "failpoints")]
pub fn arm() {
    // Kept for the life of the process: dropping it would forget the orders.
    std::mem::forget(fail::FailScenario::setup());
}

/// Reads the orders: there are none in this build.
#[cfg(not(feature = "failpoints"))]
pub fn arm() {}

/// The step `name` is reached: with the order `return` the process dies here as by kill -9, nothing is cleaned up.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    let _: Option<()> = fail::eval(name, |_| std::process::abort());
}

/// The step `name` is reached.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_name: &str) {}
