//! What the manager counts. Label values come from closed sets only.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The manager's metrics.
pub struct Metrics {
    registry: Registry,
    /// Reconciles by how they ended: `done`, `failed`, `panicked`, `unreadable`.
    pub reconciles: Family<Outcome, Counter>,
    /// Seconds per reconcile.
    pub reconcile_seconds: Histogram,
    /// Writes to the API server by kind and verb.
    pub writes: Family<Write, Counter>,
    /// Times a deployment came into a reason, by condition reason.
    pub reasons: Family<ReasonLabel, Counter>,
    /// Seconds that replicas took from nothing to answering, by phase.
    pub cold_starts: Family<Phase, Histogram>,
    /// 1 while this process leads.
    pub leader: Gauge,
}

/// A phase of a cold start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Phase {
    /// See [`crate::api::ColdStart`].
    pub phase: String,
}

/// How a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// One of a closed set.
    pub outcome: &'static str,
}

/// A write to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Write {
    /// The kind written.
    pub kind: &'static str,
    /// `apply`, `patch`, `delete`.
    pub verb: &'static str,
}

/// The reason of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// See [`crate::api::Reason`].
    pub reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bonafide");
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
            writes: Family::default(),
            reasons: Family::default(),
            cold_starts: Family::new_with_constructor(|| Histogram::new([1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0])),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("reconciles", "Reconciles of ModelDeployments, by how they ended", metrics.reconciles.clone());
        registry.register("reconcile_seconds", "Seconds per reconcile of a ModelDeployment", metrics.reconcile_seconds.clone());
        registry.register("api_writes", "Writes to the API server, by kind and verb", metrics.writes.clone());
        registry.register("reasons", "Times a ModelDeployment came into a reason", metrics.reasons.clone());
        let cold_starts = "Seconds that replicas took from nothing to answering, by phase";
        registry.register("cold_start_seconds", cold_starts, metrics.cold_starts.clone());
        registry.register("leader", "1 while this manager leads", metrics.leader.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The exposition in OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a phase of a cold start; `duration` as in the status, for example `61s`.
    pub fn cold_start(&self, phase: &str, duration: &str) {
        if let Some(seconds) = duration.strip_suffix('s').and_then(|seconds| seconds.parse().ok()) {
            self.cold_starts.get_or_create(&Phase { phase: phase.to_owned() }).observe(seconds);
        }
    }

    /// Counts one write.
    pub fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }
}
