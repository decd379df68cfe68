//! In which order the containers of a sandbox start, and stop. Pure.
//!
//! A container names others that it waits for, each with a condition. It starts when all conditions
//! hold; it stops before those that it waited for.

use crate::health::HealthStatus;

/// What must have become of a container before another one may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has been started.
    Start,
    /// It has exited.
    Complete,
    /// It has exited with code 0.
    Success,
    /// Its health check has said so.
    Healthy,
}

/// The container at index `on` is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub on: usize,
    pub condition: Condition,
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not started yet.
    Waiting,
    /// `health` is `None` without a health check.
    Running {
        health: Option<HealthStatus>,
    },
    Exited {
        code: Option<i32>,
    },
    /// It is over, and its program never ran.
    NeverRan,
}

/// Why a condition will never hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    NeverRan,
    /// It had to succeed.
    ExitCode(Option<i32>),
    /// It ended, or has no health check.
    NeverHealthy,
}

/// Whether the condition holds now.
pub fn holds(condition: Condition, on: Progress) -> bool {
    match (condition, on) {
        (Condition::Start, Progress::Running { .. } | Progress::Exited { .. })
        | (Condition::Complete, Progress::Exited { .. })
        | (Condition::Success, Progress::Exited { code: Some(0) }) => true,
        (Condition::Healthy, Progress::Running { health }) => health == Some(HealthStatus::Healthy),
        _ => false,
    }
}

/// Why the condition can never hold any more; `None` while it may, or does.
pub fn obstacle(condition: Condition, on: Progress) -> Option<Obstacle> {
    match (condition, on) {
        (_, Progress::NeverRan) => Some(Obstacle::NeverRan),
        (Condition::Success, Progress::Exited { code }) if code != Some(0) => Some(Obstacle::ExitCode(code)),
        (Condition::Healthy, Progress::Exited { .. } | Progress::Running { health: None }) => {
            Some(Obstacle::NeverHealthy)
        }
        _ => None,
    }
}

/// The waiting containers that may start now. `dependencies` and `progress` have one entry for each
/// container; a dependency on an index that is not there never holds.
pub fn startable(dependencies: &[Vec<Dependency>], progress: &[Progress]) -> Vec<usize> {
    let holds = |dependency: &Dependency| {
        progress.get(dependency.on).is_some_and(|&on| holds(dependency.condition, on))
    };
    (0..progress.len())
        .filter(|&index| progress[index] == Progress::Waiting)
        .filter(|&index| dependencies.get(index).is_none_or(|on| on.iter().all(holds)))
        .collect()
}

/// The running containers that no other running one waited for: to be stopped first.
pub fn stoppable(dependencies: &[Vec<Dependency>], progress: &[Progress]) -> Vec<usize> {
    let runs = |index: &usize| matches!(progress[*index], Progress::Running { .. });
    let needed = |index: usize| {
        (0..progress.len())
            .filter(runs)
            .filter_map(|other| dependencies.get(other))
            .any(|on| on.iter().any(|dependency| dependency.on == index))
    };
    (0..progress.len()).filter(runs).filter(|&index| !needed(index)).collect()
}

