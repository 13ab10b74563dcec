//! The port for the kubelet and for metrics: `/healthz`, `/readyz`, `/metrics`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::sync::watch;

use super::{metrics::Metrics, shutdown::Shutdown};

/// Whether the process can do its work. It starts as not ready.
///
/// Not being ready is no reason for a restart: `/healthz` answers as long as the process turns its event loop.
#[derive(Clone, Default)]
pub struct Readiness {
    ready: Arc<AtomicBool>,
    obstacle: watch::Sender<Option<Obstacle>>,
}

/// Something outside of the process that keeps it from its work until somebody mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Whether the objects that the work is about cannot even exist.
    pub absent: bool,
    /// What it is, and what to do.
    pub message: String,
}

impl Readiness {
    /// Says whether the process can do its work.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Says what is in the way; `None`: nothing is.
    pub fn obstruct(&self, obstacle: Option<Obstacle>) {
        self.obstacle.send_if_modified(|known| {
            let changed = *known != obstacle;
            *known = obstacle;
            changed
        });
    }

    /// What is in the way, now and later.
    pub fn obstacle(&self) -> watch::Receiver<Option<Obstacle>> {
        self.obstacle.subscribe()
    }

    /// Nothing when the process can do its work, else why not.
    fn why_not(&self) -> Option<String> {
        if let Some(obstacle) = &*self.obstacle.borrow() {
            return Some(obstacle.message.clone());
        }
        let unread = || "the API server's objects are not read yet".to_owned();
        (!self.ready.load(Ordering::Relaxed)).then(unread)
    }
}

/// Serves until the shutdown begins.
pub async fn serve(address: SocketAddr, readiness: Readiness, metrics: Arc<Metrics>, shutdown: &Shutdown) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state((readiness, metrics));
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.begun()).await
}

type Shared = (Readiness, Arc<Metrics>);

async fn readyz(State((readiness, _)): State<Shared>) -> (StatusCode, String) {
    match readiness.why_not() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn exposition(State((_, metrics)): State<Shared>) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let text = metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_and_keeps_a_process_from_being_ready() {
        let readiness = Readiness::default();
        assert!(readiness.why_not().unwrap().contains("not read yet"));
        readiness.set(true);
        assert_eq!(readiness.why_not(), None);
        readiness.obstruct(Some(Obstacle { absent: false, message: "a tree".to_owned() }));
        assert_eq!(readiness.why_not().unwrap(), "a tree");
        readiness.obstruct(None);
        assert_eq!(readiness.why_not(), None);
    }
}
