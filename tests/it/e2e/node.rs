//! What lies below the cluster: processes and files of the node, and what the hub was asked for.

use std::{fs, path::Path};

use serde_json::Value;
use tokio::process::Command;

use super::{place::Place, world::output};

impl Place {
    /// Requests for a file of a repository of this place, with what was sent: from the listing to the last byte.
    pub fn downloads(&self, name: &str, file: &str) -> Vec<localcluster::hub::Logged> {
        let hub = self.world.hub();
        let cdn = hub.cdn.unwrap().port();
        let of = format!("/cdn/{}/{name}/", self.name);
        let requests = hub.requests().into_iter();
        requests.filter(|request| request.port == cdn && request.path.starts_with(&of) && request.path.ends_with(file)).collect()
    }

    /// The files that a pod's engine sees, by their paths in the volume on the node.
    pub fn served_tree(&self, pod: &Value) -> Vec<String> {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let tree = self.world.kubelet().join("pods").join(uid).join("volumes/kubernetes.io~empty-dir/weights/tree");
        let mut files = Vec::new();
        walk(&tree, &tree, &mut files);
        files.sort();
        files
    }

    /// Ids of processes on the node whose command line has both texts.
    pub fn processes(&self, program: &str, argument: &str) -> Vec<u32> {
        // Other clusters of this machine may run the same.
        let group = format!("/{}/", self.world.cluster.network().unwrap());
        let is_of_us = |process: &Path| fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(&group));
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.starts_with(program) && line.contains(argument) && is_of_us(&entry.path()) {
                found.push(id);
            }
        }
        found
    }

    /// Ends a process at once, as the kernel does when memory runs out.
    pub async fn kill(&self, process: u32) {
        output(Command::new("kill").args(["-KILL", &process.to_string()])).await;
    }
}

fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())).flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(root, &entry.path(), files);
        } else {
            files.push(entry.path().strip_prefix(root).unwrap().display().to_string());
        }
    }
}

/// SHA-256 of a file, as hexadecimal digits.
pub async fn sha256(file: &Path) -> String {
    let line = output(Command::new("sha256sum").arg(file)).await;
    line.split_whitespace().next().unwrap().to_owned()
}
