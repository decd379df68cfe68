//! The keeper: one small, long-lived, single-threaded process that parents every container, holds
//! their output, writes their logs and keeps their exit codes; and [`KeeperEngine`], the
//! [`wharf_engine::Engine`] that a control plane uses to speak to it.
//!
//! Who lives how long:
//! - The control plane may be killed, restarted or upgraded at any time: containers run on with the
//!   same pids, their output goes on into their logs, their exits are kept. It finds everything
//!   again with [`wharf_engine::Engine::list`].
//! - The keeper may be killed: containers run on. Their output waits in named pipes which each
//!   container itself holds open, so nothing breaks and nothing is lost. [`KeeperEngine`] starts
//!   another keeper, which adopts what runs from the state file ([`state`]). What cannot be kept is
//!   the last pipe-full of output, and the exit code, of a container that *ends* while no keeper
//!   lives: nobody holds them then.
//!
//! What this crate must not do: create namespaces, mounts or cgroups (that is
//! `wharf-engine-embedded`, run in spawner processes which the keeper forks), or know what a container is for.
#![allow(unsafe_code, reason = "fork and daemonize, a shared mapping, the pidfd ioctl")]

mod config;
mod engine;
mod fingerprint;
mod keeper;
mod log_reader;
mod paths;
mod processes;
mod protocol;
mod state;
pub mod testing;

pub use config::KeeperConfig;
pub use engine::{Connected, KeeperEngine, KeeperError};
pub use keeper::{main_from_args, run};
pub use protocol::PROTOCOL_VERSION;
