//! What is noted on a revision's ControllerRevision beside what was frozen: how its engine is asked, what made it necessary,
//! which wish for a fresh look it answers, and what went wrong with it. It outlives pods and us.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    context::Context,
    doors::ask::Asking,
    plan::{Owner, child_name},
};
use crate::api::{ANNOTATION_REASON, ANNOTATION_REFRESH, ANNOTATION_SPEC, Reason};

/// How the engine of the revision is asked.
pub const ASKING: &str = "bonafide.dev/asking";
/// What a replica found when the bytes were not the ones that were judged.
pub const REFUSED: &str = "bonafide.dev/refused";
/// Why the revision was given up.
pub const FAILED: &str = "bonafide.dev/failed";

/// That the revision has answered: it can be gone back to.
pub const ANSWERED: &str = "bonafide.dev/answered";
/// Stands there when it has answered for all replicas, alone; `true` when it was for some of them.
pub const WHOLE: &str = "whole";
/// That the revision has passed its trial.
pub const TRIED: &str = "bonafide.dev/tried";

/// The bytes of a revision were not the ones that were judged: so that nothing downloads the same again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The generation of the ModelDeployment at that time.
    pub generation: i64,
    /// The pods that found it: each is heard once.
    pub pods: Vec<String>,
    /// The sentence for people; empty when the revision came up later.
    pub message: String,
    /// Why, where it is not that the bytes were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ModelDeployment's `bonafide.dev/refresh` at that time: another one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// Something else was wished for since: when this is wished for again, it is tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgiven: bool,
}

impl Refusal {
    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason.as_deref().and_then(Reason::named).unwrap_or(Reason::DigestMismatch)
    }
}

/// The revision did not come up, and was given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The sentence for people.
    pub message: String,
    /// As for a [`Refusal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// As for a [`Refusal`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgiven: bool,
}

/// What is noted of one revision.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Everything of ours that is written once, as it stands there.
    pub kept: BTreeMap<String, String>,
    /// How the engine is asked; `None` for a revision of a release that did not note it.
    pub asking: Option<Asking>,
    /// The wish for a fresh look that was answered with it.
    pub refresh: Option<String>,
    /// Whether it has answered before. It is noted once another one is to take its place.
    pub answered: bool,
    /// Whether it has answered for all replicas, alone.
    pub whole: bool,
    /// Whether it has passed its trial.
    pub tried: bool,
    /// What a replica found.
    pub refusal: Option<Refusal>,
    /// Why it was given up.
    pub failure: Option<Failure>,
}

impl Notes {
    /// Reads what is noted.
    pub fn read(meta: &ObjectMeta) -> Self {
        let of = |key: &str| meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).cloned();
        let kept = [ANNOTATION_SPEC, ANNOTATION_REASON, ASKING, ANNOTATION_REFRESH];
        fn parsed<T: for<'de> Deserialize<'de>>(text: Option<String>) -> Option<T> {
            serde_json::from_str(&text?).ok()
        }
        Self {
            kept: kept.into_iter().filter_map(|key| Some((key.to_owned(), of(key)?))).collect(),
            asking: parsed(of(ASKING)),
            refresh: of(ANNOTATION_REFRESH),
            answered: of(ANSWERED).is_some(),
            whole: of(ANSWERED).as_deref() == Some(WHOLE),
            tried: of(TRIED).is_some(),
            refusal: parsed(of(REFUSED)),
            failure: parsed(of(FAILED)),
        }
    }

    /// The notes of a revision that is made now.
    pub fn new(spec: &Value, reason: &str, asking: Asking, refresh: Option<&str>) -> Self {
        let mut kept = BTreeMap::from([
            (ANNOTATION_SPEC.to_owned(), spec.to_string()),
            (ANNOTATION_REASON.to_owned(), reason.to_owned()),
            (ASKING.to_owned(), serde_json::to_string(&asking).unwrap_or_default()),
        ]);
        kept.extend(refresh.map(|refresh| (ANNOTATION_REFRESH.to_owned(), refresh.to_owned())));
        Self { kept, asking: Some(asking), refresh: refresh.map(str::to_owned), ..Self::default() }
    }

    /// The refusal, if it still counts: always for what is not asked for now; and for what is, until a fresh look is wished for
    /// or something else was wished for meanwhile.
    pub fn refused(&self, asked_for: bool, refresh: Option<&str>) -> Option<&Refusal> {
        let counts = |refusal: &&Refusal| !asked_for || (refusal.refresh.as_deref() == refresh && !refusal.forgiven);
        self.refusal.as_ref().filter(|refusal| !refusal.message.is_empty()).filter(counts)
    }

    /// The failure, if it still counts; by the same rule.
    pub fn failed(&self, asked_for: bool, refresh: Option<&str>) -> Option<&Failure> {
        let counts = |failure: &&Failure| !asked_for || (failure.refresh.as_deref() == refresh && !failure.forgiven);
        self.failure.as_ref().filter(counts)
    }

    /// What has to be noted anew: something else is wished for than this revision, or it came up after all.
    pub fn settled(&self, asked_for: bool, came_up: bool) -> Vec<(&'static str, Option<String>)> {
        let text = |refusal: &Refusal| serde_json::to_string(refusal).ok();
        let mut anew = Vec::new();
        if let Some(refusal) = self.refusal.as_ref().filter(|refusal| !refusal.message.is_empty()) {
            if came_up {
                anew.push((REFUSED, text(&Refusal { message: String::new(), ..refusal.clone() })));
            } else if !asked_for && !refusal.forgiven {
                anew.push((REFUSED, text(&Refusal { forgiven: true, ..refusal.clone() })));
            }
        }
        if let Some(failure) = &self.failure {
            if came_up {
                anew.push((FAILED, None));
            } else if !asked_for && !failure.forgiven {
                anew.push((FAILED, serde_json::to_string(&Failure { forgiven: true, ..failure.clone() }).ok()));
            }
        }
        anew
    }
}

