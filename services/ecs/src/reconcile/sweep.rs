//! Removes what has served its time: used tokens, deleted definitions that no task refers to,
//! deleted clusters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wharf_control::{Outcome, Reconciler};
use wharf_core::Timestamp;
use wharf_state::{Record as _, TransactError};

use super::Platform;
use crate::records::{Cluster, ClusterStatus, IdempotencyToken, Task, TaskDefinition, TaskDefinitionStatus};

const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a `clientToken` is known (Amazon ECS API reference, "Ensuring idempotency").
const TOKEN_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a deleted cluster is described as `INACTIVE`.
const CLUSTER_RETENTION: Duration = Duration::from_secs(60 * 60);

/// Tokens and stopped tasks that are kept however fast they come; beyond it the oldest go early.
const TOKENS_MAX: usize = 50_000;
const STOPPED_TASKS_MAX: usize = 10_000;

/// One key: everything.
pub struct SweepReconciler(pub Arc<Platform>);

#[async_trait]
impl Reconciler for SweepReconciler {
    type Key = ();

    fn name(&self) -> &'static str {
        "ecs-sweep"
    }

    async fn reconcile(&self, (): &()) -> Outcome {
        let _gate = self.0.gate.read().await;
        match self.0.sweep().await {
            Ok(()) => Outcome::After(SWEEP_EVERY),
            Err(error) => Outcome::Retry(error.to_string()),
        }
    }

    fn all_keys(&self) -> Vec<()> {
        vec![()]
    }
}

impl Platform {
    pub async fn sweep(&self) -> Result<(), TransactError<std::convert::Infallible>> {
        let now = self.clock.now();
        let snapshot = self.store.snapshot();
        let expired = |at: Timestamp| now.since(at) > TOKEN_RETENTION;
        let tokens = snapshot.prefix::<IdempotencyToken>(&[]).map(|token| (token.created_at, token.key()));
        let tokens = surplus(tokens.collect(), TOKENS_MAX, expired);
        let stopped = snapshot.prefix::<Task>(&[]);
        let stopped = stopped.filter_map(|task| Some((task.times.stopped?, task.key())));
        // Those whose time is up are forgotten by their own reconciler.
        let tasks = surplus(stopped.collect(), STOPPED_TASKS_MAX, |_| false);
        let clusters: Vec<_> = snapshot
            .prefix::<Cluster>(&[])
            .filter(|cluster| cluster.deleted_at.is_some_and(|at| now.since(at) > CLUSTER_RETENTION))
            .map(|cluster| cluster.key())
            .collect();
        let definitions: Vec<_> = snapshot
            .prefix::<TaskDefinition>(&[])
            .filter(|definition| definition.status == TaskDefinitionStatus::DeleteInProgress)
            .map(|definition| definition.key())
            .collect();
        if tokens.is_empty() && tasks.is_empty() && clusters.is_empty() && definitions.is_empty() {
            return Ok(());
        }
        self.store
            .transact(|transaction| {
                for key in &tokens {
                    transaction.delete::<IdempotencyToken>(key);
                }
                for key in &tasks {
                    transaction.delete::<Task>(key);
                }
                for key in &clusters {
                    // It may have been created anew.
                    let gone = transaction.get::<Cluster>(key);
                    if gone.is_some_and(|cluster| cluster.status == ClusterStatus::Inactive) {
                        transaction.delete::<Cluster>(key);
                    }
                }
                if !definitions.is_empty() {
                    let used: HashSet<_> =
                        transaction.prefix::<Task>(&[]).map(|task| task.definition_key()).collect();
                    for key in definitions.iter().filter(|key| !used.contains(*key)) {
                        transaction.delete::<TaskDefinition>(key);
                    }
                }
                Ok(())
            })
            .await
    }
}

/// The keys of what has expired, and of the oldest beyond the most that is kept.
fn surplus<K>(mut entries: Vec<(Timestamp, K)>, max: usize, expired: impl Fn(Timestamp) -> bool) -> Vec<K> {
    entries.sort_by_key(|(at, _)| *at);
    let beyond = entries.len().saturating_sub(max);
    let old = entries.into_iter().enumerate().filter(|(index, (at, _))| *index < beyond || expired(*at));
    old.map(|(_, (_, key))| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_goes_and_then_the_oldest() {
        let at = Timestamp::from_millis;
        let entries = || vec![(at(3), 'c'), (at(1), 'a'), (at(2), 'b')];
        assert_eq!(surplus(entries(), 3, |_| false), Vec::<char>::new());
        assert_eq!(surplus(entries(), 2, |_| false), ['a']);
        assert_eq!(surplus(entries(), 3, |of| of < at(3)), ['a', 'b']);
    }
}
