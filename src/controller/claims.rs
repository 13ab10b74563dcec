//! Two ModelDeployments of a namespace that claim one name in `spec.model.servedNames`: whoever has it keeps it; of two that are
//! new, the older one gets it. A name that nobody wrote down, but the source gave, is no claim. Two that answer under one name since
//! before this was looked at go on, and both say so.

use kube::{ResourceExt as _, api::ObjectMeta};
use serde_json::Value;

use super::{context::Context, objects::slim::SlimDeployment, plan::Owner};
use crate::api::{ANNOTATION_SPEC, ModelDeployment, Problem, Reason};

/// Which of the names that `deployment` is to be reached by belongs to another one; `None` when all are free, or its own already.
pub fn taken(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Option<Problem> {
    let namespace = &owner.namespace;
    let is_free = |name: &str| !holds(context, deployment, name);
    let message = if let Some((other, name)) =
        another(context, deployment, owner, |other, name| holds(context, other, name) && is_free(name))
    {
        return Some(has_it(&other, &name, namespace));
    } else {
        let (other, name) = another(context, deployment, owner, |other, name| is_older(other, deployment) && is_free(name))?;
        format!(
            "ModelDeployment {other} of namespace {namespace} claims {name} too and is older, though nothing of it runs. Give one of them another name with spec.model.servedNames, or delete {other}; then this one goes on by itself."
        )
    };
    Some(Problem::new(Reason::NameTaken, message))
}

/// Which of the names of a revision that is gone back to another one answers to since.
pub fn lost(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Option<Problem> {
    let (other, name) =
        another(context, deployment, owner, |other, name| runs(context, other, name) && !runs(context, deployment, name))?;
    Some(has_it(&other, &name, &owner.namespace))
}

fn has_it(other: &str, name: &str, namespace: &str) -> Problem {
    let message = format!(
        "Requests for {name} in namespace {namespace} go to ModelDeployment {other}. Give this one another name with spec.model.servedNames, or delete {other}; then it goes on by itself."
    );
    Problem::new(Reason::NameTaken, message)
}

/// Which of the names under which `deployment` answers another one answers to as well; nobody's traffic is taken away for that.
pub fn shared(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Option<Problem> {
    let (other, name) = another(context, deployment, owner, |other, _| serves(other))?;
    let message = format!(
        "ModelDeployment {other} of namespace {} answers to {name} too. Both go on; give one of them another name with spec.model.servedNames, so that {name} means one model.",
        owner.namespace
    );
    Some(Problem::new(Reason::NameTaken, message))
}

/// The first other ModelDeployment of the namespace that has a name in common with this one, and the name.
fn another(
    context: &Context,
    deployment: &ModelDeployment,
    owner: &Owner,
    counts: impl Fn(&ModelDeployment, &str) -> bool,
) -> Option<(String, String)> {
    let names = &deployment.spec.model.served_names;
    if names.is_empty() {
        return None;
    }
    let others = context.stores.wishes.state();
    let others = others.iter().filter_map(|other| other.0.as_ref().ok());
    others
        .filter(|other| other.namespace().as_deref() == Some(&owner.namespace) && other.name_any() != owner.name)
        .filter(|other| other.metadata.deletion_timestamp.is_none())
        .filter_map(|other| {
            let name = other.spec.model.served_names.iter().find(|name| names.contains(name) && counts(other, name))?;
            Some((other.name_any(), name.clone()))
        })
        .min()
}

/// Whether what is asked for today serves.
fn serves(object: &ModelDeployment) -> bool {
    object.status.as_ref().is_some_and(|status| {
        status.observed_generation == object.metadata.generation
            && status.revisions.iter().any(|revision| revision.phase == "Current")
    })
}

/// Whether a revision that was made for that name has a Deployment: it was there first, whatever has become of the wish since.
fn holds(context: &Context, object: &ModelDeployment, name: &str) -> bool {
    has(context, object, name, |_| true)
}

/// Whether a revision that was made for that name has replicas.
fn runs(context: &Context, object: &ModelDeployment, name: &str) -> bool {
    has(context, object, name, |deployment| deployment.spec.replicas > 0)
}

fn has(context: &Context, object: &ModelDeployment, name: &str, counts: impl Fn(&SlimDeployment) -> bool) -> bool {
    let owner = Owner::of(object);
    context.stores.revisions_of(&owner).iter().any(|record| {
        let revision = record.metadata.name.as_deref().unwrap_or_default();
        let found = context.stores.deployments.named(&owner.namespace, revision);
        found.is_some_and(|deployment| owner.owns(&deployment.metadata) && counts(&deployment))
            && is_made_for(&record.metadata, name).unwrap_or_else(|| serves(object))
    })
}

/// Whether the wish that a revision was made of names it; `None` when that was not noted.
fn is_made_for(record: &ObjectMeta, name: &str) -> Option<bool> {
    let spec: Value = serde_json::from_str(record.annotations.as_ref()?.get(ANNOTATION_SPEC)?).ok()?;
    let names = spec.pointer("/model/servedNames").and_then(Value::as_array);
    Some(names.into_iter().flatten().any(|named| named == name))
}

/// Whether `other` was made before `deployment`; of two of one second, the first by name.
fn is_older(other: &ModelDeployment, deployment: &ModelDeployment) -> bool {
    let age = |object: &ModelDeployment| (object.metadata.creation_timestamp.as_ref().map(|time| time.0), object.name_any());
    age(other) < age(deployment)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn deployment(name: &str, second: u32) -> ModelDeployment {
        serde_json::from_value(json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": { "name": name, "generation": 1, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z") },
            "spec": { "model": { "source": "hf://birds/Parrot" } },
        }))
        .unwrap()
    }

    #[test]
    fn of_two_that_are_new_the_older_goes_first_and_then_the_name_decides() {
        assert!(is_older(&deployment("b", 1), &deployment("a", 2)));
        assert!(!is_older(&deployment("a", 2), &deployment("b", 1)));
        assert!(is_older(&deployment("a", 1), &deployment("b", 1)));
    }

    #[test]
    fn a_revision_is_made_for_the_names_of_the_wish_that_it_was_made_of() {
        let record = |spec: Option<Value>| ObjectMeta {
            annotations: spec.map(|spec| BTreeMap::from([(ANNOTATION_SPEC.to_owned(), spec.to_string())])),
            ..ObjectMeta::default()
        };
        let named = record(Some(json!({ "model": { "servedNames": ["chat"] } })));
        assert_eq!((is_made_for(&named, "chat"), is_made_for(&named, "other")), (Some(true), Some(false)));
        assert_eq!(is_made_for(&record(Some(json!({ "model": {} }))), "chat"), Some(false));
        assert_eq!(is_made_for(&record(None), "chat"), None, "an older release noted nothing");
    }
}
