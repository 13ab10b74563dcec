//! Revisions that were read, by the UID of their ControllerRevision: the API server keeps those from changing.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crate::controller::plan::Revision;

/// So many are kept as they are used. The others are kept as text, which takes a tenth of the memory: most of them are looked at
/// when their object changes, and then several times in a row.
const AT_HAND: usize = 32;

/// Revisions that were read.
#[derive(Default)]
pub struct Revisions(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    texts: HashMap<String, Box<str>>,
    at_hand: VecDeque<(String, Arc<Revision>)>,
}

impl Revisions {
    /// The revision of that UID, if it was read.
    pub fn get(&self, uid: &str) -> Option<Arc<Revision>> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, revision)) = inner.at_hand.iter().find(|(known, _)| known == uid) {
            return Some(revision.clone());
        }
        let revision: Arc<Revision> = Arc::new(serde_json::from_str(inner.texts.get(uid)?).ok()?);
        inner.take_to_hand(uid, &revision);
        Some(revision)
    }

    /// Keeps what was read of it.
    pub fn keep(&self, uid: &str, revision: &Arc<Revision>) {
        let Ok(text) = serde_json::to_string(&**revision) else { return };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.texts.insert(uid.to_owned(), text.into_boxed_str());
        inner.take_to_hand(uid, revision);
    }

    /// Forgets those that are not in `alive`.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.texts.retain(|uid, _| alive.contains(uid));
        inner.at_hand.clear();
    }
}

impl Inner {
    fn take_to_hand(&mut self, uid: &str, revision: &Arc<Revision>) {
        self.at_hand.retain(|(known, _)| known != uid);
        self.at_hand.push_back((uid.to_owned(), revision.clone()));
        if self.at_hand.len() > AT_HAND {
            self.at_hand.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_is_the_same_whether_it_is_at_hand_or_not() {
        let revision = |number: usize| -> Arc<Revision> {
            let revision = json!({
                "name": "r", "number": number, "wish": "w", "artifact": "a", "source": "hf://a/b", "commit": "c", "image": "i",
                "digest": format!("sha256:{}", "1".repeat(64)), "engine": "llamacpp", "args": ["x"], "port": 8080,
                "accelerator": "none", "template": {"spec": {"containers": [{"name": "engine"}]}}, "later": {"a": 1},
            });
            Arc::new(serde_json::from_value(revision).unwrap())
        };
        let known = Revisions::default();
        for number in 0..2 * AT_HAND {
            known.keep(&number.to_string(), &revision(number));
        }
        for number in 0..2 * AT_HAND {
            assert_eq!(known.get(&number.to_string()).as_deref(), Some(&*revision(number)));
        }
        assert_eq!(known.0.lock().unwrap().at_hand.len(), AT_HAND);
        known.keep_only(&HashSet::from(["1".to_owned()]));
        assert!(known.get("1").is_some() && known.get("0").is_none());
    }
}
