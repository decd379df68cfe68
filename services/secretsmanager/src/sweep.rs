//! Deletes the secrets whose time has come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use wharf_core::Timestamp;
use wharf_state::TransactError;

use crate::records::Secret;
use crate::{SecretsManager, remove};

/// Nothing is waited for longer than this, so that a clock that was set is noticed.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

impl SecretsManager {
    /// Sweeps for as long as the task lives: when the next secret is to be deleted.
    pub async fn sweep_forever(self: Arc<Self>) {
        loop {
            let next = match self.sweep().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "deleted secrets could not be removed; the next round tries again");
                    None
                }
            };
            let wait = next.map_or(INTERVAL_MAX, |next| next.since(self.clock.now()).min(INTERVAL_MAX));
            // Either wakes it; a deadline that passes is no error.
            let _ = tokio::time::timeout(wait, self.deleted.notified()).await;
        }
    }

    /// One round. Tells when the next secret is to be deleted.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn sweep(&self) -> Result<Option<Timestamp>, TransactError<Infallible>> {
        let now = self.clock.now();
        let is_due = |secret: &Secret| secret.deleted_at.is_some_and(|at| at <= now);
        let snapshot = self.store.snapshot();
        let mut next: Option<Timestamp> = None;
        for secret in snapshot.range::<Secret>(..) {
            if !is_due(&secret) {
                next = [next, secret.deleted_at].into_iter().flatten().min();
                continue;
            }
            self.store
                .transact(|transaction| {
                    let key = (secret.scope.clone(), secret.name.clone());
                    // It may have been restored meanwhile, or be another secret of its name.
                    if transaction.get::<Secret>(&key).is_some_and(|found| is_due(&found)) {
                        remove(transaction, &secret.scope, &secret.name);
                    }
                    Ok::<_, Infallible>(())
                })
                .await?;
        }
        Ok(next)
    }
}