/// Whether some containers wait for each other in a ring.
pub fn has_cycle(dependencies: &[Vec<Dependency>]) -> bool {
    // Those that wait for none that is left are taken away, until nothing changes.
    let mut left: Vec<usize> = (0..dependencies.len()).collect();
    loop {
        let waits =
            |index: &usize| dependencies[*index].iter().any(|dependency| left.contains(&dependency.on));
        let still: Vec<usize> = left.iter().copied().filter(waits).collect();
        if still.len() == left.len() {
            return !left.is_empty();
        }
        left = still;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUNS: Progress = Progress::Running { health: None };
    const HEALTHY: Progress = Progress::Running { health: Some(HealthStatus::Healthy) };
    const STARTING: Progress = Progress::Running { health: Some(HealthStatus::Starting) };
    const DONE: Progress = Progress::Exited { code: Some(0) };
    const FAILED: Progress = Progress::Exited { code: Some(1) };

    #[test]
    fn each_condition_has_its_table() {
        use Condition::{Complete, Healthy, Start, Success};
        // (condition, on, holds, can still hold)
        for (condition, on, now, ever) in [
            (Start, Progress::Waiting, false, true),
            (Start, RUNS, true, true),
            (Start, FAILED, true, true),
            (Start, Progress::NeverRan, false, false),
            (Complete, RUNS, false, true),
            (Complete, FAILED, true, true),
            (Complete, Progress::NeverRan, false, false),
            (Success, RUNS, false, true),
            (Success, DONE, true, true),
            (Success, FAILED, false, false),
            (Success, Progress::Exited { code: None }, false, false),
            (Healthy, Progress::Waiting, false, true),
            (Healthy, STARTING, false, true),
            (Healthy, Progress::Running { health: Some(HealthStatus::Unhealthy) }, false, true),
            (Healthy, HEALTHY, true, true),
            (Healthy, RUNS, false, false),
            (Healthy, DONE, false, false),
        ] {
            assert_eq!(holds(condition, on), now, "{condition:?} {on:?}");
            assert_eq!(obstacle(condition, on).is_none(), ever, "{condition:?} {on:?}");
        }
    }

    fn on(on: usize, condition: Condition) -> Dependency {
        Dependency { on, condition }
    }

    #[test]
    fn stopping_goes_the_other_way() {
        let dependencies =
            [vec![], vec![on(0, Condition::Start)], vec![on(1, Condition::Start), on(0, Condition::Start)]];
        assert_eq!(stoppable(&dependencies, &[RUNS, RUNS, RUNS]), [2]);
        assert_eq!(stoppable(&dependencies, &[RUNS, RUNS, DONE]), [1]);
        assert_eq!(stoppable(&dependencies, &[RUNS, Progress::NeverRan, DONE]), [0]);
    }

    #[test]
    fn a_ring_is_found_wherever_it_is() {
        let start = |index| on(index, Condition::Start);
        assert!(!has_cycle(&[]));
        assert!(!has_cycle(&[vec![start(1)], vec![start(2)], vec![]]));
        assert!(has_cycle(&[vec![start(1)], vec![start(2)], vec![start(1)]]));
        assert!(has_cycle(&[vec![start(0)]]));
    }

    proptest! {
        /// Whatever the graph without a ring: everything starts, each after what it waits for; then
        /// everything stops, each before what it waited for.
        #[test]
        fn all_start_and_all_stop(edges in prop::collection::vec((1usize..9, 0usize..8, 0u8..4), 0..20)) {
            let mut dependencies = vec![Vec::new(); 9];
            for (from, to, condition) in edges {
                let conditions = [Condition::Start, Condition::Complete, Condition::Success, Condition::Healthy];
                // Only to a smaller index: no ring.
                dependencies[from].push(on(to % from, conditions[usize::from(condition)]));
            }
            prop_assert!(!has_cycle(&dependencies));
            let mut progress = vec![Progress::Waiting; 9];
            let mut rounds = 0;
            while progress.contains(&Progress::Waiting) {
                for index in startable(&dependencies, &progress) {
                    for dependency in &dependencies[index] {
                        prop_assert!(holds(dependency.condition, progress[dependency.on]));
                    }
                    // What others wait for to complete completes; the rest runs and is healthy.
                    let completes = dependencies.iter().flatten().any(|other| {
                        other.on == index && matches!(other.condition, Condition::Complete | Condition::Success)
                    });
                    let healthy = dependencies.iter().flatten().any(|other| {
                        other.on == index && other.condition == Condition::Healthy
                    });
                    prop_assume!(!(completes && healthy));
                    progress[index] = if completes { DONE } else { HEALTHY };
                }
                rounds += 1;
                prop_assert!(rounds <= 9, "stuck: {progress:?}");
            }
            while progress.iter().any(|at| matches!(at, Progress::Running { .. })) {
                let now = stoppable(&dependencies, &progress);
                prop_assert!(!now.is_empty(), "stuck: {progress:?}");
                for &index in &now {
                    progress[index] = DONE;
                }
            }
        }
    }
}
