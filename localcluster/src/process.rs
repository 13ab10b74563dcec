//! The processes a cluster consists of: started, on record, and watched while the cluster comes up.

use std::fs::{self, File};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::packages;
use crate::state::State;

/// How much of a log's end is looked at for its last lines.
const TAIL_BYTES: u64 = 16 * 1024;

/// One process at one time: an id that is used again later is another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub pid: u32,
    /// In clock ticks since the machine's start.
    started: u64,
    boot: String,
}

impl Identity {
    /// The process that calls this.
    pub(crate) fn own() -> Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, started: start_of(pid).context("cannot read /proc/self/stat")?, boot: boot()? })
    }

    /// Reads what [`Self::record`] or `launch.sh` wrote.
    pub(crate) fn parse(record: &str) -> Option<Self> {
        let mut words = record.split_ascii_whitespace();
        let (pid, started, boot) = (words.next()?, words.next()?, words.next()?);
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()?, boot: boot.to_owned() })
    }

    /// One line from which it is known again.
    pub(crate) fn record(&self) -> String {
        format!("{} {} {}\n", self.pid, self.started, self.boot)
    }

    /// Whether this process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot) && start_of(self.pid) == Some(self.started)
    }
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

/// When the process started, unless it has ended: one that only waits to be reaped has.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The processes that this process started for one cluster.
#[derive(Debug)]
pub(crate) struct Processes {
    state: State,
    list: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// How a process is started, beside its command line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// The control group it and its descendants live in.
    pub cgroup: Option<PathBuf>,
    /// The process whose network and mounts it shares.
    pub inside: Option<u32>,
}

/// All that it takes to start a process again.
#[derive(Debug, Serialize, Deserialize)]
struct CommandLine {
    surroundings: Surroundings,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Processes {
    pub(crate) fn new(state: &State) -> Self {
        Self { state: state.clone(), list: Vec::new() }
    }

    /// Starts a process; its output goes to the log of that name.
    pub(crate) fn start(&mut self, name: &str, surroundings: &Surroundings, program: &Path, arguments: &[String]) -> Result<u32> {
        let log = self.state.log(name);
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let line = CommandLine { surroundings: surroundings.clone(), program: program.to_owned(), arguments: arguments.to_vec() };
        let path = self.state.command(name);
        let text = serde_json::to_string(&line).context("a command line cannot be written down")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.launch(name, &line)
    }

    /// Starts a process of this cluster that has ended, as it was started before.
    pub(crate) fn start_again(&mut self, name: &str) -> Result<()> {
        if self.runs(name) {
            bail!("{name} runs already");
        }
        self.forget(name);
        let path = self.state.command(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("{name} was never started: cannot read {}", path.display()))?;
        let line = serde_json::from_str(&text).with_context(|| format!("{} is no command line", path.display()))?;
        self.launch(name, &line).map(|_| ())
    }

    /// Whether a process runs, or is being started by this process and not on record yet.
    pub(crate) fn runs(&mut self, name: &str) -> bool {
        let starting = |process: &mut Process| process.name == name && matches!(process.child.try_wait(), Ok(None));
        self.state.process(name).is_some() || self.list.iter_mut().any(starting)
    }

    /// Ends a process of this cluster at once, whoever started it, and waits until it is gone.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<()> {
        let process = loop {
            match self.state.process(name) {
                Some(process) => break process,
                None if self.runs(name) => tokio::time::sleep(Duration::from_millis(5)).await,
                None => bail!("{name} does not run"),
            }
        };
        kill(&[process.pid.to_string()])?;
        while process.is_alive() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.forget(name);
        Ok(())
    }

