//! Takes expired parameters away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use wharf_core::Timestamp;
use wharf_state::TransactError;

use crate::records::Parameter;
use crate::{Ssm, has_expired, remove};

/// Nothing is waited for longer than this, so that a clock that was set is noticed.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

impl Ssm {
    /// Sweeps for as long as the task lives: when the next parameter expires.
    pub async fn sweep_forever(self: Arc<Self>) {
        loop {
            let next = match self.sweep().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "expired parameters could not be deleted; the next round tries again");
                    None
                }
            };
            let wait = next.map_or(INTERVAL_MAX, |next| next.since(self.clock.now()).min(INTERVAL_MAX));
            // Either wakes it; a deadline that passes is no error.
            let _ = tokio::time::timeout(wait, self.expiring.notified()).await;
        }
    }

    /// One round. Tells when the next parameter expires.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn sweep(&self) -> Result<Option<Timestamp>, TransactError<Infallible>> {
        let now = self.clock.now();
        let snapshot = self.store.snapshot();
        let mut next: Option<Timestamp> = None;
        for parameter in snapshot.range::<Parameter>(..) {
            if !has_expired(&parameter, now) {
                let expirations = parameter.policies.iter().map(|policy| policy.expires_at);
                next = next.into_iter().chain(expirations).min();
                continue;
            }
            self.store
                .transact(|transaction| {
                    let key = (parameter.scope.clone(), parameter.name.clone());
                    // It may have been given another date meanwhile.
                    if transaction.get::<Parameter>(&key).is_some_and(|found| has_expired(&found, now)) {
                        remove(transaction, &parameter.scope, &parameter.name);
                    }
                    Ok::<_, Infallible>(())
                })
                .await?;
        }
        Ok(next)
    }
}
