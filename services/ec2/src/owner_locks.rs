//! One at a time for each owner; owners do not wait for one another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use wharf_core::Scope;

type Locks = Mutex<HashMap<(Scope, String), Arc<tokio::sync::Mutex<()>>>>;

#[derive(Default)]
pub struct OwnerLocks(Arc<Locks>);

pub struct OwnerGuard {
    locks: Arc<Locks>,
    key: (Scope, String),
    guard: Option<OwnedMutexGuard<()>>,
}

impl OwnerLocks {
    pub async fn lock(&self, scope: &Scope, owner: &str) -> OwnerGuard {
        let key = (scope.clone(), owner.to_owned());
        let lock = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let guard = lock.lock_owned().await;
        OwnerGuard { locks: Arc::clone(&self.0), key, guard: Some(guard) }
    }
}

impl Drop for OwnerGuard {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.lock();
        // Only the map holds it: nobody waits.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}
