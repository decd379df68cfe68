//! Containers run by hand: what `docker run` and its family do, on Wharf's engine.
//!
//! A container here has a record with a unique name, an engine sandbox of its own (its network
//! namespace, its writable layer, kept until it is removed), and an engine container for each time it
//! was started by hand. Restarts by its policy are the engine's: they go on without the server.
//!
//! - [`config`]: what is asked for; [`records`]: what is known
//! - [`plan`]: names and engine specs, pure
//! - `life`: create, start, stop, remove; what engine events change; what a restarted server finds
//! - `streams`: exec, attach, logs, files
//! - [`ports`]: published ports
//!
//! This crate must not know the admin socket, the command line or any AWS service.

#![forbid(unsafe_code)]

pub mod config;
mod error;
pub mod event;
mod life;
mod lookup;
mod network;
pub mod plan;
pub mod ports;
mod reconcile;
pub mod records;
mod streams;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use wharf_contracts::ImageSource;
use wharf_core::{Clock, Rng};
use wharf_engine::Engine;
use wharf_state::{Builder, Store};

pub use error::ContainersError;
pub use life::{Created, RemoveOptions, WaitFor};
pub use network::{Attached, ContainerNetwork, NetworkError};
pub use streams::{Attachment, LogLine, LogOptions};

use crate::event::{ContainerEvent, EVENTS_QUEUED_MAX};
use crate::ports::Published;
use crate::records::Container;

/// Containers at a time, stopped ones included.
pub const CONTAINERS_MAX: usize = 4096;

/// The tables of this crate.
pub fn tables(builder: Builder) -> Builder {
    builder.table::<Container>()
}

/// What this crate stands on.
pub struct Dependencies {
    pub store: Store,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn ImageSource>,
    pub network: Arc<dyn ContainerNetwork>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}

/// All containers run by hand. Clones share them.
#[derive(Clone)]
pub struct Containers(Arc<Inner>);

struct Inner {
    store: Store,
    engine: Arc<dyn Engine>,
    images: Arc<dyn ImageSource>,
    network: Arc<dyn ContainerNetwork>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    events: broadcast::Sender<ContainerEvent>,
    /// By id: one change of a container at a time.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// By id.
    published: Mutex<HashMap<String, Published>>,
    /// By id: those who read a container's output. One that removes itself waits for them.
    attached: Mutex<HashMap<String, Arc<streams::Readers>>>,
}

impl Containers {
    pub fn new(dependencies: Dependencies) -> Self {
        let Dependencies { store, engine, images, network, clock, rng } = dependencies;
        Self(Arc::new(Inner {
            store,
            engine,
            images,
            network,
            clock,
            rng,
            events: broadcast::channel(EVENTS_QUEUED_MAX).0,
            locks: Mutex::default(),
            published: Mutex::default(),
            attached: Mutex::default(),
        }))
    }

    /// What happens from now on. Take it first, then look.
    pub fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.0.events.subscribe()
    }
}

#[cfg(test)]
mod tests;
