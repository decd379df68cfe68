//! The spawners: small processes that do what blocks. Each has one job at a time; the queue is here.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use rustix::process::Pid;
use wharf_engine::{ContainerId, ContainerSpec, EngineError, SandboxId, SandboxSpec, VolumeName};

use super::clients::Caller;
use super::embedded::cgroup::Freezer;
use super::embedded::copy::CopyRequest;
use super::embedded::exec::ExecRequest;
use super::embedded::spawner::{self, Client, ClientError, Reply, Request};
use super::embedded::{Host, Stdio};
use super::sessions::SessionNumber;
use super::{ContainerNumber, daemon, process};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Jobs that wait; more are refused.
pub const JOBS_MAX: usize = 16 * 1024;
/// Cleaning gives way to starting until so much of it waits.
const BACKGROUND_JOBS_PATIENT: usize = 256;
/// How often a job is given to another spawner when one died over it.
const ATTEMPTS_MAX: u32 = 3;

/// What is to be done, and for whom.
#[derive(Debug)]
pub enum Job {
    MakeSandbox(SandboxSpec),
    Start {
        number: ContainerNumber,
        sandbox: Box<SandboxSpec>,
        spec: Box<ContainerSpec>,
    },
    /// After an exit.
    Clean {
        sandbox: SandboxId,
        container: ContainerId,
    },
    /// After a start that a spawner died over.
    CleanDebris {
        number: ContainerNumber,
        sandbox: SandboxId,
        container: ContainerId,
    },
    /// Before a restart: the groups go, the writable layer stays.
    CleanToRestart {
        number: ContainerNumber,
        sandbox: SandboxId,
        container: ContainerId,
    },
    RemoveSandbox(SandboxId),
    /// Kills what a probe left.
    RemoveExec {
        sandbox: SandboxId,
        container: ContainerId,
        group: String,
    },
    Freeze {
        number: ContainerNumber,
        sandbox: SandboxId,
        container: ContainerId,
        to: Freezer,
        caller: Option<Caller>,
    },
    RemoveVolume(VolumeName),
    /// A program beside a container's own.
    Exec {
        session: SessionNumber,
        container: ContainerNumber,
        request: Box<ExecRequest>,
    },
    /// Files into or out of a container; `container` is one that runs.
    Copy {
        session: SessionNumber,
        container: Option<ContainerNumber>,
        request: Box<CopyRequest>,
    },
}

impl Job {
    /// `None`: of no sandbox.
    pub fn sandbox(&self) -> Option<&SandboxId> {
        match self {
            Self::MakeSandbox(spec) => Some(&spec.id),
            Self::Start { sandbox, .. } => Some(&sandbox.id),
            Self::Clean { sandbox, .. }
            | Self::CleanDebris { sandbox, .. }
            | Self::CleanToRestart { sandbox, .. }
            | Self::RemoveExec { sandbox, .. }
            | Self::Freeze { sandbox, .. }
            | Self::RemoveSandbox(sandbox) => Some(sandbox),
            Self::Exec { request, .. } => Some(&request.sandbox.id),
            Self::Copy { request, .. } => Some(&request.sandbox.id),
            Self::RemoveVolume(_) => None,
        }
    }

