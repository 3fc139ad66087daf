//! Tells its clocks for every line it is given: wall clock and time since its start, in milliseconds. For tests of moved clocks.

use std::{
    io::BufRead,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

fn main() {
    let start = Instant::now();
    for _ in std::io::stdin().lock().lines() {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        println!("{} {}", wall.as_millis(), start.elapsed().as_millis());
    }
}
