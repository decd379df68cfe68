//! What a new keeper does with what it finds: containers that an earlier keeper started.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::ExitCode;

use wharf_engine::log::LogPolicy;
use wharf_engine::session::Stdin;
use wharf_engine::{Asked, ContainerId, SandboxId};

use super::attach::Input;
use super::batch::Unfinished;
use super::care::{Care, Cleaned, Restarting};
use super::lifecycle::{Keep, lost_exit};
use super::output::{Now, Output};
use super::spawners::Job;
use super::supervisor::{self, Held, Message, Turn};
use super::{
    Container, Keeper, Logged, Parent, Phase, Running, Sandbox, SandboxPhase, Set, Timer, daemon, process,
};
use crate::state::{ContainerRecord, Entry, ProcessRef, SandboxRecord, Snapshot};
use wharf_core::Timestamp;

impl Keeper {
    /// Takes over what `found` says there is. Before the keeper serves: this may block.
    pub(super) fn adopt(&mut self, found: Snapshot, boot_id: &str, unfinished: Option<&Unfinished>) {
        let keep: BTreeSet<SandboxId> = found.sandboxes.keys().cloned().collect();
        if let Err(error) = self.host.sweep(&keep) {
            daemon::note(&format!("sweeping up what no sandbox owns: {error}"));
        }
        for (id, record) in found.sandboxes {
            let phase = SandboxPhase::Made;
            let SandboxRecord { spec, created_at, by } = record;
            self.sandboxes.insert(id.clone(), Sandbox { spec, created_at, by, phase });
            self.begin_measuring(&id, Now::read());
        }
        let same_boot = found.boot_id == boot_id;
        for (id, record) in found.containers {
            self.adopt_container(id, record, same_boot, unfinished);
        }
    }

