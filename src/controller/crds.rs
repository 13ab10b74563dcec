//! Whether the CustomResourceDefinitions in the cluster know every field that this binary reads and writes.
//!
//! An API server drops what a definition does not know. With an older one a status would be written for ever, and a wish or a
//! policy would be read with parts missing. So nothing new is begun then, and everybody is told what to do. A newer
//! definition is no trouble: it only has more.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::ObjectReference, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use serde_json::Value;

use super::events::{Events, Said};
use crate::{
    api::{Reason, crds, truncate},
    runtime::http::{Obstacle, Readiness},
};

/// Between two looks while all is well: definitions change when somebody upgrades.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks while somebody is expected to mend them.
const IMPATIENT: Duration = Duration::from_secs(2);
/// The version of every kind of ours.
const VERSION: &str = "v1alpha1";
/// What helps.
const REMEDY: &str = "Bring the definitions up to date: helm upgrade with crds.enabled=true, or \
    `kubectl apply --server-side --force-conflicts -f crds/` with those of this version (`bonafide crd` prints them)";

/// The definitions as they were seen last, so that only a changed one is read whole.
#[derive(Default)]
pub struct Definitions {
    /// Their names.
    names: Vec<String>,
    /// By name: UID and generation, and what is wrong with it.
    seen: BTreeMap<String, (Version, Option<String>)>,
    /// What was told in an Event, by name.
    told: BTreeMap<String, String>,
}

type Version = (Option<String>, Option<i64>);

/// Looks again and again, and says in `readiness` what is in the way. It never ends.
pub async fn run(client: Client, readiness: Readiness, mut definitions: Definitions) {
    loop {
        tokio::time::sleep(if readiness.obstacle().borrow().is_some() { IMPATIENT } else { INTERVAL }).await;
        definitions.look(&client, &readiness).await;
    }
}

/// What this binary reads and writes, by the names of the definitions.
fn by_name() -> BTreeMap<String, Value> {
    let name = |definition: &Value| Some(definition.pointer("/metadata/name")?.as_str()?.to_owned());
    crds().into_iter().filter_map(|(_, definition)| Some((name(&definition)?, definition))).collect()
}

impl Definitions {
    /// Looks once. Where the answer is no answer nothing changes: not to be told is not to be told that a definition is old.
    pub async fn look(&mut self, client: &Client, readiness: &Readiness) {
        match self.ask(client).await {
            Ok(obstacle) => {
                if *readiness.obstacle().borrow() != obstacle {
                    match &obstacle {
                        Some(obstacle) => tracing::error!("{}", obstacle.message),
                        None => tracing::info!("the definitions in the cluster know every field that is needed"),
                    }
                }
                readiness.obstruct(obstacle);
            }
            Err(error) => tracing::warn!(%error, "the CustomResourceDefinitions cannot be read; trying again"),
        }
    }

    async fn ask(&mut self, client: &Client) -> Result<Option<Obstacle>, kube::Error> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::erase::<CustomResourceDefinition>(&()));
        let (mut absent, mut outdated) = (vec![], vec![]);
        // Making them takes a hundred times as long as asking for their versions.
        let mut compiled: Option<BTreeMap<String, Value>> = None;
        if self.names.is_empty() {
            self.names = compiled.insert(by_name()).keys().cloned().collect();
        }
        for name in &self.names {
            let Some(metadata) = api.get_metadata_opt(name).await? else {
                absent.push(name.to_owned());
                continue;
            };
            let version = (metadata.metadata.uid.clone(), metadata.metadata.generation);
            let known = self.seen.get(name).filter(|(seen, _)| *seen == version).map(|(_, wrong)| wrong.clone());
            let wrong = match known {
                Some(wrong) => wrong,
                None => {
                    let live = api.get(name).await?;
                    let definition = compiled.get_or_insert_with(by_name).get(name);
                    let wrong = definition.and_then(|definition| shortcoming(definition, &live.data));
                    self.seen.insert(name.to_owned(), (version, wrong.clone()));
                    wrong
                }
            };
            if let Some(wrong) = wrong {
                let message =
                    format!("CustomResourceDefinition {name} is older than Bonafide {}: {wrong}.", env!("CARGO_PKG_VERSION"));
                outdated.push((name.clone(), metadata.metadata.uid, message));
            }
        }
        for (name, uid, message) in &outdated {
            self.tell(client, name, uid.clone(), message).await;
        }
        let outdated: Vec<String> = outdated.into_iter().map(|(.., message)| message).collect();
        Ok(if !absent.is_empty() {
            let message =
                format!("There is no CustomResourceDefinition {}. {REMEDY}. It goes on by itself then.", absent.join(", "));
            Some(Obstacle { absent: true, message })
        } else if outdated.is_empty() {
            None
        } else {
            let message = format!(
                "{} {REMEDY}. It goes on by itself then; until that nothing new starts, and what serves goes on serving.",
                outdated.join(" ")
            );
            Some(Obstacle { absent: false, message: truncate(message) })
        })
    }

    /// Says it of the definition itself, once: `kubectl describe crd` shows it.
    async fn tell(&mut self, client: &Client, name: &str, uid: Option<String>, message: &str) {
        if self.told.get(name).is_some_and(|told| told == message) {
            return;
        }
        let reference = ObjectReference {
            api_version: Some("apiextensions.k8s.io/v1".to_owned()),
            kind: Some("CustomResourceDefinition".to_owned()),
            name: Some(name.to_owned()),
            uid,
            ..ObjectReference::default()
        };
        let said = Said { warning: true, reason: Reason::CrdOutdated.as_str(), action: "Read" };
        let note = truncate(format!("{message} {REMEDY}."));
        match Events::new(client.clone()).publish(&reference, &said, &note).await {
            Ok(()) => drop(self.told.insert(name.to_owned(), message.to_owned())),
            Err(error) => tracing::warn!(definition = name, %error, "an Event could not be written; it is tried again"),
        }
    }
}

