//! Finding a container by what somebody typed, and changing its record.

use std::sync::Arc;

use wharf_state::{Key as _, TransactError, Transaction};

use crate::event::{Action, ContainerEvent};
use crate::records::{BY_NAME, Container, State};
use crate::{Containers, ContainersError};

impl Containers {
    /// All, newest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<Arc<Container>> = self.0.store.snapshot().range::<Container>(..).collect();
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// By name, id, or the beginning of an id.
    pub fn find(&self, given: &str) -> Result<Arc<Container>, ContainersError> {
        let missing = || ContainersError::NoContainer(given.to_owned());
        let snapshot = self.0.store.snapshot();
        if let Some(named) =
            snapshot.index::<Container>(BY_NAME, &given.to_owned().to_bytes()).find(|held| held.name == given)
        {
            return Ok(named);
        }
        let is_id = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(missing());
        }
        let mut found =
            snapshot.range::<Container>(given.to_owned()..).take_while(|held| held.id.starts_with(given));
        match (found.next(), found.count()) {
            (None, _) => Err(missing()),
            (Some(one), 0) => Ok(one),
            (Some(_), more) => Err(ContainersError::Ambiguous { given: given.to_owned(), count: more + 1 }),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Container>> {
        self.0.store.snapshot().get::<Container>(&id.to_owned())
    }

    /// One change at a time of the container with this id.
    pub(crate) async fn lock(&self, id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(self.0.locks.lock().entry(id.to_owned()).or_default());
        lock.lock_owned().await
    }

    /// Changes the record, if it is there, and returns it as it then is. A move that is not legal is
    /// left out.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Container) + Send,
    ) -> Result<Option<Container>, ContainersError> {
        let key = id.to_owned();
        self.transact(move |transaction| {
            let Some(held) = transaction.get::<Container>(&key) else { return Ok(None) };
            let mut container = Container::clone(&held);
            change(&mut container);
            if container.state != held.state && !held.state.may_become(&container.state) {
                container.state = held.state.clone();
            }
            if container != *held {
                transaction.put(container.clone());
            }
            Ok(Some(container))
        })
        .await
    }

    pub(crate) async fn set_state(
        &self,
        id: &str,
        state: State,
    ) -> Result<Option<Container>, ContainersError> {
        self.change(id, |container| container.state = state).await
    }

    pub(crate) async fn transact<T>(
        &self,
        closure: impl FnOnce(&mut Transaction<'_>) -> Result<T, ContainersError>,
    ) -> Result<T, ContainersError> {
        self.0.store.transact(closure).await.map_err(|error: TransactError<ContainersError>| {
            error.aborted_or(|error| ContainersError::Store(error.to_string()))
        })
    }

    pub(crate) fn tell(&self, container: &Container, action: Action) {
        // No receiver is no error.
        let _ = self.0.events.send(ContainerEvent {
            at: self.0.clock.now(),
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.config.image.clone(),
            action,
        });
    }
}
