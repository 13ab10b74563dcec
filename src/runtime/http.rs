//! The port for the kubelet and for metrics: `/healthz`, `/readyz`, `/metrics`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};

use super::{metrics::Metrics, shutdown::Shutdown};

/// Whether the process can do its work. It starts as not ready.
///
/// Not being ready is no reason for a restart: `/healthz` answers as long as the process turns its event loop.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the process can do its work.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
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

async fn readyz(State((readiness, _)): State<Shared>) -> (StatusCode, &'static str) {
    if readiness.0.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the API server's objects are not read yet\n")
    }
}

async fn exposition(State((_, metrics)): State<Shared>) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let text = metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
