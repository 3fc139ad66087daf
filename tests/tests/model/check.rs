//! Explores a configuration to its end, prints what was explored, and says what was found.

use std::collections::{HashMap, HashSet};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use super::{
    machine::Machine,
    rules::{Protocol, Step},
};

/// Threads of one exploration: tests run side by side.
const THREADS: usize = 2;

/// What an exploration found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Names of properties: a counterexample, or an example of what is sometimes so.
    pub(crate) found: HashSet<&'static str>,
    /// Always-properties with a counterexample.
    pub(crate) broken: Vec<String>,
}

/// All states of this configuration.
pub(crate) fn explore(name: &str, protocol: Protocol) -> Explored {
    let checker = Machine::new(protocol)
        .checker()
        .threads(THREADS)
        .spawn_bfs()
        .join();
    let found: HashSet<&'static str> = checker.discoveries().into_keys().collect();
    println!(
        "{name}: {} states, {} steps, at most {} deep",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    let properties = checker.model().properties();
    let failures = properties
        .iter()
        .filter(|property| property.expectation.discovery_is_failure());
    let failures: HashSet<&str> = failures.map(|property| property.name).collect();
    let broken = checker
        .discoveries()
        .into_iter()
        .filter(|(property, _)| failures.contains(property));
    let broken = broken
        .map(|(property, path)| format!("{property}:{}", listed(&path.into_actions())))
        .collect();
    Explored {
        states: checker.unique_state_count(),
        found,
        broken,
    }
}

impl Explored {
    /// Every invariant holds, in so many states, and these examples were met.
    pub(crate) fn holds(&self, states_min: usize, examples: &[&str]) {
        assert!(self.broken.is_empty(), "{}", self.broken.join("\n"));
        assert!(self.states >= states_min, "only {} states", self.states);
        let missed: Vec<_> = examples
            .iter()
            .filter(|example| !self.found.contains(*example))
            .collect();
        assert!(missed.is_empty(), "never met: {missed:?}");
    }
}

/// A schedule of the fewest steps that breaks the invariant, or meets the example. It is printed; the numbers of workers and duty processes
/// may change places from step to step, since states are kept once for both.
pub(crate) fn counterexample(name: &str, protocol: &Protocol, property: &'static str) {
    let (mut path, states) = search(protocol, property, usize::MAX);
    // The search stops at a schedule, not at the shortest one.
    while let Some(shorter) = path
        .as_ref()
        .and_then(|path| search(protocol, property, path.len()).0)
    {
        path = Some(shorter);
    }
    let path =
        path.unwrap_or_else(|| panic!("{name}: no schedule to \"{property}\" in {states} states"));
    println!(
        "{name}: \"{property}\" in {} steps:{}",
        path.len(),
        listed(&path)
    );
}

/// A schedule of less than so many steps, and how many states were looked at.
fn search(protocol: &Protocol, property: &'static str, steps: usize) -> (Option<Vec<Step>>, usize) {
    let mut machine = Machine::new(protocol.clone());
    let sought = machine
        .properties()
        .into_iter()
        .find(|other| other.name == property)
        .expect("a property of this name");
    machine.until = Some((
        sought.condition,
        sought.expectation == Expectation::Sometimes,
    ));
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = machine
        .checker()
        .finish_when(wanted)
        .target_max_depth(steps.saturating_add(1))
        .spawn_bfs()
        .join();
    (
        checker.discovery(property).map(Path::into_actions),
        checker.unique_state_count(),
    )
}

fn listed(path: &[Step]) -> String {
    let steps: Vec<String> = path.iter().map(|step| format!("\n    {step:?}")).collect();
    steps.concat()
}

/// Whether no schedule returns to where it was: then none goes on for ever.
pub(crate) fn comes_to_an_end(protocol: Protocol) -> bool {
    let machine = Machine::new(protocol);
    // Whether a state is still on the way to the one looked at, or all that follows it has been seen.
    let mut on_the_way = HashMap::new();
    let mut way: Vec<_> = machine
        .init_states()
        .into_iter()
        .map(|state| (state, None))
        .collect();
    while let Some((state, rest)) = way.last_mut() {
        let rest = rest.get_or_insert_with(|| {
            on_the_way.insert(state.clone(), true);
            let mut steps = Vec::new();
            machine.actions(state, &mut steps);
            steps
        });
        let Some(step) = rest.pop() else {
            on_the_way.insert(state.clone(), false);
            way.pop();
            continue;
        };
        let Some(next) = machine.next_state(state, step) else {
            continue;
        };
        match on_the_way.get(&next) {
            Some(true) => return false,
            Some(false) => {}
            None => way.push((next, None)),
        }
    }
    true
}