/// What the definition in the cluster lacks of the one that was compiled in; nothing when it only has more.
fn shortcoming(ours: &Value, theirs: &Value) -> Option<String> {
    let version = |definition: &Value| {
        let versions = definition.pointer("/spec/versions")?.as_array()?;
        versions.iter().find(|version| version.get("name").is_some_and(|name| name == VERSION)).cloned()
    };
    let ours = version(ours)?;
    let Some(theirs) = version(theirs).filter(|version| version.get("served") == Some(&Value::Bool(true))) else {
        return Some(format!("it does not serve version {VERSION}"));
    };
    let subresources = ours.get("subresources").and_then(Value::as_object);
    let missing = subresources.into_iter().flatten().find(|(name, _)| theirs.pointer(&format!("/subresources/{name}")).is_none());
    if let Some((name, _)) = missing {
        return Some(format!("it has no subresource {name}"));
    }
    let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
    lacking(&schema(&ours), &schema(&theirs), "")
}

/// The first field that `theirs` would drop or not take, said in words; where everything is kept nothing is.
fn lacking(ours: &Value, theirs: &Value, at: &str) -> Option<String> {
    let kind = |schema: &Value| schema.get("type").and_then(Value::as_str).map(str::to_owned);
    if let (Some(wanted), Some(found)) = (kind(ours), kind(theirs))
        && wanted != found
    {
        return Some(format!("its field {at} is of type {found}, not {wanted}"));
    }
    let keeps_all = theirs.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let parts = ours.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, part)| {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        (at, part, theirs.get("properties").and_then(|properties| properties.get(name)))
    });
    let inner = [("items", "[]"), ("additionalProperties", "{}")].into_iter().filter_map(|(key, suffix)| {
        let part = ours.get(key).filter(|part| part.is_object())?;
        Some((format!("{at}{suffix}"), part, theirs.get(key).filter(|part| part.is_object())))
    });
    parts.chain(inner).find_map(|(at, part, found)| match found {
        Some(found) => lacking(part, found, &at),
        None if keeps_all => None,
        None => Some(format!("it has no field {at}")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compiled(kind: &str) -> Value {
        crds()
            .into_iter()
            .map(|(_, definition)| definition)
            .find(|definition| definition["spec"]["names"]["kind"] == kind)
            .unwrap()
    }

    fn changed(kind: &str, change: impl Fn(&mut Value)) -> Option<String> {
        let mut theirs = compiled(kind);
        change(theirs.pointer_mut("/spec/versions/0").unwrap());
        shortcoming(&compiled(kind), &theirs)
    }

    fn remove(value: &mut Value, pointer: &str) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        assert!(value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).is_some(), "{pointer}");
    }

    const SCHEMA: &str = "/schema/openAPIV3Schema";

    #[test]
    fn a_definition_of_this_version_lacks_nothing() {
        for (file, definition) in crds() {
            assert_eq!(shortcoming(&definition, &definition), None, "{file}");
        }
    }

    #[test]
    fn every_field_that_is_missing_is_named_wherever_it_stands() {
        fn properties(schema: &Value, pointer: &str, found: &mut Vec<String>) {
            for (key, part) in schema["properties"].as_object().into_iter().flatten() {
                found.push(format!("{pointer}/properties/{key}"));
                properties(part, &format!("{pointer}/properties/{key}"), found);
            }
            for key in ["items", "additionalProperties"] {
                if schema[key].is_object() {
                    properties(&schema[key], &format!("{pointer}/{key}"), found);
                }
            }
        }
        for (_, definition) in crds() {
            let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
            let mut pointers = vec![];
            properties(definition.pointer(&format!("/spec/versions/0{SCHEMA}")).unwrap(), SCHEMA, &mut pointers);
            assert!(pointers.len() > 2, "{kind}: {pointers:?}");
            for pointer in pointers {
                let said = changed(kind, |version| remove(version, &pointer)).unwrap_or_else(|| panic!("{kind}: {pointer}"));
                let field = pointer.replace(SCHEMA, "").replace("/properties/", ".").replace("/items", "[]");
                let field = field.replace("/additionalProperties", "{}");
                assert_eq!(said, format!("it has no field {}", field.trim_start_matches('.')), "{kind}");
            }
        }
    }

    #[test]
    fn a_newer_definition_is_no_trouble() {
        let more = changed("ModelDeployment", |version| {
            version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["later"] = json!({"type": "string"});
            version["subresources"]["later"] = json!({});
        });
        assert_eq!(more, None);
        let wide = changed("ModelDeployment", |version| {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["engine"] =
                json!({"x-kubernetes-preserve-unknown-fields": true});
        });
        assert_eq!(wide, None);
    }

    #[test]
    fn another_type_a_version_that_is_not_served_and_a_missing_subresource_are_told() {
        let said = changed("ModelDeployment", |version| {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]["type"] = json!("string");
        });
        assert_eq!(said.unwrap(), "its field spec.replicas is of type string, not integer");
        let said = changed("ModelDeployment", |version| remove(version, "/subresources/status"));
        assert_eq!(said.unwrap(), "it has no subresource status");
        for change in [json!({"served": false}), json!({"name": "v1"})] {
            let said = changed("ModelDeployment", |version| {
                version.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            });
            assert_eq!(said.unwrap(), "it does not serve version v1alpha1");
        }
    }
}
