//! `/progress`: how far the fetch is, for the manager, which asks when somebody waits for it.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, header::CONTENT_TYPE},
    routing::get,
};
use tokio::net::TcpListener;

use crate::weights::fetch::{Download, Progress, Snapshot};

/// The counters, and what they were a little earlier: the rate is that of the time between.
#[derive(Debug, Default)]
pub struct Shown {
    progress: Arc<Progress>,
    /// The two last moments that were kept, the later one second.
    kept: Mutex<(Option<Snapshot>, Option<Snapshot>)>,
}

impl Shown {
    /// Shows these counters.
    pub fn new(progress: Arc<Progress>) -> Self {
        Self { progress, kept: Mutex::default() }
    }

    /// Keeps this moment. The counters as they are now, with the rate since the moment that was kept before.
    pub fn keep(&self) -> Snapshot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.progress.snapshot(kept.1.as_ref());
        *kept = (kept.1, Some(now));
        now
    }

    /// How far it is, with the rate since the moment before the last one that was kept.
    pub fn download(&self) -> Download {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress.download(kept.0.as_ref())
    }
}

/// Listens at `address`. One that means all addresses means those of IPv4 where there is no IPv6.
///
/// # Errors
/// When nobody can listen there.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
        bound => bound,
    }
}

/// Answers for as long as this is polled.
pub async fn serve(listener: TcpListener, shown: Arc<Shown>) -> io::Result<()> {
    axum::serve(listener, Router::new().route("/progress", get(progress)).with_state(shown)).await
}

async fn progress(State(shown): State<Arc<Shown>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "application/json")], serde_json::to_string(&shown.download()).unwrap_or_default())
}
