//! What goes over the admin socket; also what `--json` prints.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub keeper_pid: Option<u32>,
    pub endpoint: String,
    pub data_dir: String,
    pub account: String,
    pub region: String,
    pub auth: String,
    /// ISO 8601.
    pub started_at: String,
    pub services: Vec<String>,
    pub running_tasks: usize,
    pub pending_tasks: usize,
    pub reconcilers: Vec<Reconciler>,
    /// What does not work on this machine, in words.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconciler {
    pub name: String,
    pub queued: usize,
    pub running: usize,
    pub runs: u64,
    /// The keys that fail, each with its last error.
    pub failing: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageSummary {
    pub reference: String,
    pub digest: String,
    pub size_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskSummary {
    pub arn: String,
    pub cluster: String,
    /// `family:revision`.
    pub task_definition: String,
    pub last_status: String,
    pub address: Option<String>,
    /// ISO 8601.
    pub created_at: String,
    pub stopped_reason: Option<String>,
    pub containers: Vec<ContainerSummary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSummary {
    pub name: String,
    pub last_status: String,
}

/// What `down` did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Downed {
    pub stopped_tasks: usize,
    /// Run by hand; they are gone.
    #[serde(default)]
    pub removed_containers: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
    pub hint: Option<String>,
    /// What the command exits with, where it is not 1.
    #[serde(default)]
    pub exit_code: Option<i32>,
}
