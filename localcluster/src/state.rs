//! The directory that holds all there is of one cluster, and who may have it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::network::{Network, SLOTS};
use crate::node::PLACES;
use crate::process::Identity;
use crate::progress::say;
use crate::teardown::Teardown;
use crate::{paths, teardown};

/// The directory of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    directory: PathBuf,
}

/// Who a cluster belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A process: the cluster ends with it. One that is being brought up belongs to the process that does so.
    Process(Identity),
    /// Nobody: the cluster runs until it is taken down.
    Machine,
}

/// How things stand in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no cluster, and nothing of one.
    Free,
    /// A cluster runs, or is being brought up.
    Held(Owner),
    /// There are remains of one: its owner or its API server is gone.
    Remains,
}

impl State {
    /// The state in `directory`, which need not exist yet.
    pub(crate) fn at(directory: &Path) -> Result<Self> {
        paths::check_state(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// A directory that no other cluster has, for a cluster that ends with this process.
    pub(crate) fn temporary() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(&paths::temporary_states()?.join(format!("{}-{number}", std::process::id())))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file or directory in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The log of a process.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path("log").join(format!("{process}.log"))
    }

    /// Where a process puts itself on record.
    pub(crate) fn record(&self, process: &str) -> PathBuf {
        self.path("pid").join(process)
    }

    /// Where the command line of a process is written down.
    pub(crate) fn command(&self, process: &str) -> PathBuf {
        self.path("command").join(process)
    }

    /// Where the cluster's programs are found by their names.
    pub(crate) fn programs(&self) -> PathBuf {
        self.path("bin")
    }

    /// One of them.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The kubeconfig of a user of [`crate::pki::USERS`].
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path("kubeconfig").join(user)
    }

    /// The process on record under `name`, if it runs.
    pub(crate) fn process(&self, name: &str) -> Option<Identity> {
        let record = fs::read_to_string(self.record(name)).ok()?;
        Identity::parse(&record).filter(Identity::is_alive)
    }

    /// Every process on record, and whether it runs.
    pub(crate) fn processes(&self) -> Result<Vec<(String, bool)>> {
        let directory = self.path("pid");
        let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(
                entry.with_context(|| format!("cannot read {}", directory.display()))?.file_name().to_string_lossy().into_owned(),
            );
        }
        names.sort();
        Ok(names.into_iter().map(|name| (self.process(&name).is_some(), name)).map(|(alive, name)| (name, alive)).collect())
    }

    /// Which start of a cluster this directory is of; none when there is none.
    pub(crate) fn id(&self) -> Option<String> {
        fs::read_to_string(self.path("id")).ok()
    }

    /// The network of a cluster with nodes, and how many nodes it was started with.
    pub(crate) fn network(&self) -> Option<(Network, u8)> {
        let text = fs::read_to_string(self.path("node")).ok()?;
        let mut words = text.split_ascii_whitespace();
        Some((Network::parse(words.next()?)?, words.next()?.parse().ok()?))
    }

    /// The name of its control group and bridge, also when another version of this program started it.
    pub(crate) fn name_on_machine(&self) -> Option<String> {
        fs::read_to_string(self.path("node")).ok()?.split_ascii_whitespace().next().map(str::to_owned)
    }

    /// Makes the cluster live on when this process ends.
    pub(crate) fn leave_to_machine(&self) -> Result<()> {
        let path = self.path("owner");
        fs::write(&path, "machine\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// How things stand.
    pub(crate) fn standing(&self) -> Result<Standing> {
        if self.id().is_none() {
            return match fs::read_dir(&self.directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Standing::Free),
                Err(error) => Err(error).with_context(|| format!("cannot read {}", self.directory.display())),
                Ok(entries) => match entries.count() {
                    0 => Ok(Standing::Free),
                    _ => bail!(
                        "{} holds files, but no cluster: name an empty or new directory (--state)",
                        self.directory.display()
                    ),
                },
            };
        }
        let owner = fs::read_to_string(self.path("owner")).unwrap_or_default();
        Ok(match Identity::parse(&owner) {
            Some(process) if process.is_alive() => Standing::Held(Owner::Process(process)),
            None if owner.trim() == "machine" && self.process("kube-apiserver").is_some() => Standing::Held(Owner::Machine),
            _ => Standing::Remains,
        })
    }

    /// Waits until nothing that has to stay is in the way.
    ///
    /// # Errors
    ///
    /// When something still is after `patience`: what it is, and how to end it.
    pub(crate) async fn wait_until_free(&self, with_nodes: bool, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            match self.in_the_way(with_nodes) {
                Err(error) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        say(format_args!("waiting at most {} s: {error:#}", patience.as_secs()));
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                other => return other.map(drop),
            }
        }
    }

    /// Takes the directory for a cluster that belongs to this process, after remains of an earlier one are removed.
    ///
    /// # Errors
    ///
    /// When another cluster has the directory or, for a cluster with nodes, others have all there is for such.
    pub(crate) async fn claim(&self, nodes: u8) -> Result<Teardown> {
        remove_forgotten_temporaries().await?;
        loop {
            let lock = lock()?;
            let Some(remains) = self.in_the_way(nodes > 0)? else {
                let id = self.occupy(nodes)?;
                drop(lock);
                return Teardown::guard(self, &id);
            };
            drop(lock); // The teardown takes it.
            say(format_args!("removing what is left of an earlier cluster in {}", remains.directory.display()));
            teardown::run(&remains).await?;
        }
    }

    /// The remains that have to go first; an error when a cluster is in the way that does not have to.
    pub(crate) fn in_the_way(&self, with_nodes: bool) -> Result<Option<State>> {
        match self.standing()? {
            Standing::Free => {}
            Standing::Remains => return Ok(Some(self.clone())),
            Standing::Held(owner) => {
                bail!("there is a cluster in {} already, {}", self.directory.display(), self.how_to_end(&owner))
            }
        }
        if !with_nodes {
            return Ok(None);
        }
        let mut held = Vec::new();
        let mut free = false;
        for network in Network::all() {
            match holder(network)? {
                Some((remains, Standing::Remains)) => return Ok(Some(remains)),
                Some((holder, Standing::Held(owner))) => {
                    held.push(format!("{}, {}", holder.directory.display(), holder.how_to_end(&owner)));
                }
                _ if network.is_foreign() => held.push(format!("{} has an address that is not ours", network.host())),
                _ => free = true,
            }
        }
        if !free {
            bail!("this machine can hold {SLOTS} clusters with nodes at a time, and there are: {}", held.join("; "));
        }
        Ok(None)
    }

    fn how_to_end(&self, owner: &Owner) -> String {
        match owner {
            Owner::Process(process) => format!("which ends with process {}", process.pid),
            Owner::Machine => format!("`localcluster down --state {}` ends it", self.directory.display()),
        }
    }

    fn occupy(&self, nodes: u8) -> Result<String> {
        if self.directory.parent() == Some(&paths::temporary_states()?) {
            paths::make_private(&paths::temporary_states()?)?;
        }
        let owner = Identity::own()?.record();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let id = format!("{}-{}", std::process::id(), since.as_nanos());
        let write = |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
        // With the id, it is seen to be a cluster's; so what is cut short after it is removed like one.
        fs::create_dir_all(&self.directory).with_context(|| format!("cannot create {}", self.directory.display()))?;
        write(&self.path("id"), &id)?;
        for directory in ["pid", "log", "bin", "command", "kubeconfig", "pki"] {
            let path = self.path(directory);
            fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        if nodes > 0 {
            let free = |network: &Network| holder(*network).is_ok_and(|holder| holder.is_none()) && !network.is_foreign();
            let network = Network::all().find(free).context("the networks of nodes were taken meanwhile: try again")?;
            write(&self.path("node"), &format!("{network} {nodes}"))?;
            write(&paths::run()?.join(network.claim()), &self.directory.to_string_lossy())?;
            make_places()?;
        }
        write(&self.path("owner"), &owner)?;
        Ok(id)
    }
}

