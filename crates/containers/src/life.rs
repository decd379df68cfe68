//! What can be done to a container: from its making to its removal.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use wharf_contracts::{ImageError, ResolvedImage};
use wharf_engine::{ContainerId, EngineError, Signal, VolumeName, VolumeSpec};
use wharf_state::Key as _;

use crate::config::{ContainerConfig, MountFrom, Network};
use crate::event::Action;
use crate::plan::{names, spec};
use crate::records::{BY_NAME, Container, Exit, NetworkRecord, State, Wanted};
use crate::{CONTAINERS_MAX, Containers, ContainersError, ports};

const ID_DIGITS: usize = 64;
/// Earlier runs whose output is kept.
const RUNS_KEPT_MAX: u32 = 3;
/// How long a container that removes itself waits for those who read its output.
const READERS_WAIT: Duration = Duration::from_secs(30);
/// More than any grace: the engine kills when that is over.
const EXIT_WAIT_SLACK: Duration = Duration::from_secs(30);

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: String,
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveOptions {
    /// Kill it if it runs.
    pub force: bool,
    /// Remove its anonymous volumes.
    pub volumes: bool,
}

/// What [`Containers::wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitFor {
    /// It does not run; it may be so already.
    NotRunning,
    /// Its next end.
    NextExit,
    /// It is gone.
    Removed,
}

impl Containers {
    /// Makes a container: nothing runs. `name` is made up when none is given.
    pub async fn create(
        &self,
        mut config: ContainerConfig,
        name: Option<String>,
    ) -> Result<Created, ContainersError> {
        if let Some(name) = name.as_ref().filter(|name| !names::is_name(name)) {
            return Err(ContainersError::Name(name.clone()));
        }
        let image = self.0.images.resolve(&config.image).await?;
        let args = spec::args(&config, &image.config)?;
        let signal = spec::stop_signal(&config, Some(&image.config))?;
        // The image may change its mind; the container does not.
        config.stop_signal = Some(signal.0.to_string());
        let mut container = Container {
            id: self.0.rng.hex(ID_DIGITS),
            name: String::new(),
            config,
            image_digest: image.digest.clone(),
            args,
            created_at: self.0.clock.now(),
            state: State::Created,
            wanted: Wanted::Stopped,
            run: 0,
            restarts: 0,
            started_at: None,
            network: None,
            ports: Vec::new(),
            health: None,
        };
        // What the engine could not be asked for is refused now.
        spec::container(&container, &image)?;
        let rng = &self.0.rng;
        let made = self
            .transact(|transaction| {
                if transaction.count::<Container>() >= CONTAINERS_MAX {
                    return Err(ContainersError::TooMany(CONTAINERS_MAX));
                }
                let holder = |name: &str| {
                    let mut named = transaction.index::<Container>(BY_NAME, &name.to_owned().to_bytes());
                    named.find(|held| held.name == name).map(|held| held.id.clone())
                };
                container.name = match name {
                    Some(name) => match holder(&name) {
                        Some(id) => return Err(ContainersError::NameTaken { name, id }),
                        None => name,
                    },
                    None => (0..)
                        .map(|attempt| names::made_up(rng.next_u64(), attempt))
                        .find(|name| holder(name).is_none())
                        .unwrap_or_default(),
                };
                transaction.put(container.clone());
                Ok(container)
            })
            .await?;
        self.tell(&made, Action::Create);
        Ok(Created { id: made.id, name: made.name })
    }

    /// Starts it; one that runs already is left alone.
    pub async fn start(&self, given: &str) -> Result<(), ContainersError> {
        let id = self.find(given)?.id.clone();
        let _guard = self.lock(&id).await;
        let container = self.find(&id)?;
        match &container.state {
            State::Removing => return Err(ContainersError::Removing(container.name.clone())),
            State::Paused { .. } => return Err(ContainersError::Paused(container.name.clone())),
            state if state.is_alive() => return Ok(()),
            _ => {}
        }
        self.start_locked(Container::clone(&container)).await
    }

    pub(crate) async fn start_locked(&self, container: Container) -> Result<(), ContainersError> {
        let id = container.id.clone();
        let outcome = self.bring_up(container).await;
        if let Err(error) = &outcome {
            self.0.published.lock().remove(&id);
            let code = match error {
                ContainersError::Start { code, .. } => *code,
                // As Docker says for what failed before the program was looked at.
                _ => 128,
            };
            let exit = Exit {
                at: self.0.clock.now(),
                code: Some(code),
                oom_killed: false,
                error: Some(error.to_string()),
            };
            let failed = self
                .change(&id, |container| {
                    // Without a run, it is as it was.
                    if container.run > 0 && !container.state.is_alive() {
                        container.state = State::Exited(exit);
                    }
                    container.wanted = Wanted::Stopped;
                })
                .await?;
            if let Some(container) = failed {
                self.tell(&container, Action::Die { code: Some(code) });
            }
        }
        outcome
    }

