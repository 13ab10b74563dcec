//! Starts that are cut short, and owners that are killed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_localcluster");

#[test]
fn a_start_that_is_killed_half_way_ends_by_itself() {
    let (_directory, state) = state();
    let mut up = start(&state, "0");
    let server = process(&mut up, &state, "kube-apiserver");
    up.kill().unwrap();
    up.wait().unwrap();
    eventually("everything is gone", || !state.exists() && !runs(server));
}

#[test]
fn what_a_killed_start_left_is_removed_by_down_even_when_its_guard_was_killed_too() {
    let (_directory, state) = state();
    let (server, etcd) = kill_with_guard(start(&state, "0"), &state, "kube-apiserver");
    assert!(runs(etcd) && runs(server), "there is nothing to remove, so this shows nothing");
    assert!(run(&["status"], &state).contains("without being taken down"));
    run(&["down"], &state);
    assert!(!state.exists() && !runs(server) && !runs(etcd));
}

#[test]
fn what_a_killed_start_left_is_removed_by_the_next_start() {
    let (_directory, state) = state();
    let (server, etcd) = kill_with_guard(start(&state, "0"), &state, "kube-apiserver");
    run(&["up", "--nodes", "0"], &state);
    assert!(!runs(etcd) && !runs(server));
    assert!(run(&["status"], &state).contains("no nodes and no pods"));
    run(&["down"], &state);
    assert!(!state.exists());
}

#[test]
fn nodes_that_were_killed_half_way_are_removed_by_down() {
    let places = ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"];
    let before = places.map(|place| Path::new(place).exists());
    let (_directory, state) = state();
    let (kubelet, etcd) = kill_with_guard(start(&state, "2"), &state, "node1-kubelet");
    assert!(runs(etcd) && runs(kubelet), "there is nothing to remove, so this shows nothing");
    let name = fs::read_to_string(state.join("node")).unwrap().split(' ').next().unwrap().to_owned();
    let bridge = Path::new("/sys/class/net").join(&name);
    assert!(bridge.exists() && !groups(&name).is_empty(), "there is nothing to remove, so this shows nothing");
    run(&["down"], &state);
    assert!(!state.exists() && !runs(kubelet) && !runs(etcd));
    assert!(!bridge.exists());
    assert_eq!(groups(&name), Vec::<PathBuf>::new());
    let others = fs::read_dir("/run/bonafide-localcluster")
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("node"));
    assert!(others || places.map(|place| Path::new(place).exists()) == before);
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(state.to_str().unwrap()));
}

fn state() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("cluster");
    (directory, state)
}

fn start(state: &Path, nodes: &str) -> Child {
    let arguments = ["up", "--patience", "900", "--nodes", nodes, "--state"];
    Command::new(PROGRAM).args(arguments).arg(state).stdout(Stdio::null()).spawn().unwrap()
}

/// Kills a start, and before it its guard, once the process `seen` and etcd run; returns the ids of these two.
fn kill_with_guard(mut up: Child, state: &Path, seen: &str) -> (u32, u32) {
    let ids = (process(&mut up, state, seen), process(&mut up, state, "etcd"));
    let guards: Vec<_> = children(up.id()).into_iter().filter(|id| command_line(*id).contains("\0teardown\0")).collect();
    assert_eq!(guards.len(), 1, "a start has one guard");
    for id in guards {
        assert!(Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap().success());
    }
    up.kill().unwrap();
    up.wait().unwrap();
    ids
}

/// Runs a command of the program, and returns what it printed.
fn run(arguments: &[&str], state: &Path) -> String {
    let output = Command::new(PROGRAM).args(arguments).arg("--state").arg(state).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The id of a process of the cluster that `up` starts, as soon as it is on record and is what it is to become.
fn process(up: &mut Child, state: &Path, name: &str) -> u32 {
    let record = state.join("pid").join(name);
    let id = || fs::read_to_string(&record).ok()?.split(' ').next()?.parse().ok();
    let mut is_there = || {
        assert_eq!(up.try_wait().unwrap(), None, "the start ended before {name} was seen; above, it says why");
        id().is_some_and(|id| {
            command_line(id).contains(&format!(
                "/{}\0",
                name.split_once('-').filter(|(node, _)| node.starts_with("node")).map_or(name, |(_, program)| program)
            ))
        })
    };
    eventually(&format!("{name} starts"), &mut is_there);
    id().unwrap()
}

fn command_line(id: u32) -> String {
    fs::read(format!("/proc/{id}/cmdline")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn children(parent: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| status.contains(&format!("PPid:\t{parent}\n")))
    })
    .collect()
}

/// The nodes' control groups, in either version.
fn groups(name: &str) -> Vec<PathBuf> {
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let groups = roots.chain([PathBuf::from("/sys/fs/cgroup")]).map(|root| root.join(name));
    groups.filter(|group| group.exists()).collect()
}

fn runs(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
