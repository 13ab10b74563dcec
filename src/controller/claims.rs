//! Two ModelDeployments of a namespace that claim one name in `spec.model.servedNames`: whoever has it keeps it; of two that are
//! new, the older one gets it. A name that nobody wrote down, but the source gave, is no claim. Two that answer under one name since
//! before this was looked at go on, and both say so.

use kube::ResourceExt as _;

use super::{context::Context, plan::Owner};
use crate::api::{ModelDeployment, Problem, Reason};

/// Which of the names that `deployment` is to be reached by belongs to another one; `None` when all are free.
pub fn taken(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Option<Problem> {
    let (other, name) = another(context, deployment, owner, |other| goes_before(other, deployment))?;
    let message = format!(
        "Requests for {name} in namespace {} go to ModelDeployment {other}. Give this one another name with spec.model.servedNames, or delete {other}; then it goes on by itself.",
        owner.namespace
    );
    Some(Problem::new(Reason::NameTaken, message))
}

/// Which of the names under which `deployment` answers another one answers to as well; nobody's traffic is taken away for that.
pub fn shared(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Option<Problem> {
    let (other, name) = another(context, deployment, owner, serves)?;
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
    counts: impl Fn(&ModelDeployment) -> bool,
) -> Option<(String, String)> {
    let names = &deployment.spec.model.served_names;
    if names.is_empty() {
        return None;
    }
    let others = context.stores.wishes.state();
    let others = others.iter().filter_map(|other| other.0.as_ref().ok());
    others
        .filter(|other| other.namespace().as_deref() == Some(&owner.namespace) && other.name_any() != owner.name)
        .filter_map(|other| Some((other, other.spec.model.served_names.iter().find(|name| names.contains(name))?)))
        .filter(|(other, _)| other.metadata.deletion_timestamp.is_none() && counts(other))
        .map(|(other, name)| (other.name_any(), name.clone()))
        .min()
}

/// Whether what is asked for today serves.
fn serves(object: &ModelDeployment) -> bool {
    object.status.as_ref().is_some_and(|status| {
        status.observed_generation == object.metadata.generation
            && status.revisions.iter().any(|revision| revision.phase == "Current")
    })
}

/// Whether `other` has its names before `deployment` gets them.
fn goes_before(other: &ModelDeployment, deployment: &ModelDeployment) -> bool {
    let age = |object: &ModelDeployment| (object.metadata.creation_timestamp.as_ref().map(|time| time.0), object.name_any());
    serves(other) || age(other) < age(deployment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(name: &str, second: u32, serves: bool) -> ModelDeployment {
        let revisions = if serves { json!([{ "name": "r", "phase": "Current" }]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": { "name": name, "generation": 1, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z") },
            "spec": { "model": { "source": "hf://birds/Parrot" } },
            "status": { "observedGeneration": 1, "revisions": revisions },
        }))
        .unwrap()
    }

    #[test]
    fn who_serves_goes_first_and_then_who_is_older_and_then_the_name_decides() {
        let before = |a: &ModelDeployment, b: &ModelDeployment| goes_before(a, b);
        assert!(before(&deployment("b", 1, false), &deployment("a", 2, false)));
        assert!(!before(&deployment("a", 2, false), &deployment("b", 1, false)));
        assert!(before(&deployment("a", 1, false), &deployment("b", 1, false)));
        assert!(before(&deployment("young", 2, true), &deployment("old", 1, false)), "who has it keeps it");
    }
}