    async fn bring_up(&self, container: Container) -> Result<(), ContainersError> {
        let id = container.id.clone();
        let image = self.image_of(&container).await?;
        // Before anything is made: a port that is taken leaves nothing behind.
        let wanted_ports =
            if container.ports.is_empty() { &container.config.ports } else { &container.ports };
        let bound = ports::bind(wanted_ports).await?;
        let attached = match container.config.network {
            Network::None => None,
            Network::Default => Some(self.0.network.attach(&owner(&id)).await?),
        };
        let network = attached.as_ref().map(|attached| NetworkRecord {
            address: attached.address,
            gateway: attached.gateway,
            mac_address: attached.mac_address.clone(),
            name_servers: attached.name_servers.clone(),
        });
        let bound_ports = bound.ports();
        let run = container.run + 1;
        let Some(container) = self
            .change(&id, |container| {
                container.run = run;
                container.restarts = 0;
                container.network = network;
                container.ports = bound_ports;
                container.wanted = Wanted::Running;
                container.health = None;
            })
            .await?
        else {
            return Err(ContainersError::NoContainer(id));
        };
        self.make_sources(&container).await?;
        let (Some(sandbox), Some(wanted)) = (
            spec::sandbox(&container, attached.map(|attached| attached.netns)),
            spec::container(&container, &image)?,
        ) else {
            return Err(ContainersError::NoContainer(id));
        };
        let sandbox_id = sandbox.id.clone();
        self.0.engine.create_sandbox(sandbox).await?;
        if let Some(old) = run.checked_sub(RUNS_KEPT_MAX).and_then(|old| spec::container_id(&id, old)) {
            // Its output goes; what is left is newer.
            let _ = self.0.engine.remove_container(&old).await;
        }
        if let Some(network) = &container.network {
            self.0.published.lock().insert(id.clone(), bound.serve(network.address));
        }
        let status = self.0.engine.start_container(&sandbox_id, wanted).await?;
        self.saw(&container.id, run, &status).await?;
        if let Some(container) = self.get(&id) {
            self.tell(&container, Action::Start);
        }
        Ok(())
    }

