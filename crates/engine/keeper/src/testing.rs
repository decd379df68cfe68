//! For tests of the real engine: what the host has now, so that a test can show that it left nothing
//! behind.

use std::collections::BTreeSet;
use std::path::Path;

/// Mounts, cgroups, processes and files that belong to one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint(BTreeSet<String>);

impl Footprint {
    /// Everything on the host that carries the instance's name or lies in its directory: mounts of
    /// this mount namespace, cgroups of every hierarchy, processes with `dir` among their arguments,
    /// files below `dir`, and the directory of its pipes.
    pub fn of(instance: &str, dir: &Path) -> Self {
        let mut found = BTreeSet::new();
        let dir = dir.to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = mounts.lines().filter(|line| line.contains(&dir) || line.contains(instance));
        found.extend(ours.map(|line| format!("mount {line}")));
        let cgroup_roots = mounts.lines().filter(|line| line.contains(" - cgroup"));
        for root in cgroup_roots.filter_map(|line| line.split(' ').nth(4)) {
            walk(Path::new(root), &mut |path| {
                let name = path.to_string_lossy();
                if path.is_dir() && name.contains(instance) {
                    found.insert(format!("cgroup {name}"));
                }
            });
        }
        let own = std::process::id().to_string();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_string_lossy().into_owned();
            let is_pid = pid.bytes().all(|byte| byte.is_ascii_digit());
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if is_pid && pid != own && command.contains(&dir) {
                found.insert(format!("process {pid} {command}"));
            }
        }
        let pipes = crate::keeper::pipes::in_memory(instance);
        if pipes.exists() {
            found.insert(format!("file {}", pipes.display()));
        }
        walk(Path::new(&dir), &mut |path| {
            found.insert(format!("file {}", path.display()));
        });
        Self(found)
    }

    /// What is here and was not in `before`.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        visit(&path);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        }
    }
}
