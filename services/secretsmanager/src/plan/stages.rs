//! Staging labels, and which versions they keep (Secrets Manager User Guide, "Secret versions").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_core::Timestamp;

pub const CURRENT: &str = "AWSCURRENT";
pub const PREVIOUS: &str = "AWSPREVIOUS";
pub const PENDING: &str = "AWSPENDING";
/// Labels of one version.
pub const STAGES_MAX: usize = 20;
/// How many versions stay for certain.
const KEPT_VERSIONS: usize = 100;
/// Younger versions stay too.
const KEPT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which labels each version has, by the version's id. A label is on one version at most.
pub type Stages = BTreeMap<String, BTreeSet<String>>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    #[error("a version has at most {STAGES_MAX} labels")]
    TooMany,
    #[error("there is no version {0}")]
    NoVersion(String),
    #[error("the label is on version {holder}, which was not named")]
    HeldBy { holder: String },
    #[error("the label is not on version {0}")]
    NotOn(String),
    #[error("the label {CURRENT} can be moved, and not taken away")]
    CurrentStays,
}

/// Gives `labels` to the new version `id`. The first version of a secret becomes its current one,
/// whatever the caller says.
///
/// # Errors
/// [`StageError::TooMany`].
pub fn add_version(mut stages: Stages, id: &str, labels: &[String]) -> Result<Stages, StageError> {
    let mut labels: BTreeSet<String> = labels.iter().cloned().collect();
    if labels.is_empty() || holder(&stages, CURRENT).is_none() {
        labels.insert(CURRENT.to_owned());
    }
    if labels.len() > STAGES_MAX {
        return Err(StageError::TooMany);
    }
    stages.entry(id.to_owned()).or_default();
    for label in &labels {
        place(&mut stages, label, id);
    }
    Ok(stages)
}

