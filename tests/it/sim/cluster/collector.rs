//! The garbage collector: what no owner is left for goes.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use crate::support::fake_api::FakeApi;

const WHO: &str = "garbage-collector";

struct Found {
    object: Arc<Value>,
    kind: String,
    /// Whether an owner is left.
    owned: bool,
    /// Owners that are gone.
    dangling: Vec<String>,
}

fn find(api: &FakeApi) -> Vec<Found> {
    let state = api.state();
    let alive: HashSet<&str> = state.everything().filter_map(|object| object["metadata"]["uid"].as_str()).collect();
    let mut found = vec![];
    for object in state.everything() {
        let owners: Vec<&str> = object["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|owner| owner["uid"].as_str())
            .collect();
        let dangling: Vec<String> = owners.iter().filter(|uid| !alive.contains(*uid)).map(|uid| (*uid).to_owned()).collect();
        if !dangling.is_empty() && object["metadata"].get("deletionTimestamp").is_none() {
            let kind = object["kind"].as_str().unwrap().to_owned();
            found.push(Found { object: object.clone(), kind, owned: dangling.len() < owners.len(), dangling });
        }
    }
    found
}

/// Whether anything is to be collected.
pub fn has_work(api: &FakeApi) -> bool {
    !find(api).is_empty()
}

/// Collects.
pub fn look(api: &FakeApi) {
    for Found { object, kind, owned, dangling } in find(api) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        if owned {
            api.edit(&kind, &namespace, &name, WHO, |object| {
                let owners = object["metadata"]["ownerReferences"].as_array_mut().unwrap();
                owners.retain(|owner| !dangling.iter().any(|uid| owner["uid"] == uid.as_str()));
            });
        } else {
            api.delete(&kind, &namespace, &name, WHO, &uid);
        }
    }
}
