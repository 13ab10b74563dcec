//! The control group of the node: everything that runs on it is in it, and is found there when the node ends.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::network::NODE;

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the node's control group in every hierarchy, and returns a group in one of them that is for the node's own
/// processes. Both versions of control groups are served; with version 1 the kubelet wants every hierarchy.
pub(crate) fn create() -> Result<PathBuf> {
    let root = Path::new(ROOT);
    let own = match root.join("cgroup.controllers").exists() {
        true => create_unified(root)?,
        false => create_hierarchies(root)?,
    };
    let own = own.join("node");
    make(&own)?;
    Ok(own)
}

fn create_unified(root: &Path) -> Result<PathBuf> {
    let group = root.join(NODE);
    make(&group)?;
    let available = fs::read_to_string(root.join("cgroup.controllers")).context("cannot read the control groups' controllers")?;
    for controller in available.split_ascii_whitespace() {
        for parent in [root, &group] {
            // Some cannot be handed on; the kubelet says so if it misses one.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(group)
}

fn create_hierarchies(root: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(root).with_context(|| format!("cannot read {ROOT}"))? {
        let hierarchy = entry.with_context(|| format!("cannot read {ROOT}"))?.path();
        // Version 2 beside version 1 has no controllers, and the kubelet does not look at it.
        if !hierarchy.is_dir() || hierarchy.is_symlink() || hierarchy.join("cgroup.controllers").exists() {
            continue;
        }
        let group = hierarchy.join(NODE);
        make(&group)?;
        // A new group has no processors and no memory nodes, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let Ok(all) = fs::read_to_string(hierarchy.join(file)) else { continue };
            fs::write(group.join(file), all.trim()).with_context(|| format!("cannot write {file} in {}", group.display()))?;
        }
    }
    // Any hierarchy will do whose groups limit nothing by themselves.
    Ok(root.join("pids").join(NODE))
}

fn make(group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("cannot create the control group {}", group.display()))
}