/// Moves one label to the version `to`, or takes it away when there is none.
///
/// # Errors
/// When a version is missing, when the label's holder is not named, or when nothing would be current.
pub fn move_label(
    mut stages: Stages,
    label: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Stages, StageError> {
    for id in [from, to].into_iter().flatten() {
        if !stages.contains_key(id) {
            return Err(StageError::NoVersion(id.to_owned()));
        }
    }
    let held = holder(&stages, label);
    match (held.as_deref(), from, to) {
        (Some(held), Some(from), _) if held != from => return Err(StageError::NotOn(from.to_owned())),
        (None, Some(from), _) => return Err(StageError::NotOn(from.to_owned())),
        (Some(held), None, Some(to)) if held != to => {
            return Err(StageError::HeldBy { holder: held.to_owned() });
        }
        (Some(held), None, None) => return Err(StageError::HeldBy { holder: held.to_owned() }),
        _ => {}
    }
    match to {
        Some(to) => place(&mut stages, label, to),
        None if label == CURRENT => return Err(StageError::CurrentStays),
        None => stages.values_mut().for_each(|labels| {
            labels.remove(label);
        }),
    }
    if to.is_some_and(|to| stages[to].len() > STAGES_MAX) { Err(StageError::TooMany) } else { Ok(stages) }
}

fn holder(stages: &Stages, label: &str) -> Option<String> {
    stages.iter().find(|(_, labels)| labels.contains(label)).map(|(id, _)| id.clone())
}

/// Puts a label on one version and takes it from every other. Whoever was current becomes previous,
/// and what was pending of it is over.
fn place(stages: &mut Stages, label: &str, id: &str) {
    let before = holder(stages, label);
    if before.as_deref() == Some(id) {
        return;
    }
    if let Some(labels) = before.as_ref().and_then(|before| stages.get_mut(before)) {
        labels.remove(label);
    }
    stages.entry(id.to_owned()).or_default().insert(label.to_owned());
    if let Some(before) = before.filter(|_| label == CURRENT) {
        if let Some(labels) = stages.get_mut(&before) {
            labels.remove(PENDING);
        }
        place(stages, PREVIOUS, &before);
    }
}

/// A version, for [`outdated`].
#[derive(Clone, Debug)]
pub struct Aged {
    pub id: String,
    pub created_at: Timestamp,
    pub labelled: bool,
}

/// The versions that are not kept any longer: without a label, older than a day, and not among the
/// hundred youngest.
pub fn outdated(mut versions: Vec<Aged>, now: Timestamp) -> Vec<String> {
    versions.sort_by_key(|version| std::cmp::Reverse(version.created_at));
    versions
        .into_iter()
        .skip(KEPT_VERSIONS)
        .filter(|version| !version.labelled && now.since(version.created_at) >= KEPT_AGE)
        .map(|version| version.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(stages: &Stages, id: &str) -> Vec<String> {
        stages.get(id).map(|labels| labels.iter().cloned().collect()).unwrap_or_default()
    }

    fn texts(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|&label| label.to_owned()).collect()
    }

    /// As AWS was seen to do it.
    #[test]
    fn current_previous_and_pending_go_round() {
        let stages = add_version(Stages::new(), "1", &[]).unwrap();
        assert_eq!(labels(&stages, "1"), [CURRENT]);
        let stages = add_version(stages, "2", &texts(&[PENDING])).unwrap();
        assert_eq!((labels(&stages, "1"), labels(&stages, "2")), (texts(&[CURRENT]), texts(&[PENDING])));
        let stages = move_label(stages, CURRENT, Some("1"), Some("2")).unwrap();
        assert_eq!(labels(&stages, "1"), [PREVIOUS]);
        assert_eq!(labels(&stages, "2"), [CURRENT, PENDING]);
        let stages = add_version(stages, "3", &[]).unwrap();
        assert_eq!(labels(&stages, "1"), Vec::<String>::new());
        assert_eq!((labels(&stages, "2"), labels(&stages, "3")), (texts(&[PREVIOUS]), texts(&[CURRENT])));
    }

    #[test]
    fn the_first_version_is_current_whatever_was_asked() {
        let stages = add_version(Stages::new(), "1", &texts(&["mine"])).unwrap();
        assert_eq!(labels(&stages, "1"), [CURRENT, "mine"]);
    }

    #[test]
    fn moves_name_the_holder() {
        let stages = add_version(Stages::new(), "1", &[]).unwrap();
        let stages = add_version(stages, "2", &texts(&["mine"])).unwrap();
        let refused = |label, from, to| move_label(stages.clone(), label, from, to).unwrap_err();
        assert_eq!(refused(CURRENT, None, Some("2")), StageError::HeldBy { holder: "1".into() });
        assert_eq!(refused(CURRENT, Some("1"), None), StageError::CurrentStays);
        assert_eq!(refused(CURRENT, Some("2"), Some("2")), StageError::NotOn("2".into()));
        assert_eq!(refused("mine", Some("1"), Some("1")), StageError::NotOn("1".into()));
        assert_eq!(refused("new", None, Some("9")), StageError::NoVersion("9".into()));
        let gone = move_label(stages.clone(), "mine", Some("2"), None).unwrap();
        assert_eq!(labels(&gone, "2"), Vec::<String>::new());
        let new = move_label(stages, "new", None, Some("1")).unwrap();
        assert_eq!(labels(&new, "1"), [CURRENT, "new"]);
    }

    proptest! {
        #[test]
        fn there_is_one_current_version_and_no_label_twice(
            steps in prop::collection::vec((0..6u8, 0..6u8, 0..4usize, any::<bool>()), 0..40),
        ) {
            let names = [CURRENT, PREVIOUS, PENDING, "mine"];
            let mut stages = add_version(Stages::new(), "0", &[]).unwrap();
            for (from, to, label, new) in steps {
                let (from, to) = (from.to_string(), to.to_string());
                let next = if new {
                    add_version(stages.clone(), &to, &texts(&[names[label]]))
                } else {
                    move_label(stages.clone(), names[label], Some(&from), Some(&to))
                };
                stages = next.unwrap_or(stages);
                for name in names {
                    let held = stages.values().filter(|labels| labels.contains(name)).count();
                    prop_assert!(held <= 1);
                    prop_assert!(name != CURRENT || held == 1);
                }
            }
        }
    }

    #[test]
    fn versions_that_nobody_needs_are_outdated() {
        let day = 24 * 60 * 60 * 1000;
        let version =
            |id: i64, labelled| Aged { id: id.to_string(), created_at: Timestamp::from_millis(id), labelled };
        let versions: Vec<Aged> = (0..103).map(|id| version(id, id == 1)).collect();
        assert_eq!(outdated(versions.clone(), Timestamp::from_millis(day - 1)), Vec::<String>::new());
        assert_eq!(outdated(versions, Timestamp::from_millis(2 * day)), ["2", "0"]);
    }
}