    fn request(&self) -> Request {
        match self {
            Self::MakeSandbox(spec) => Request::CreateSandbox(spec.clone()),
            Self::Start { sandbox, spec, .. } => {
                Request::Start { sandbox: (**sandbox).clone(), container: (**spec).clone() }
            }
            Self::Clean { sandbox, container } | Self::CleanDebris { sandbox, container, .. } => {
                Request::CleanContainer { sandbox: sandbox.clone(), container: container.clone() }
            }
            Self::CleanToRestart { sandbox, container, .. } => {
                Request::CleanGroups { sandbox: sandbox.clone(), container: container.clone() }
            }
            Self::RemoveSandbox(sandbox) => Request::RemoveSandbox(sandbox.clone()),
            Self::RemoveExec { sandbox, container, group } => Request::RemoveExec {
                sandbox: sandbox.clone(),
                container: container.clone(),
                group: group.clone(),
            },
            Self::Freeze { sandbox, container, to, .. } => {
                Request::Freeze { sandbox: sandbox.clone(), container: container.clone(), to: *to }
            }
            Self::RemoveVolume(volume) => Request::RemoveVolume(volume.clone()),
            Self::Exec { request, .. } => Request::Exec((**request).clone()),
            Self::Copy { request, .. } => Request::Copy((**request).clone()),
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub enum Outcome {
    Replied {
        reply: Reply,
        pidfd: Option<OwnedFd>,
        others: Vec<OwnedFd>,
    },
    /// The spawner died over it. Whether anything was done is not known.
    Died,
    /// It was never sent.
    NotSent(ClientError),
}

struct Spawner {
    client: Client,
    pid: Option<Pid>,
    busy: Option<(Job, u32)>,
}

pub struct Spawners {
    spawners: Vec<Spawner>,
    urgent: VecDeque<(Job, u32)>,
    background: VecDeque<(Job, u32)>,
    /// The limit on descriptors that containers shall have.
    descriptors: rustix::process::Rlimit,
}

impl Spawners {
    /// Forks them. To be called before the limit on descriptors is raised.
    pub fn fork(host: &Host, count: usize, descriptors: rustix::process::Rlimit) -> io::Result<Self> {
        let spawners = (0..count).map(|_| Spawner::fork(host)).collect::<io::Result<_>>()?;
        Ok(Self { spawners, urgent: VecDeque::new(), background: VecDeque::new(), descriptors })
    }

    pub fn len(&self) -> usize {
        self.spawners.len()
    }

    pub fn socket(&self, index: usize) -> Option<impl AsFd + '_> {
        self.spawners.get(index).map(|spawner| &spawner.client)
    }

    pub fn is_full(&self) -> bool {
        self.urgent.len() >= JOBS_MAX
    }

    pub fn push(&mut self, job: Job) {
        match job {
            Job::Clean { .. } | Job::RemoveExec { .. } => self.background.push_back((job, 0)),
            _ => self.urgent.push_back((job, 0)),
        }
    }

    /// Forgets the cleaning of a sandbox's containers: it is removed as a whole.
    pub fn forget_cleaning(&mut self, sandbox: &SandboxId) {
        self.background.retain(|(job, _)| job.sandbox() != Some(sandbox));
    }

    /// Whether a spawner works on something of this sandbox, or is about to.
    pub fn works_on(&self, sandbox: &SandboxId) -> bool {
        let busy = self.spawners.iter().filter_map(|spawner| spawner.busy.as_ref());
        busy.chain(&self.urgent).any(|(job, _)| job.sandbox() == Some(sandbox))
    }

    /// Whether none has a job.
    pub fn are_idle(&self) -> bool {
        self.spawners.iter().all(|spawner| spawner.busy.is_none())
    }

    /// Hands waiting jobs to idle spawners. `stdio` gives what a container writes to, `pidfd` one that
    /// runs. Returns the jobs that could not be sent.
    pub fn dispatch<'a>(
        &mut self,
        stdio: impl Fn(ContainerNumber) -> Option<Stdio<'a>>,
        pidfd: impl Fn(ContainerNumber) -> Option<BorrowedFd<'a>>,
    ) -> Vec<(Job, Outcome)> {
        let mut failed = Vec::new();
        for spawner in &mut self.spawners {
            while spawner.busy.is_none() {
                let patient = self.background.len() < BACKGROUND_JOBS_PATIENT;
                let next = if patient { self.urgent.pop_front() } else { None };
                let Some((job, attempts)) =
                    next.or_else(|| self.background.pop_front()).or_else(|| self.urgent.pop_front())
                else {
                    return failed;
                };
                let stdio = match &job {
                    Job::Start { number, .. } => stdio(*number),
                    _ => None,
                };
                let sent = match &job {
                    Job::Exec { container, request, .. } => match pidfd(*container) {
                        Some(pidfd) => spawner.client.send_exec(&job.request(), pidfd),
                        None => {
                            let error = EngineError::NotRunning(request.container.clone());
                            let reply = Reply::Failed { error, unreaped: None };
                            let outcome = Outcome::Replied { reply, pidfd: None, others: Vec::new() };
                            failed.push((job, outcome));
                            continue;
                        }
                    },
                    Job::Copy { container: Some(container), .. } => match pidfd(*container) {
                        Some(pidfd) => spawner.client.send_exec(&job.request(), pidfd),
                        None => {
                            let message = "the container has ended".to_owned();
                            let reply =
                                Reply::Failed { error: EngineError::Internal { message }, unreaped: None };
                            let outcome = Outcome::Replied { reply, pidfd: None, others: Vec::new() };
                            failed.push((job, outcome));
                            continue;
                        }
                    },
                    _ => spawner.client.send(&job.request(), stdio.as_ref()),
                };
                match sent {
                    Ok(()) => spawner.busy = Some((job, attempts)),
                    // Its socket tells of the death in a moment.
                    Err(ClientError::Gone) => {
                        spawner.busy = Some((job, attempts));
                    }
                    Err(error) => failed.push((job, Outcome::NotSent(error))),
                }
            }
        }
        failed
    }

    /// What the spawner at `index` has to say, now that its socket is readable.
    pub fn receive(&mut self, index: usize) -> (Health, Option<(Job, Outcome)>) {
        let Some(spawner) = self.spawners.get_mut(index) else { return (Health::Lives, None) };
        match spawner.client.try_receive() {
            Ok(None) => (Health::Lives, None),
            Ok(Some(answer)) => {
                let ended = spawner.busy.take();
                let outcome =
                    Outcome::Replied { reply: answer.reply, pidfd: answer.pidfd, others: answer.others };
                (Health::Lives, ended.map(|(job, _)| (job, outcome)))
            }
            Err(error) => {
                daemon::note(&format!("a spawner is gone: {error}"));
                let ended = spawner.busy.take();
                (Health::Gone, self.retry(ended))
            }
        }
    }

    /// What may be done twice is done again; what may not is told of.
    fn retry(&mut self, ended: Option<(Job, u32)>) -> Option<(Job, Outcome)> {
        let (job, attempts) = ended?;
        if matches!(job, Job::Start { .. } | Job::Exec { .. } | Job::Copy { .. })
            || attempts + 1 >= ATTEMPTS_MAX
        {
            return Some((job, Outcome::Died));
        }
        self.urgent.push_front((job, attempts + 1));
        None
    }

    /// Puts another in the place of a spawner that is gone.
    pub fn replace(&mut self, index: usize, host: &Host) -> io::Result<()> {
        let raised = daemon::descriptor_limit();
        daemon::set_descriptor_limit(self.descriptors);
        let forked = Spawner::fork(host);
        daemon::set_descriptor_limit(raised);
        if let Some(spawner) = self.spawners.get_mut(index) {
            spawner.end();
            *spawner = forked?;
        }
        Ok(())
    }

    /// Runs a fork with the limit on descriptors that containers shall have.
    pub fn with_own_limit<T>(&self, fork: impl FnOnce() -> T) -> T {
        let raised = daemon::descriptor_limit();
        daemon::set_descriptor_limit(self.descriptors);
        let forked = fork();
        daemon::set_descriptor_limit(raised);
        forked
    }

    /// Ends all, and waits until they are gone.
    pub fn end(&mut self) {
        for spawner in self.spawners.drain(..) {
            spawner.end();
        }
    }
}

/// Of a spawner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Lives,
    Gone,
}

impl Spawner {
    fn fork(host: &Host) -> io::Result<Self> {
        let client = spawner::fork(host)?;
        let pid = client.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(Self { client, pid, busy: None })
    }

    fn end(&self) {
        if let Some(pid) = self.pid {
            daemon::kill(pid);
            process::reap_killed(pid);
        }
    }
}
