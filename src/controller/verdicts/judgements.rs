//! Verdicts that were reached: the same question under the same policies has the same answer, and checking a signature is
//! the most work there is in a reconcile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use super::{artifacts::Artifact, policies::InForce, signatures::Bundle};
use crate::{api::Assurance, model::Digest, trust::Verdict};

/// All that a verdict depends on.
pub struct Question<'a> {
    /// The namespace of the artifact.
    pub namespace: &'a str,
    /// The policies.
    pub policies: &'a Arc<InForce>,
    /// The namespace's labels: they select policies.
    pub labels: &'a BTreeMap<String, String>,
    /// What is judged, with the signatures beside it.
    pub artifact: &'a Arc<Artifact>,
    /// The signatures that were delivered apart.
    pub delivered: &'a [Arc<Bundle>],
    /// The content that is asked for.
    pub pin: Option<Digest>,
    /// How the bytes get to the engine.
    pub assurance: Assurance,
}

/// The last verdict on each artifact, with and without a pin.
#[derive(Default)]
pub struct Judgements(Mutex<HashMap<Key, Reached>>);

/// The namespace and the name of the artifact, the pin, and how the bytes get to the engine.
type Key = (String, String, Option<Digest>, Assurance);

struct Reached {
    policies: Arc<InForce>,
    labels: BTreeMap<String, String>,
    artifact: Arc<Artifact>,
    delivered: Vec<Arc<Bundle>>,
    verdict: Option<Verdict>,
}

impl Reached {
    /// Whether nothing is another than it was then. What is shared is compared by identity: it never changes.
    fn answers(&self, question: &Question<'_>) -> bool {
        Arc::ptr_eq(&self.policies, question.policies)
            && Arc::ptr_eq(&self.artifact, question.artifact)
            && self.labels == *question.labels
            && self.delivered.len() == question.delivered.len()
            && self.delivered.iter().zip(question.delivered).all(|(then, now)| Arc::ptr_eq(then, now))
    }
}

impl Judgements {
    /// The verdict, judged by `judge` unless it was reached before.
    pub fn reach(&self, question: &Question<'_>, judge: impl FnOnce() -> Option<Verdict>) -> Option<Verdict> {
        let key = (question.namespace.to_owned(), question.artifact.name.clone(), question.pin, question.assurance);
        let reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reached) = reached.get(&key).filter(|reached| reached.answers(question)) {
            return reached.verdict.clone();
        }
        drop(reached);
        let verdict = judge();
        let reached = Reached {
            policies: question.policies.clone(),
            labels: question.labels.clone(),
            artifact: question.artifact.clone(),
            delivered: question.delivered.to_vec(),
            verdict: verdict.clone(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, reached);
        verdict
    }

    /// Forgets those on artifacts that are not `alive`.
    pub fn keep_only(&self, alive: impl Fn(&str, &str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(namespace, name, ..), _| alive(namespace, name));
    }
}
