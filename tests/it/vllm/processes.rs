//! The processes of a vLLM: the server, its engine core, and the worker that has the model.

use std::fs;

/// What a process of the node is: its command line, its parent.
fn process(id: u32) -> Option<(String, u32)> {
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    Some((String::from_utf8_lossy(&line).replace('\0', " "), parent))
}

fn all() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The server of a model, if it runs.
pub fn server(name: &str) -> Option<u32> {
    let is = |id: &u32| process(*id).is_some_and(|(line, _)| line.contains("vllm serve") && line.contains(&format!(" {name} ")));
    all().into_iter().filter(is).min()
}

/// Python's processes that a process has started; what they ask the machine with, through a shell, is none of them.
fn children(of: u32) -> Vec<u32> {
    let is = |id: &u32| {
        process(*id).is_some_and(|(line, parent)| {
            parent == of && !line.contains("resource_tracker") && ["python", "VLLM"].iter().any(|word| line.contains(word))
        })
    };
    all().into_iter().filter(is).collect()
}

/// The engine core of a server, which has a worker.
pub fn core(server: u32) -> Option<u32> {
    children(server).into_iter().find(|child| !children(*child).is_empty())
}

/// Where the model is: the child of the engine core.
pub fn worker(server: u32) -> Option<u32> {
    children(core(server)?).into_iter().next()
}
