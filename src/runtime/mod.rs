//! What every long-running process needs: leadership, health and metrics. It knows nothing of models.

pub mod clock;
pub mod fence;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod shutdown;