    fn launch(&mut self, name: &str, line: &CommandLine) -> Result<u32> {
        let log = self.state.log(name);
        let output = File::options().append(true).open(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("launch.sh"), "launch"]).arg(self.state.record(name));
        command.arg(line.surroundings.cgroup.as_deref().unwrap_or(Path::new("")));
        if let Some(pid) = line.surroundings.inside {
            command.args(["nsenter", "--target", &pid.to_string(), "--net", "--mount", "--"]);
        }
        let child = command
            .arg(&line.program)
            .args(&line.arguments)
            .current_dir(self.state.directory())
            .env("PATH", self.search_path()?)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share a log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child.id();
        self.list.push(Process { name: name.to_owned(), log, child });
        Ok(pid)
    }

    /// Forgets the process `name`, which has ended, so that it can be started anew.
    pub(crate) fn forget(&mut self, name: &str) {
        for process in self.list.iter_mut().filter(|process| process.name == name) {
            let _ = process.child.try_wait();
        }
        self.list.retain(|process| process.name != name);
    }

    /// Fails when a process that should run has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for process in &mut self.list {
            if let Some(status) = process.child.try_wait().with_context(|| format!("cannot watch {}", process.name))? {
                bail!("{} ended ({status}). Its last lines:\n{}", process.name, last_lines(&process.log, 15));
            }
        }
        Ok(())
    }

    /// Asks `probe` again and again until it answers true. Fails as soon as a process has ended, and after `limit`.
    pub(crate) async fn wait_for<F>(&mut self, what: &str, whose: &str, limit: Duration, probe: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        let started = Instant::now();
        loop {
            self.check()?;
            if probe().await {
                return Ok(());
            }
            if started.elapsed() > limit {
                let log = self.state.log(whose);
                bail!("{what} did not happen within {} s. The last lines of {whose}:\n{}", limit.as_secs(), last_lines(&log, 15));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Collects those that have ended, so that none is left as a zombie.
    pub(crate) fn reap(&mut self) {
        for process in &mut self.list {
            let _ = process.child.try_wait();
        }
    }

    fn search_path(&self) -> Result<std::ffi::OsString> {
        let directories = std::iter::once(self.state.programs()).chain(packages::search_path());
        std::env::join_paths(directories).context("a directory of PATH holds a colon")
    }
}

/// Ends processes at once, as far as they are there.
pub(crate) fn kill(pids: &[String]) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -KILL \"$@\" 2>/dev/null; true", "kill"]).args(pids);
    command.status().context("cannot run sh").map(|_| ())
}

/// The last lines of a log, indented; or why there are none.
pub(crate) fn last_lines(log: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => format!("    (nothing in {})", log.display()),
        Ok(text) => {
            let all: Vec<_> = text.lines().collect();
            let last = all.iter().skip(all.len().saturating_sub(lines));
            last.map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("    (cannot read {}: {error})", log.display()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_and_its_id_alone_does_not_make_it_so() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let identity = Identity { pid, started: start_of(pid).unwrap(), boot: boot().unwrap() };
        assert_eq!(Identity::parse(&identity.record()).as_ref(), Some(&identity));
        assert!(identity.is_alive());
        assert!(!Identity { started: identity.started + 1, ..identity.clone() }.is_alive(), "another start");
        assert!(!Identity { boot: "another".into(), ..identity.clone() }.is_alive(), "another boot");
        child.kill().unwrap();
        while identity.is_alive() {}
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }

    #[tokio::test]
    async fn a_process_that_ends_while_others_wait_is_named_at_once_with_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("cluster")).unwrap();
        for name in ["log", "pid", "command"] {
            fs::create_dir_all(state.path(name)).unwrap();
        }
        let mut processes = Processes::new(&state);
        let arguments = ["-c", "echo the disk is full; exit 3"].map(String::from);
        processes.start("etcd", &Surroundings::default(), Path::new("sh"), &arguments).unwrap();
        let limit = Duration::from_secs(600);
        let error = processes.wait_for("anything", "etcd", limit, async || false).await.unwrap_err().to_string();
        assert!(error.contains("etcd ended") && error.contains("the disk is full"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_cannot_be_put_on_record_does_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("cluster")).unwrap();
        for name in ["log", "command"] {
            fs::create_dir_all(state.path(name)).unwrap();
        }
        let mut processes = Processes::new(&state);
        let witness = directory.path().join("witness");
        processes.start("etcd", &Surroundings::default(), Path::new("touch"), &[witness.display().to_string()]).unwrap();
        while processes.check().is_ok() {}
        assert!(!witness.exists());
    }

    #[test]
    fn the_last_lines_of_a_log_are_its_last() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, (0..5000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        assert_eq!(last_lines(&log, 2), "    line 4998\n    line 4999");
        fs::write(&log, "").unwrap();
        assert!(last_lines(&log, 2).contains("nothing"));
    }
}
