//! Verdicts that were reached: the same question under the same policies has the same answer, and checking a signature is
//! the most work there is in a reconcile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

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
    /// The image of the engine that would serve it, where that counts.
    pub image: Option<&'a str>,
    /// What time it is: certificates begin and end.
    pub now: Timestamp,
}

/// The last verdict on each artifact, with and without a pin.
#[derive(Default)]
pub struct Judgements(Mutex<HashMap<Key, Reached>>);

/// The namespace and the name of the artifact, the pin, how the bytes get to the engine, and the engine's image.
type Key = (String, String, Option<Digest>, Assurance, Option<String>);

struct Reached {
    policies: Arc<InForce>,
    labels: BTreeMap<String, String>,
    artifact: Arc<Artifact>,
    delivered: Vec<Arc<Bundle>>,
    at: Timestamp,
    verdict: Option<Verdict>,
}

impl Reached {
    /// Whether nothing is another than it was then. What is shared is compared by identity: it never changes.
    fn answers(&self, question: &Question<'_>) -> bool {
        Arc::ptr_eq(&self.policies, question.policies)
            && Arc::ptr_eq(&self.artifact, question.artifact)
            && self.labels == *question.labels
            && holds(self.at, self.verdict.as_ref().and_then(Verdict::holds_until), question.now)
            && self.delivered.len() == question.delivered.len()
            && self.delivered.iter().zip(question.delivered).all(|(then, now)| Arc::ptr_eq(then, now))
    }
}

/// Whether what was judged at `at`, and may change at `until` by time alone, still counts at `now`. A clock that was set back
/// makes a question anew.
fn holds(at: Timestamp, until: Option<Timestamp>, now: Timestamp) -> bool {
    at <= now && until.is_none_or(|until| now < until)
}

impl Judgements {
    /// The verdict, judged by `judge` unless it was reached before.
    pub fn reach(&self, question: &Question<'_>, judge: impl FnOnce() -> Option<Verdict>) -> Option<Verdict> {
        let image = question.image.map(str::to_owned);
        let key = (question.namespace.to_owned(), question.artifact.name.clone(), question.pin, question.assurance, image);
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
            at: question.now,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_counts_from_when_it_was_reached_until_a_certificate_begins_or_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(holds(at(10), None, at(10)) && holds(at(10), None, at(1_000_000)));
        assert!(holds(at(10), Some(at(20)), at(10)) && holds(at(10), Some(at(20)), at(19)));
        assert!(!holds(at(10), Some(at(20)), at(20)), "at that moment it is over");
        assert!(!holds(at(10), None, at(9)), "the clock was set back");
    }
}