    fn adopt_container(
        &mut self,
        id: ContainerId,
        record: ContainerRecord,
        same_boot: bool,
        unfinished: Option<&Unfinished>,
    ) {
        let now = Now::read();
        let ContainerRecord {
            sandbox,
            fingerprint,
            labels,
            by,
            started,
            kill_at,
            exit,
            exec_base,
            care,
            care_now,
        } = record;
        let log = care.log;
        let phase = match (exit, started) {
            (Some(exit), started) => Phase::Exited { started_at: started.map(|(_, at)| at), exit },
            (None, None) if care_now.restarting.is_some() && same_boot => {
                let restarting = care_now.restarting.clone();
                let (exit, at) = restarting.unwrap_or_else(|| (lost_exit(now), now.timestamp()));
                let cleaned = Cleaned::NotYet;
                Phase::Restarting(Box::new(Restarting { started_at: exit.at, exit, at, cleaned }))
            }
            (None, None) => {
                // The keeper died in the middle of its start.
                if let Err(error) = self.host.clean_container(&sandbox, &id) {
                    daemon::note(&format!("cleaning up container {id}: {error}"));
                }
                self.remove_files(&id, Keep::Nothing);
                self.persist(&Entry::NotStarted { container: id }, now);
                return;
            }
            (None, Some((process, at))) => {
                let unfinished = unfinished.filter(|left| left.container == id);
                let adopted =
                    same_boot.then(|| self.adopt_running(&id, log, process, at, unfinished)).flatten();
                match adopted {
                    Some(mut running) => {
                        running.kill_at = kill_at;
                        Phase::Running(running)
                    }
                    None => {
                        let exit = lost_exit(now);
                        self.remove_files(&id, Keep::Log);
                        self.persist(&Entry::Exited { container: id.clone(), exit: exit.clone() }, now);
                        let clean = (sandbox.clone(), id.clone());
                        self.spawners.push(Job::Clean { sandbox: clean.0, container: clean.1 });
                        Phase::Exited { started_at: Some(at), exit }
                    }
                }
            }
        };
        self.next_number += 1;
        let number = self.next_number;
        let runs = matches!(phase, Phase::Running(_));
        self.numbers.insert(id.clone(), number);
        let restarts = matches!(phase, Phase::Restarting(_));
        let care = Care::new(care, care_now);
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            fingerprint,
            labels,
            by,
            care,
            exec_base: exec_base.into(),
            attached: Vec::new(),
            phase,
        };
        self.containers.insert(number, container);
        if restarts {
            self.spawners.push(Job::CleanToRestart { number, sandbox, container: id });
            return;
        }
        if !runs {
            return;
        }
        self.go_on_probing(number, now);
        if let Err(error) = self.watch_running(number) {
            daemon::note(&format!("watching container {id}: {error}"));
        }
        if let Some(kill_at) = kill_at {
            let grace_ms = u64::try_from(kill_at.since(now.timestamp()).as_millis()).unwrap_or(u64::MAX);
            self.timers.insert((now.monotonic_ms.saturating_add(grace_ms), number, Timer::Kill));
        }
    }

    /// Tells the supervisor which of its children are containers. It reaps all others when they end:
    /// spawners, starts that were cut off, what an earlier keeper's containers left.
    pub(super) fn name_what_is_left(&mut self) {
        let runs = self.containers.values().filter_map(|container| match &container.phase {
            Phase::Running(running) => Some(running.process.pid),
            Phase::Starting(_) | Phase::Restarting(_) | Phase::Exited { .. } => None,
        });
        let containers: Vec<u32> = runs.collect();
        for some in containers.chunks(supervisor::PIDS_MAX) {
            self.supervisor.tell(&Message::Containers(some.to_vec()));
        }
        self.supervisor.tell(&Message::AllNamed);
    }

    /// Ends for a newer keeper, which finds everything as after a death.
    pub(super) fn hand_over(mut self) -> Turn {
        self.supervisor.flush();
        self.spawners.end();
        self.storage.end();
        daemon::note("the keeper is handed over");
        Turn::End(ExitCode::SUCCESS)
    }

    /// The lock of a supervisor that has died; `None` when there is another already.
    pub(super) fn replace_supervisor(&self) -> Option<File> {
        if self.version < crate::protocol::HAND_OVER_SINCE {
            return None;
        }
        supervisor::lock().ok().flatten()
    }

    /// Goes on as the supervisor: its children, the containers, stay its children.
    pub(super) fn into_supervisor(mut self, lock: File) -> Turn {
        daemon::note("the supervisor has died: the keeper takes its place, and forks a keeper");
        let mut held = Held::default();
        for (_, container) in self.containers.drain() {
            let output = match container.phase {
                Phase::Starting(starting) => starting.output,
                Phase::Running(running) => running.output,
                // Nothing of its last run writes any more.
                Phase::Restarting(_) | Phase::Exited { .. } => continue,
            };
            held.add(container.id, output.into_pipes());
        }
        self.spawners.end();
        self.storage.end();
        Turn::Supervise { lock, starter: None, held }
    }

    /// `None` when it has ended: whatever it wrote last went with it.
    fn adopt_running(
        &mut self,
        id: &ContainerId,
        log: LogPolicy,
        process: ProcessRef,
        started_at: Timestamp,
        unfinished: Option<&Unfinished>,
    ) -> Option<Box<Running>> {
        let opened = Output::open(id, log);
        let mut output = match opened {
            Ok(output) => output,
            Err(error) => {
                daemon::note(&format!("the output of {id}: {error}"));
                return None;
            }
        };
        if let Some(left) = unfinished
            && let Err(error) = output.repair(left)
        {
            daemon::note(&format!("repairing the log of {id}: {error}"));
        }
        let Some(pidfd) = process::adopt(process) else {
            if let Err(error) = self.mover.finish(id, &mut output, Now::read()) {
                daemon::note(&format!("the last output of {id}: {error}"));
            }
            return None;
        };
        daemon::note(&format!("container {id} is adopted: pid {}", process.pid));
        Some(Box::new(Running {
            process,
            parent: Parent::Another,
            pidfd,
            started_at,
            output,
            input: adopt_input(id),
            kill_at: None,
            asked: Asked::No,
            storage_exceeded: Set::No,
            open_line_timer: Set::No,
            logged: Logged::Told { at_ms: 0 },
        }))
    }
}

/// The input of a container that reads from a named pipe, whatever its mode.
fn adopt_input(id: &ContainerId) -> Input {
    let open = |mode| match Input::open(id, mode) {
        Ok(Input::Pipe { write, mode }) => Some(Input::Pipe { write, mode }),
        Ok(_) => None,
        Err(error) => {
            daemon::note(&format!("the input of {id}: {error}"));
            None
        }
    };
    open(Stdin::Once).or_else(|| open(Stdin::Open)).unwrap_or(Input::None)
}
