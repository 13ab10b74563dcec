//! A model hub on this machine: it speaks the Hugging Face hub's HTTP API from a directory, so that models can be resolved and
//! downloaded without the Internet, by the real `huggingface_hub` client as well.
//!
//! `ROOT/OWNER/NAME/…` are the repositories. Whatever lies there is the newest commit of `main`: a changed file makes another
//! commit. [`Handle::snapshot`] keeps a commit for ever, below `ROOT/.snapshots/`. Faults that real servers and liars have can
//! be switched on at run time, through the [`Handle`] or by writing `ROOT/.faults.json` (see [`Faults`]).

mod api;
mod args;
mod faults;
mod files;
mod repository;
mod request;

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, serve::ListenerExt as _};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub use args::{Args, run};
pub use faults::{Fail, Faults, Which};
pub use request::Logged;

use self::{faults::Switchboard, repository::Repositories};

/// How a hub is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of the repositories.
    pub root: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where large files are served, as from another host; nothing: from the same port.
    pub cdn: Option<SocketAddr>,
    /// Tokens that may read private repositories.
    pub tokens: Vec<String>,
    /// Tokens that may read private repositories and gated ones.
    pub licensed_tokens: Vec<String>,
    /// Repositories, `OWNER/NAME`, that only tokens may read.
    pub private: Vec<String>,
    /// Repositories whose files only licensed tokens may read.
    pub gated: Vec<String>,
    /// From this many bytes a file is stored as a large one (LFS), and its SHA-256 stands in the listing.
    pub large: u64,
    /// Entries in a page of a listing.
    pub page: usize,
    /// Old names: a question about the first is redirected to the second.
    pub renamed: Vec<(String, String)>,
}

impl Options {
    /// A public hub for `root` on a free port of the loopback interface.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cdn: None,
            tokens: Vec::new(),
            licensed_tokens: Vec::new(),
            private: Vec::new(),
            gated: Vec::new(),
            large: 10 << 20,
            page: 1000,
            renamed: Vec::new(),
        }
    }
}

/// The hub; see [`Hub::start`].
pub struct Hub {
    options: Options,
    repositories: Repositories,
    faults: Switchboard,
    requests: Mutex<Vec<Logged>>,
    cdn: Option<SocketAddr>,
    secret: String,
}

/// A running hub. It ends when this is dropped.
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it serves large files, when that is another port.
    pub cdn: Option<SocketAddr>,
    hub: Arc<Hub>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Hub {
    /// The most requests that are remembered.
    const MAX_LOG: usize = 100_000;

    /// Starts serving. Must be called within a Tokio runtime.
    pub async fn start(options: Options) -> io::Result<Handle> {
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let cdn = match options.cdn {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let cdn_addr = cdn.as_ref().map(TcpListener::local_addr).transpose()?;
        let hub = Arc::new(Self {
            repositories: Repositories::new(options.root.clone(), options.large),
            faults: Switchboard::new(options.root.join(".faults.json")),
            requests: Mutex::default(),
            cdn: cdn_addr,
            secret: format!("{addr}/{}", std::process::id()),
            options,
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for listener in [Some(listener), cdn].into_iter().flatten() {
            let mut stopped = stopped.clone();
            let local = listener.local_addr()?;
            let router = Router::new().fallback(api::answer).with_state((Arc::clone(&hub), local));
            let until = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            // As real servers do: an answer does not wait until the one before it was acknowledged.
            let listener = listener.tap_io(|connection| {
                let _ = connection.set_nodelay(true);
            });
            tasks.push(tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(until).await }));
        }
        Ok(Handle { addr, cdn: cdn_addr, hub, stop, tasks })
    }

    fn log(&self, entry: Logged) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < Self::MAX_LOG {
            requests.push(entry);
        }
    }
}

impl Handle {
    /// The endpoint, as tables of sources and `HF_ENDPOINT` take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Ends it: no new connections, and the open ones end with their request or after a second.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            let abort = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(1), task).await.is_err() {
                abort.abort();
            }
        }
    }

    /// What was asked so far, in the order in which the requests came.
    pub fn requests(&self) -> Vec<Logged> {
        self.hub.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.hub.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Switches faults: these, and no others.
    pub fn set_faults(&self, faults: Faults) {
        self.hub.faults.set(faults);
    }

    /// Keeps the present content of `OWNER/NAME` as a commit that is served for ever, and returns it.
    pub fn snapshot(&self, repository: &str) -> io::Result<String> {
        self.hub.repositories.snapshot(repository)
    }

    /// The commit that `main` of `OWNER/NAME` stands for at this moment.
    pub fn commit(&self, repository: &str) -> io::Result<String> {
        self.hub.repositories.head(repository).map(|head| head.commit)
    }

    /// The repositories that are there.
    pub fn repositories(&self) -> io::Result<HashSet<String>> {
        self.hub.repositories.names()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
