//! What every reconcile shares.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    backoff::Backoff,
    doors::{answer::Answers, ask::Ask, drain::Drains, gate::Vouchers},
    events::Events,
    lookup::Lookups,
    objects::{apply::Compared, revisions::Revisions, shelf::Shelf, stores::Stores},
    sightings::Sightings,
    source::{measure, resolve::Trees},
    verdicts::{
        artifacts::{self, Known},
        judgements::Judgements,
        policies::InForce,
        signatures::Delivered,
    },
    write::Pace,
};
use crate::{
    api::ModelArtifactStatus,
    engine::Catalogue,
    runtime::{clock::Clock, http::Obstacle, metrics::Metrics},
    trust::DefaultStance,
    weights::{Library, Sources},
};

/// What the chart tells the manager: `manager.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The operator's own image: it fetches.
    pub image: String,
    /// When that image is pulled.
    #[serde(default = "if_not_present")]
    pub image_pull_policy: String,
    /// What holds where no policy selects the namespace.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Where bytes come from.
    #[serde(default)]
    pub sources: SourcesConfig,
    /// Containers that others may add to our pods.
    #[serde(default)]
    pub trusted_mutators: Vec<String>,
}

fn if_not_present() -> String {
    "IfNotPresent".to_owned()
}

/// What holds where no policy selects the namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// `Allow` or `Deny`.
    #[serde(default)]
    pub default: Stance,
}

/// `Allow` or `Deny`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Stance {
    /// A model is served, and the status says that nobody vouches for it.
    #[default]
    Allow,
    /// A model is refused.
    Deny,
}

impl From<Stance> for DefaultStance {
    fn from(stance: Stance) -> Self {
        match stance {
            Stance::Allow => Self::Allow,
            Stance::Deny => Self::Deny,
        }
    }
}

/// The table of sources as the chart writes it: a CA bundle may be a file.
pub type SourcesConfig = Value;

/// What every reconcile shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What the chart says.
    pub config: Config,
    /// The table of sources, as it goes into ConfigMaps.
    pub sources: Value,
    /// Says what sources have.
    pub library: Arc<dyn Library>,
    /// Asks pods.
    pub ask: Arc<dyn Ask>,
    /// The time.
    pub clock: Clock,
    /// What the watches know.
    pub stores: Stores,
    /// The policies as compiled last; `None` until they were read once.
    pub policies: watch::Receiver<Option<Arc<InForce>>>,
    /// The admission policy that is missing, if one is: then others can change our pods.
    pub unprotected: watch::Receiver<Option<String>>,
    /// What keeps everything from its work, if something does: then nothing is begun.
    pub obstacle: watch::Receiver<Option<Obstacle>>,
    /// Which objects were told of the obstacle, by UID: at which generation, and what.
    pub told: Mutex<HashMap<String, (Option<i64>, String)>>,
    /// Writes Events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Children that were compared.
    pub compared: Compared,
    /// Artifacts that were read.
    pub artifacts: Known,
    /// Verdicts that were written: by artifact, the version that has them.
    pub recorded: Mutex<HashMap<String, (Option<String>, ModelArtifactStatus)>>,
    /// The engines, built in and written, and the objects of which this catalogue is made.
    pub catalogue: Mutex<(Vec<String>, Arc<Catalogue>)>,
    /// Revisions that were read, by UID: the API server keeps them from changing.
    pub revisions: Revisions,
    /// Trees of files that were listed.
    pub trees: Trees,
    /// Signatures that were delivered apart from their models, as they were read.
    pub delivered: Delivered,
    /// What pods found in claims.
    pub measured: measure::Results,
    /// Verdicts that were reached.
    pub judgements: Judgements,
    /// Pods that were compared.
    pub vouchers: Vouchers,
    /// What was looked up beside the watches.
    pub lookups: Lookups,
    /// When each status was written last.
    pub pace: Pace,
    /// Pods that were asked for a first answer.
    pub answers: Answers,
    /// Since when this manager has seen what is limited in time.
    pub sightings: Sightings,
    /// Pods that were looked at for work.
    pub drains: Drains,
    /// Whether everything was read once. Nothing is reconciled before.
    pub everything_read: watch::Receiver<bool>,
    /// How often each object failed in a row.
    pub backoff: Backoff,
}

/// Reads the table of sources: `caBundleFile` names a file whose content takes the place of `caBundle`.
pub fn read_sources(config: &SourcesConfig) -> Result<Sources, String> {
    let mut table = if config.is_null() { Value::Object(serde_json::Map::new()) } else { config.clone() };
    if let Some(hub) = table.get_mut("hf").and_then(Value::as_object_mut)
        && let Some(file) = hub.remove("caBundleFile")
    {
        let file = file.as_str().ok_or("sources.hf.caBundleFile is not a text")?;
        let bundle = std::fs::read_to_string(file).map_err(|error| format!("sources.hf.caBundleFile {file}: {error}"))?;
        hub.insert("caBundle".to_owned(), Value::String(bundle));
    }
    serde_json::from_value(table).map_err(|error| format!("sources: {error}"))
}

impl Context {
    /// Forgets what is about objects that are gone.
    pub async fn forget_what_is_gone(&self) {
        fn alive<K: Resource<DynamicType = ()>>(store: &Shelf<K>) -> HashSet<String> {
            store.state().iter().filter_map(|object| object.meta().uid.clone()).collect()
        }
        self.events.forget_what_is_old();
        let artifacts = alive(&self.stores.artifacts);
        let revisions = alive(&self.stores.revisions);
        self.delivered.keep_only(&alive(&self.stores.signatures));
        let pods = alive(&self.stores.pods);
        self.vouchers.keep_only(&pods);
        let wishes = self.stores.wishes.state();
        let owners: HashSet<String> = wishes.iter().filter_map(|wish| wish.meta().uid.clone()).collect();
        self.pace.keep_only(&owners);
        self.sightings.keep_only(&owners);
        self.lookups.keep_only(&pods, &owners);
        self.answers.keep_only(&pods);
        self.drains.keep_only(&pods);
        self.artifacts.keep_only(&artifacts);
        self.compared.keep_only(|kind, namespace, name| self.stores.mark(kind, namespace, name).is_some());
        self.revisions.keep_only(&revisions);
        self.judgements.keep_only(|namespace, name| self.stores.artifacts.named(namespace, name).is_some());
        let recorded: HashSet<String> =
            self.stores.artifacts.state().iter().map(|artifact| artifacts::key(artifact.meta())).collect();
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| recorded.contains(key));
    }
}
