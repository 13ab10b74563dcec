//! The control group of a node: everything that runs on it is in it, and is found there when the node ends.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the control group `cluster/node` in every hierarchy, and returns a group in one of them that is for the node's own
/// processes. Both versions of control groups are served; with version 1 the kubelet wants every hierarchy.
pub(crate) fn create(cluster: &str, node: &str) -> Result<PathBuf> {
    let root = Path::new(ROOT);
    let own = match root.join("cgroup.controllers").exists() {
        true => create_unified(root, cluster, node)?,
        false => create_hierarchies(root, cluster, node)?,
    };
    let own = own.join("own");
    make(&own)?;
    Ok(own)
}

/// The processes in the control group `cluster/node` and below it.
pub(crate) fn processes(cluster: &str, node: &str) -> Vec<String> {
    let mut found = Vec::new();
    for group in groups(cluster, node) {
        walk(&group, &mut |directory| {
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(processes.split_ascii_whitespace().map(str::to_owned));
        });
    }
    found.sort();
    found.dedup();
    found
}

/// Removes the control group `cluster/node`, which has no processes any more. Says whether it is gone.
pub(crate) fn remove(cluster: &str, node: &str) -> bool {
    for group in groups(cluster, node) {
        walk(&group, &mut |directory| {
            let _ = fs::remove_dir(directory);
        });
    }
    groups(cluster, node).is_empty()
}

/// The group in every hierarchy that has it.
fn groups(cluster: &str, node: &str) -> Vec<PathBuf> {
    let below = Path::new(cluster).join(node);
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    let groups = hierarchies.chain([PathBuf::from(ROOT)]).map(|root| root.join(&below));
    groups.filter(|group| group.is_dir()).collect()
}

/// Visits all directories, the deepest first.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(directory);
}

fn create_unified(root: &Path, cluster: &str, node: &str) -> Result<PathBuf> {
    let cluster = root.join(cluster);
    let node = cluster.join(node);
    make(&node)?;
    let available = fs::read_to_string(root.join("cgroup.controllers")).context("cannot read the control groups' controllers")?;
    for controller in available.split_ascii_whitespace() {
        for parent in [root, &cluster, &node] {
            // Some cannot be handed on; the kubelet says so if it misses one.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(node)
}

fn create_hierarchies(root: &Path, cluster: &str, node: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {ROOT}"))? {
        let hierarchy = entry.with_context(|| format!("cannot read {ROOT}"))?.path();
        // Version 2 beside version 1 has no controllers, and the kubelet does not look at it.
        if !hierarchy.is_dir() || hierarchy.is_symlink() || hierarchy.join("cgroup.controllers").exists() {
            continue;
        }
        for group in [hierarchy.join(cluster), hierarchy.join(cluster).join(node)] {
            make(&group)?;
            // A new group has no processors and no memory nodes, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let Ok(all) = fs::read_to_string(hierarchy.join(file)) else { continue };
                fs::write(group.join(file), all.trim()).with_context(|| format!("cannot write {file} in {}", group.display()))?;
            }
        }
    }
    // Any hierarchy will do whose groups limit nothing by themselves.
    Ok(root.join("pids").join(cluster).join(node))
}

fn make(group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("cannot create the control group {}", group.display()))
}
