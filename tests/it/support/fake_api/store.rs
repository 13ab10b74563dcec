//! All objects, and every change that was ever made to one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{kinds::Kind, refuse::Refusal, select::Selector};

/// Group, plural, namespace, name.
pub type Key = (&'static str, &'static str, String, String);

/// One change of one object.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub at: Instant,
    /// Who made it.
    pub who: String,
    pub kind: &'static Kind,
    pub before: Option<Arc<Value>>,
    pub after: Option<Arc<Value>>,
}

impl Change {
    /// The object as it is or was last.
    pub fn object(&self) -> &Value {
        self.after.as_ref().or(self.before.as_ref()).unwrap()
    }
}

/// Sees every change as it is made, with the state after it.
pub type Witness = Box<dyn FnMut(&Change, &State) + Send>;

/// A page of a list that is to be continued.
struct Rest {
    version: u64,
    items: Vec<Arc<Value>>,
}

/// What the API server holds.
#[derive(Default)]
pub struct State {
    objects: BTreeMap<Key, Arc<Value>>,
    pub version: u64,
    history: VecDeque<Change>,
    /// Changes up to this one are forgotten.
    compacted: u64,
    ids: u64,
    rests: BTreeMap<String, Rest>,
}

/// The key of an object.
pub fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
    let namespace = if kind.namespaced { namespace } else { "" };
    (kind.group, kind.plural, namespace.to_owned(), name.to_owned())
}

impl State {
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&key(kind, namespace, name))
    }

    /// All objects of a kind, in all namespaces when it is empty.
    pub fn all<'a>(&'a self, kind: &Kind, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Value>> + use<'a> {
        let (group, plural) = (kind.group, kind.plural);
        let from = (group, plural, namespace.to_owned(), String::new());
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.0 == group && key.1 == plural && (namespace.is_empty() || key.2 == namespace))
            .map(|(_, object)| object)
    }

    /// Every object.
    pub fn everything(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.objects.values()
    }

    /// A UID that no other object has.
    pub fn uid(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.ids)
    }

    /// Five characters that no other name ends with.
    pub fn suffix(&mut self) -> String {
        self.ids += 1;
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut number = self.ids * 7_654_321 % 14_348_907;
        let mut suffix = String::new();
        for _ in 0..5 {
            suffix.push(char::from(ALPHABET[usize::try_from(number % 27).unwrap()]));
            number /= 27;
        }
        suffix
    }

    /// Stores an object, or removes it, and remembers the change.
    pub fn put(&mut self, kind: &'static Kind, namespace: &str, name: &str, after: Option<Value>, who: &str) -> Arc<Value> {
        self.version += 1;
        let version = json!(self.version.to_string());
        let key = key(kind, namespace, name);
        let mut before = self.objects.get(&key).cloned();
        let after = after.map(|mut object| {
            object["metadata"]["resourceVersion"] = version.clone();
            Arc::new(object)
        });
        match &after {
            Some(object) => drop(self.objects.insert(key, object.clone())),
            None => {
                self.objects.remove(&key);
                // Who watches is told the version of the deletion.
                if let Some(object) = &mut before {
                    Arc::make_mut(object)["metadata"]["resourceVersion"] = version;
                }
            }
        }
        let object = after.clone().or_else(|| before.clone()).unwrap();
        self.history.push_back(Change { version: self.version, at: Instant::now(), who: who.to_owned(), kind, before, after });
        object
    }

    /// The change that made this version.
    pub fn change(&self, version: u64) -> Option<&Change> {
        let at = self.history.partition_point(|change| change.version < version);
        self.history.get(at).filter(|change| change.version == version)
    }

    /// The first change of a kind after a version; an error when what follows that version is forgotten.
    pub fn next_change(&self, kind: &Kind, namespace: &str, after: u64) -> Result<Option<&Change>, Refusal> {
        if after < self.compacted {
            return Err(Refusal::expired(format!("too old resource version: {after} ({})", self.compacted)));
        }
        let start = self.history.partition_point(|change| change.version <= after);
        let of_it = |change: &&Change| {
            change.kind == kind && (namespace.is_empty() || change.object()["metadata"]["namespace"] == namespace)
        };
        Ok(self.history.range(start..).find(of_it))
    }

    /// Forgets all changes up to now: who watches from before has to list again.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
        self.rests.clear();
    }

    /// Forgets old changes without anybody having to notice.
    pub fn trim(&mut self, keep: usize) {
        while self.history.len() > keep {
            self.compacted = self.history.pop_front().unwrap().version;
        }
    }

    /// One page of a list: the version, the objects, and how to go on with how many.
    #[allow(clippy::type_complexity)]
    pub fn page(
        &mut self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
        limit: usize,
        from: &str,
    ) -> Result<(u64, Vec<Arc<Value>>, Option<(String, usize)>), Refusal> {
        let (version, mut items) = match from {
            "" => (self.version, self.all(kind, namespace).filter(|object| selector.matches(object)).cloned().collect()),
            token => {
                if !token.starts_with("rest-") {
                    return Err(Refusal::bad(format!("continue key is not valid: {token}")));
                }
                let rest = self.rests.remove(token).ok_or_else(|| {
                    Refusal::expired("The provided continue parameter is too old to display a consistent list result.")
                })?;
                (rest.version, rest.items)
            }
        };
        if limit == 0 || items.len() <= limit {
            return Ok((version, items, None));
        }
        let rest: Vec<Arc<Value>> = items.split_off(limit);
        self.ids += 1;
        let (token, left) = (format!("rest-{}", self.ids), rest.len());
        self.rests.insert(token.clone(), Rest { version, items: rest });
        Ok((version, items, Some((token, left))))
    }
}
