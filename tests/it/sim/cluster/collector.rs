//! The garbage collector: what no owner is left for goes.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;

use crate::support::fake_api::FakeApi;

const WHO: &str = "garbage-collector";
/// On what is deleted alone.
const ORPHAN: &str = "orphan";
/// On what is deleted last.
const LAST: &str = "foregroundDeletion";

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
    finish(api);
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

/// Those that go alone let go of what they own; those that go last wait for it.
fn finish(api: &FakeApi) {
    let holding: Vec<Arc<Value>> =
        api.state().everything().filter(|object| is_held(object, ORPHAN) || is_held(object, LAST)).cloned().collect();
    for owner in holding {
        let uid = &owner["metadata"]["uid"];
        let owned_by = |object: &Value| {
            object["metadata"]["ownerReferences"].as_array().is_some_and(|all| all.iter().any(|one| one["uid"] == *uid))
        };
        let owned: Vec<Arc<Value>> = api.state().everything().filter(|object| owned_by(object)).cloned().collect();
        let alone = is_held(&owner, ORPHAN);
        for object in &owned {
            let (kind, namespace, name, id) = named(object);
            if alone {
                api.edit(&kind, &namespace, &name, WHO, |object| {
                    let metadata = object["metadata"].as_object_mut().unwrap();
                    let owners = metadata["ownerReferences"].as_array_mut().unwrap();
                    owners.retain(|owner| owner["uid"] != *uid);
                    if owners.is_empty() {
                        metadata.remove("ownerReferences");
                    }
                });
            } else {
                api.delete(&kind, &namespace, &name, WHO, &id);
            }
        }
        if alone || owned.is_empty() {
            let (kind, namespace, name, _) = named(&owner);
            api.release(&kind, &namespace, &name, WHO, if alone { ORPHAN } else { LAST });
        }
    }
}

/// Kind, namespace, name, UID.
fn named(object: &Value) -> (String, String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]), text(&metadata["uid"]))
}

fn is_held(object: &Value, finalizer: &str) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
        && object["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == finalizer))
}