/// Writes notes on an existing ControllerRevision; `None` takes one off.
pub async fn write(
    context: &Context,
    owner: &Owner,
    revision: &str,
    notes: &[(&'static str, Option<String>)],
) -> Result<(), kube::Error> {
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), &owner.namespace);
    let notes: BTreeMap<&str, &Option<String>> = notes.iter().map(|(key, value)| (*key, value)).collect();
    context.metrics.wrote("ControllerRevision", "patch");
    let patch = Patch::Merge(json!({ "metadata": { "annotations": notes } }));
    match api.patch(&child_name(&owner.name, revision), &PatchParams::default(), &patch).await {
        // It was not made yet, or is gone: then there is nothing to note it on.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        written => written.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(refresh: Option<&str>) -> Notes {
        let failure = Failure { message: "It did not come up.".into(), refresh: refresh.map(str::to_owned), forgiven: false };
        let meta =
            serde_json::from_value(json!({ "annotations": { FAILED: serde_json::to_string(&failure).unwrap() } })).unwrap();
        Notes::read(&meta)
    }

    /// The notes after `settled` was written.
    fn after(notes: &Notes, asked_for: bool, came_up: bool) -> Notes {
        let annotations: serde_json::Map<String, Value> = notes
            .settled(asked_for, came_up)
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))))
            .collect();
        Notes::read(&serde_json::from_value(json!({ "annotations": annotations })).unwrap())
    }

    #[test]
    fn what_failed_is_tried_again_when_the_wish_changes_or_a_fresh_look_is_wished_for() {
        let notes = failed(Some("1"));
        assert!(notes.failed(true, Some("1")).is_some());
        assert!(notes.failed(true, Some("2")).is_none(), "a fresh look");
        assert!(notes.failed(false, Some("2")).is_some(), "nobody goes back to it");
        assert_eq!(notes.settled(true, false), []);
        let forgiven = after(&notes, false, false);
        assert!(forgiven.failed(false, Some("1")).is_some() && forgiven.failed(true, Some("1")).is_none(), "wished for again");
        assert_eq!(forgiven.settled(false, false), [], "it is noted once");
        assert!(after(&notes, true, true).failed(false, None).is_none(), "it came up");
    }

    #[test]
    fn a_refusal_follows_the_same_rule_and_its_pods_are_heard_once_for_ever() {
        let refusal = Refusal { generation: 3, pods: vec!["u".into()], message: "Other bytes.".into(), ..Refusal::default() };
        let notes = Notes { refusal: Some(refusal), ..Notes::default() };
        assert!(notes.refused(true, None).is_some() && notes.refused(true, Some("1")).is_none());
        let forgiven = after(&notes, false, false);
        assert!(forgiven.refused(true, None).is_none() && forgiven.refused(false, None).is_some());
        let came_up = after(&notes, true, true);
        assert!(came_up.refused(false, None).is_none());
        assert_eq!(came_up.refusal.unwrap().pods, ["u"]);
        // As the release before wrote it.
        let meta = json!({ "annotations": { REFUSED: r#"{"generation":2,"pods":["u"],"message":"Other bytes."}"# } });
        assert!(Notes::read(&serde_json::from_value(meta).unwrap()).refused(true, None).is_some());
    }
}
