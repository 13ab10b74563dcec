//! The cache of programs, filled by several processes at once, and builds that cannot be.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

#[test]
fn processes_that_need_the_same_program_at_once_build_it_once() {
    let cache = tempfile::tempdir().unwrap();
    let builds = [0, 1].map(|_| build(cache.path()).stderr(Stdio::piped()).spawn().unwrap());
    let told: String = builds.map(|build| success(build.wait_with_output().unwrap())).concat();
    assert_eq!(told.matches("pause built").count(), 1, "{told}");
    let again = success(build(cache.path()).output().unwrap());
    assert_eq!(again, "", "what is built is not built again");
    let programs: Vec<_> = std::fs::read_dir(cache.path().join("bonafide-localcluster/bin")).unwrap().collect();
    assert_eq!(programs.len(), 1);
}

#[test]
fn a_build_that_fails_is_told_with_its_last_lines_and_leaves_no_program() {
    let cache = tempfile::tempdir().unwrap();
    let output = build(cache.path()).env("GOARCH", "abacus").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(told.contains("building pause v1 failed") && told.contains("abacus"), "{told}");
    assert!(!cache.path().join("bonafide-localcluster/bin").exists());
    success(build(cache.path()).output().unwrap());
}

#[test]
fn a_machine_without_go_is_told_what_to_install() {
    let cache = tempfile::tempdir().unwrap();
    let output = build(cache.path()).env("PATH", cache.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("install Go 1.26"));
}

fn build(cache: &Path) -> Command {
    let compiled = Command::new("go").args(["env", "GOCACHE"]).output().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster"));
    // Go's own cache stays where it is: Go's library need not be compiled again.
    command
        .args(["build", "pause"])
        .env("XDG_CACHE_HOME", cache)
        .env("GOCACHE", String::from_utf8(compiled.stdout).unwrap().trim());
    command
}

fn success(output: Output) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    told
}