/// Whose a network is, and how things stand there; nobody's when there is no cluster any more where one had it.
fn holder(network: Network) -> Result<Option<(State, Standing)>> {
    let Ok(directory) = fs::read_to_string(paths::run()?.join(network.claim())) else { return Ok(None) };
    let holder = State::at(Path::new(directory.trim()))?;
    Ok(match holder.standing() {
        Ok(Standing::Free) | Err(_) => None,
        Ok(standing) => Some((holder, standing)),
    })
}

/// Makes the directories that nodes mount over, where there are none. They are on record before they are made, so that
/// the last cluster with nodes removes them: a node loses what is mounted on one that is removed.
fn make_places() -> Result<()> {
    let record = paths::run()?.join("made-directories");
    let made = fs::read_to_string(&record).unwrap_or_default();
    let missing: Vec<_> = PLACES.into_iter().filter(|place| !Path::new(place).exists()).collect();
    let lines: String = missing.iter().map(|place| format!("{place}\n")).collect();
    fs::write(&record, made + &lines).with_context(|| format!("cannot write {}", record.display()))?;
    for place in missing {
        fs::create_dir(place).with_context(|| format!("cannot create {place}"))?;
    }
    Ok(())
}

/// Holds what clusters are claimed and ended under.
fn lock() -> Result<File> {
    let path = paths::run()?.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The remains of clusters in a directory. None is being claimed meanwhile.
fn forgotten(directory: &Path) -> Result<Vec<State>> {
    let _lock = lock()?;
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let states = entries.flatten().filter_map(|entry| State::at(&entry.path()).ok());
    Ok(states.filter(|state| matches!(state.standing(), Ok(Standing::Remains))).collect())
}

/// Removes the remains of clusters whose process ended without a chance to end them.
async fn remove_forgotten_temporaries() -> Result<()> {
    let directory = paths::temporary_states()?;
    if !directory.exists() {
        return Ok(());
    }
    paths::make_private(&directory)?;
    for state in forgotten(&directory)? {
        teardown::run(&state).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(&directory.path().join("cluster")).unwrap();
        (directory, state)
    }

    #[test]
    fn a_cluster_belongs_to_the_process_that_brings_it_up_until_it_is_left_to_the_machine() {
        let (_directory, state) = state();
        assert_eq!(state.standing().unwrap(), Standing::Free);
        state.occupy(0).unwrap();
        assert_eq!(state.standing().unwrap(), Standing::Held(Owner::Process(Identity::own().unwrap())));
        state.leave_to_machine().unwrap();
        assert_eq!(state.standing().unwrap(), Standing::Remains, "its API server does not run");
        fs::write(state.record("kube-apiserver"), Identity::own().unwrap().record()).unwrap();
        assert_eq!(state.standing().unwrap(), Standing::Held(Owner::Machine));
    }

    #[test]
    fn a_directory_with_files_of_others_is_refused() {
        let (_directory, state) = state();
        fs::create_dir_all(state.directory()).unwrap();
        assert_eq!(state.standing().unwrap(), Standing::Free);
        fs::write(state.path("thesis.tex"), "years of work").unwrap();
        assert!(state.standing().unwrap_err().to_string().contains("no cluster"));
    }
}
