//! The end of the process, announced once and heard everywhere.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Tells every listener that the process ends.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl Shutdown {
    /// A shutdown that SIGTERM and SIGINT begin.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let begin = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: asked to by a signal");
            begin.begin();
        });
        Ok(shutdown)
    }

    /// Announces the end.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the end is announced.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let mut heard = self.0.subscribe();
        async move {
            // An error means that nobody is left who could announce it, which is the end as well.
            let _ = heard.wait_for(|begun| *begun).await;
        }
    }
}