    /// The image that it was made from, whatever its name means now.
    async fn image_of(&self, container: &Container) -> Result<ResolvedImage, ContainersError> {
        let image = self.0.images.resolve(&container.config.image).await;
        match image {
            Ok(image) if image.digest == container.image_digest => Ok(image),
            Ok(_) | Err(ImageError::NotFound { .. }) => {
                let name = container.config.image.split('@').next().unwrap_or_default();
                let name = match name.rsplit_once(':') {
                    Some((name, tag)) if !tag.contains('/') => name,
                    _ => name,
                };
                Ok(self.0.images.resolve(&format!("{name}@{}", container.image_digest)).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What its mounts come from, where it is to be made.
    async fn make_sources(&self, container: &Container) -> Result<(), ContainersError> {
        for (index, mount) in container.config.mounts.iter().enumerate() {
            match &mount.source {
                MountFrom::Host { path, make: true } => {
                    let made = tokio::fs::create_dir_all(path).await;
                    // A file is there already: it is mounted.
                    let is_there = tokio::fs::try_exists(path).await.unwrap_or(false);
                    if let Err(error) = made
                        && !is_there
                    {
                        let path = path.display().to_string();
                        return Err(ContainersError::Path { path, message: error.to_string() });
                    }
                }
                MountFrom::Host { path, make: false } => {
                    if !tokio::fs::try_exists(path).await.unwrap_or(false) {
                        let message = "the mount's source does not exist".to_owned();
                        return Err(ContainersError::Path { path: path.display().to_string(), message });
                    }
                }
                MountFrom::Volume { name } => {
                    let name = VolumeName::new(name)
                        .ok_or_else(|| spec::SpecError::Volume { value: name.clone() })?;
                    self.make_volume(name).await?;
                }
                MountFrom::Anonymous => {
                    if let Some(name) = spec::anonymous_volume(&container.id, index) {
                        self.make_volume(name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn make_volume(&self, name: VolumeName) -> Result<(), ContainersError> {
        let volume = VolumeSpec { name: name.clone(), labels: Vec::new() };
        match self.0.engine.create_volume(volume).await {
            Ok(_) => Ok(()),
            // Somebody made it with labels.
            Err(EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops it with its signal and grace (seconds), and returns once it has ended.
    pub async fn stop(&self, given: &str, grace_secs: Option<u32>) -> Result<(), ContainersError> {
        let container = self.find(given)?;
        if !container.state.is_alive() {
            return Ok(());
        }
        let signal = spec::stop_signal(&container.config, None)?;
        let grace = grace_secs.or(container.config.stop_timeout_secs).unwrap_or(spec::STOP_TIMEOUT_SECS);
        let grace = Duration::from_secs(u64::from(grace));
        let engine_id = self.engine_id(&container)?;
        self.change(&container.id, |container| container.wanted = Wanted::Stopped).await?;
        if matches!(container.state, State::Paused { .. }) {
            self.0.engine.resume_container(&engine_id).await?;
        }
        let mut events = self.events();
        self.0.engine.stop_container(&engine_id, signal, grace).await?;
        self.ended(&mut events, &container, grace + EXIT_WAIT_SLACK).await;
        if let Some(container) = self.get(&container.id) {
            self.tell(&container, Action::Stop);
        }
        Ok(())
    }

    pub async fn kill(&self, given: &str, signal: Signal) -> Result<(), ContainersError> {
        let container = self.running(given)?;
        let stops = signal == Signal::KILL || spec::stop_signal(&container.config, None)? == signal;
        if stops {
            self.change(&container.id, |container| container.wanted = Wanted::Stopped).await?;
        }
        let engine_id = self.engine_id(&container)?;
        self.0.engine.kill_container(&engine_id, signal).await?;
        self.tell(&container, Action::Kill { signal: signal.0 });
        Ok(())
    }

    pub async fn restart(&self, given: &str, grace_secs: Option<u32>) -> Result<(), ContainersError> {
        self.stop(given, grace_secs).await?;
        self.start(given).await?;
        let container = self.find(given)?;
        self.tell(&container, Action::Restart);
        Ok(())
    }

    pub async fn pause(&self, given: &str) -> Result<(), ContainersError> {
        let container = self.running(given)?;
        if matches!(container.state, State::Paused { .. }) {
            return Err(ContainersError::Paused(container.name.clone()));
        }
        let engine_id = self.engine_id(&container)?;
        self.0.engine.pause_container(&engine_id).await?;
        self.see(&container).await?;
        self.tell(&container, Action::Pause);
        Ok(())
    }

    pub async fn unpause(&self, given: &str) -> Result<(), ContainersError> {
        let container = self.find(given)?;
        if !matches!(container.state, State::Paused { .. }) {
            return Err(ContainersError::NotPaused(container.name.clone()));
        }
        let engine_id = self.engine_id(&container)?;
        self.0.engine.resume_container(&engine_id).await?;
        self.see(&container).await?;
        self.tell(&container, Action::Unpause);
        Ok(())
    }

    pub async fn rename(&self, given: &str, to: &str) -> Result<(), ContainersError> {
        if !names::is_name(to) {
            return Err(ContainersError::Name(to.to_owned()));
        }
        let id = self.find(given)?.id.clone();
        let renamed = self
            .transact(|transaction| {
                let taken = transaction
                    .index::<Container>(BY_NAME, &to.to_owned().to_bytes())
                    .find(|held| held.name == to && held.id != id)
                    .map(|held| held.id.clone());
                if let Some(id) = taken {
                    return Err(ContainersError::NameTaken { name: to.to_owned(), id });
                }
                let held = transaction.get::<Container>(&id);
                let held = held.ok_or_else(|| ContainersError::NoContainer(given.to_owned()))?;
                let from = held.name.clone();
                let renamed = Container { name: to.to_owned(), ..Container::clone(&held) };
                transaction.put(renamed.clone());
                Ok((renamed, from))
            })
            .await?;
        self.tell(&renamed.0, Action::Rename { from: renamed.1 });
        Ok(())
    }

    /// Removes it with its files and output.
    pub async fn remove(&self, given: &str, options: RemoveOptions) -> Result<(), ContainersError> {
        let container = self.find(given)?;
        if container.state.is_alive() && !options.force {
            return Err(ContainersError::Running(container.name.clone()));
        }
        let _guard = self.lock(&container.id).await;
        self.remove_locked(&container.id, options.volumes).await
    }

    pub(crate) async fn remove_locked(&self, id: &str, volumes: bool) -> Result<(), ContainersError> {
        let Some(container) = self.set_state(id, State::Removing).await? else { return Ok(()) };
        self.0.published.lock().remove(id);
        if let Some(sandbox) = spec::sandbox_id(id) {
            self.0.engine.remove_sandbox(&sandbox).await?;
        }
        if container.network.is_some() {
            self.0.network.detach(&owner(id)).await?;
        }
        if volumes || container.config.auto_remove {
            for (index, mount) in container.config.mounts.iter().enumerate() {
                if let (MountFrom::Anonymous, Some(name)) = (&mount.source, spec::anonymous_volume(id, index))
                {
                    self.0.engine.remove_volume(&name).await?;
                }
            }
        }
        let key = id.to_owned();
        self.transact(move |transaction| {
            transaction.delete::<Container>(&key);
            Ok(())
        })
        .await?;
        self.0.locks.lock().remove(id);
        self.0.attached.lock().remove(id);
        self.tell(&container, Action::Destroy);
        Ok(())
    }

    /// Removes a container that asked for it, once it has ended and its output is read.
    pub(crate) async fn remove_itself(&self, id: &str) {
        let readers = self.0.attached.lock().get(id).cloned();
        if let Some(readers) = readers {
            let _ = tokio::time::timeout(READERS_WAIT, readers.gone()).await;
        }
        let _guard = self.lock(id).await;
        let still_over = self.get(id).is_some_and(|container| matches!(container.state, State::Exited(_)));
        if still_over && let Err(error) = self.remove_locked(id, true).await {
            tracing::error!(%error, id, "a container cannot be removed");
        }
    }

    /// Waits, and returns the exit code of the last end: `None` when nobody learned it.
    pub async fn wait(&self, given: &str, until: WaitFor) -> Result<Option<i32>, ContainersError> {
        let mut events = self.events();
        let container = self.find(given)?;
        let mut code = exit_code(&container);
        if until == WaitFor::NotRunning && !container.state.is_alive() {
            return Ok(code);
        }
        loop {
            match events.recv().await {
                Ok(event) if event.id == container.id => match event.action {
                    Action::Die { code: died } => {
                        code = died;
                        let restarts = self.get(&container.id).is_some_and(|now| now.state.is_alive());
                        if until == WaitFor::NextExit || (until == WaitFor::NotRunning && !restarts) {
                            return Ok(code);
                        }
                    }
                    Action::Destroy => return Ok(code),
                    _ => {}
                },
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => match self.get(&container.id) {
                    None => return Ok(code),
                    Some(now) => {
                        code = exit_code(&now).or(code);
                        if until != WaitFor::Removed && !now.state.is_alive() {
                            return Ok(code);
                        }
                    }
                },
                Err(RecvError::Closed) => return Ok(code),
            }
        }
    }

    /// Waits until the container has ended, or is gone.
    async fn ended(
        &self,
        events: &mut tokio::sync::broadcast::Receiver<crate::event::ContainerEvent>,
        container: &Container,
        at_most: Duration,
    ) {
        let over = async {
            while self.get(&container.id).is_some_and(|now| now.state.is_alive()) {
                if matches!(events.recv().await, Err(RecvError::Closed)) {
                    return;
                }
            }
        };
        // Beyond that the caller finds it as it is.
        let _ = tokio::time::timeout(at_most, over).await;
    }

    /// One that runs or is paused.
    pub(crate) fn running(&self, given: &str) -> Result<std::sync::Arc<Container>, ContainersError> {
        let container = self.find(given)?;
        match container.state {
            State::Running { .. } | State::Paused { .. } => Ok(container),
            _ => Err(ContainersError::NotRunning(container.name.clone())),
        }
    }

    pub(crate) fn engine_id(&self, container: &Container) -> Result<ContainerId, ContainersError> {
        spec::container_id(&container.id, container.run)
            .ok_or_else(|| ContainersError::NoContainer(container.id.clone()))
    }
}

/// Of the network's things.
pub(crate) fn owner(id: &str) -> String {
    format!("run-{}", id.get(..32).unwrap_or(id))
}

fn exit_code(container: &Container) -> Option<i32> {
    match &container.state {
        State::Exited(exit) | State::Restarting { exit } => exit.code,
        // As `docker wait` says of one that never ran.
        State::Created => Some(0),
        _ => None,
    }
}
