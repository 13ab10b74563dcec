//! Two doors that every pod passes, one at a time: the scheduling gate, and the vouching that lets traffic in.
//!
//! The gate is lifted for this pod, now, after its verdict was evaluated under the policies that stand in the API server at
//! that moment. So no ReplicaSet, restart or race ever brings back what was refused.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{answer::First, drain, vouch};
use crate::{
    api::{GATE, LABEL_REVISION, OnRecall, Problem, VOUCHED},
    controller::{
        confirm::{self, Others},
        context::Context,
        decide::Judged,
        fetched,
        objects::{
            apply,
            slim::{SlimCondition, SlimPod},
        },
        observe::Observed,
        plan::{self, CONTAINER_ENGINE, ChildKind, Live, Owner},
        rollout::Step,
        verdicts::policies,
    },
    model::Checks,
};

/// What is said of a pod whose fetch has not looked at what policies want today.
const UNLOOKED: &str = "it fetched before a policy wanted the formats or the configuration of its files to be looked at; the pod that comes in its place looks at them";

/// So long it counts that the policies are those of the verdicts.
const MOMENT: Duration = Duration::from_secs(1);

/// So long the watch may take to tell that a gate was lifted, before it is tried again.
const HEARD: Duration = Duration::from_secs(5);

/// What is said of a pod that a policy takes out of service.
const RECALLED: &str = "The policies recall what it serves: it gets no new requests, and finishes those it has.";

/// What is known of pods at the doors, by UID.
#[derive(Default)]
pub struct Vouchers {
    /// Those that were compared with their template.
    compared: Mutex<HashMap<String, Comparison>>,
    /// When the gate was lifted.
    lifted: Mutex<HashMap<String, Instant>>,
}

/// A pod's generation, the revision whose template it was compared with, and what speaks against it.
type Comparison = (Option<i64>, String, Option<String>);

/// What came of it.
#[derive(Debug, Default)]
pub struct Doors {
    /// Pods that are not what we wrote: name and difference.
    pub objections: Vec<(String, String)>,
    /// A revision whose pods cannot look at what policies want, so that their gates stay.
    pub too_old: Option<String>,
    /// Pods whose engines were asked for a first answer, and have not given it yet.
    pub asked: Vec<String>,
    /// Pods whose engines do not answer as they should: name and problem.
    pub unanswered: Vec<(String, Problem)>,
    /// The policies changed since they were evaluated: this has to be looked at again, at once.
    pub stale: bool,
}

/// What is to be said of a pod in its readiness gate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// It gets requests.
    Vouched,
    /// It does not: reason and message of the condition.
    Not(&'static str, String),
    /// Nothing that was not said before.
    Nothing,
}

/// Lifts the gates and sets the vouchers of all pods of one deployment; what fails for one holds up no other. Says the first failure
/// beside what came of it.
pub async fn attend(context: &Context, observed: &Observed, revisions: &[Judged], step: &Step) -> (Doors, Option<kube::Error>) {
    let mut visit =
        Visit { context, observed, step, doors: Doors::default(), fresh: Fresh::default(), others: Others::default() };
    let mut failed = None;
    for pod in observed.pods.iter().filter(|pod| !pod.is_over()) {
        let judged = revisions.iter().find(|judged| pod.label(LABEL_REVISION) == Some(&judged.seen.revision.name));
        let done = if pod.is_gated() { visit.gate(pod, judged).await } else { visit.voucher(pod, judged).await };
        failed = failed.or(done.err());
    }
    (visit.doors, failed)
}

/// Whether the pod will read what policies want to be looked at beside digests, and nothing that they wanted before: from its
/// ConfigMap, which nobody else writes while changes wait.
async fn is_told(context: &Context, owner: &Owner, judged: &Judged, checks: Checks) -> bool {
    let live = Live {
        revision: &judged.seen.revision,
        manifest: judged.artifact.as_ref().map(|artifact| &artifact.manifest),
        checks,
        replicas: Some(0),
        version: None,
        notes: &judged.seen.notes.kept,
    };
    match plan::one(owner, ChildKind::ConfigMap, Some(&live), &context.sources) {
        Some(config) => apply::ensure(context, owner, &config).await.is_ok(),
        None => false,
    }
}

/// One round through the pods of one deployment.
struct Visit<'a> {
    context: &'a Context,
    observed: &'a Observed,
    step: &'a Step,
    doors: Doors,
    fresh: Fresh,
    others: Others,
}

impl Visit<'_> {
    /// Lifts the gate of a pod whose revision may be served today.
    async fn gate(&mut self, pod: &SlimPod, judged: Option<&Judged>) -> Result<(), kube::Error> {
        let Visit { context, observed, .. } = *self;
        let Some(judged) = judged.filter(|judged| judged.may_serve() && judged.seen.refusal.is_none()) else { return Ok(()) };
        match compare(context, &observed.owner, pod, judged).await? {
            Compared::Gone => return Ok(()),
            Compared::Same => {}
            Compared::Another(objection) => {
                self.doors.objections.push((pod.name().to_owned(), objection));
                return Ok(());
            }
        }
        let Some(checks) = judged.checks() else {
            self.doors.too_old = Some(judged.seen.revision.name.clone());
            return Ok(());
        };
        // The policies are asked about last: nothing that may take long lies between the answer and the gate.
        if is_told(context, &observed.owner, judged, checks).await && self.fresh.ask(context, observed).await? {
            return lift(context, &observed.owner, pod).await;
        }
        self.doors.stale = true;
        Ok(())
    }

    /// Says of a pod that runs whether it gets requests.
    async fn voucher(&mut self, pod: &SlimPod, judged: Option<&Judged>) -> Result<(), kube::Error> {
        let Visit { context, observed, step, .. } = *self;
        let owner = &observed.owner;
        let vouched = pod.is(VOUCHED);
        // Nobody is unrouted because the watch of revisions is behind.
        if judged.is_none()
            && vouched
            && let Some(revision) = pod.label(LABEL_REVISION)
            && confirm::exists(context, owner, revision).await?
        {
            self.doors.stale = true;
            return Ok(());
        }
        let recalled = is_recalled(judged, pod, step);
        let mut objection = if recalled { None } else { verdict(judged, pod) };
        if let (None, Some(judged), false) = (&objection, judged, recalled) {
            objection = match compare(context, owner, pod, judged).await? {
                Compared::Gone => return Ok(()),
                Compared::Same => None,
                Compared::Another(objection) => Some(objection),
            };
        }
        let word = match (&objection, judged) {
            (Some(objection), _) => Word::Not("NotVouched", format!("Not vouched for: {objection}.")),
            (None, _) if recalled => Word::Not("Recalled", RECALLED.to_owned()),
            (None, _) if is_draining(pod, step) => {
                Word::Not("Draining", "It is to go: it gets no new requests, and finishes those it has.".to_owned())
            }
            (None, Some(judged)) => first(context, pod, judged, vouched, &mut self.doors).await,
            (None, None) => Word::Nothing,
        };
        // A policy may have come since the gate was lifted, or since the engine was started again, and its watch be late.
        let is_new = !pod.was_vouched() || pod.is_probed();
        let word = if matches!(word, Word::Vouched) && is_new && !self.fresh.ask(context, observed).await? {
            self.doors.stale = true;
            Word::Nothing
        } else {
            word
        };
        // Who is to go and is routed to goes on until it is sure that enough others answer.
        let mut version = None;
        if vouched && matches!(word, Word::Not("Draining", _)) {
            version = self.others.spare(context, owner, pod, step.floor).await?;
            if version.is_none() {
                self.doors.stale = true;
                return Ok(());
            }
        }
        self.doors.objections.extend(objection.map(|objection| (pod.name().to_owned(), objection)));
        set(context, owner, pod, &word, version).await
    }
}

/// Whether the verdicts are of today: asked only when a pod needs it, and for all of them at once. That they are counts for a moment
/// only: writing to the pods before this one may have taken long.
#[derive(Default)]
struct Fresh(Option<(bool, Instant)>);

impl Fresh {
    async fn ask(&mut self, context: &Context, observed: &Observed) -> Result<bool, kube::Error> {
        let Observed { owner, namespace_labels, policies, .. } = observed;
        if let Some((known, _)) = self.0.filter(|(known, asked)| !known || asked.elapsed() < MOMENT) {
            return Ok(known);
        }
        let asked = Instant::now();
        let known = is_today(&context.client, &owner.namespace, namespace_labels, &policies.versions).await?;
        self.0 = Some((known, asked));
        Ok(known)
    }
}

/// What speaks against a pod that runs before it is looked at. It is vouched for as long as it is what we wrote and its bytes
/// were what was judged; whether new ones may start is another question. An engine that was started again is a new one.
fn verdict(judged: Option<&Judged>, pod: &SlimPod) -> Option<String> {
    match judged {
        None => Some("no revision of this ModelDeployment made it".to_owned()),
        Some(judged) if found_other_bytes(judged, pod) => Some("its weights are not what was judged".to_owned()),
        Some(judged) if !pod.was_vouched() && !judged.may_serve() => Some("the policies refuse it".to_owned()),
        Some(judged) if !pod.was_vouched() && !was_looked_at(judged, pod) => Some(UNLOOKED.to_owned()),
        Some(judged) if pod.is_probed() && judged.is_refused() && !judged.is_recalled(OnRecall::KeepRunning) => {
            Some("its engine was started again, and the policies refuse it".to_owned())
        }
        Some(_) => None,
    }
}

/// Whether its fetch has looked at all that policies want to be looked at today: it was told when it began, and they may have
/// changed since.
fn was_looked_at(judged: &Judged, pod: &SlimPod) -> bool {
    judged.checks().is_some_and(|wanted| wanted.is_empty() || fetched::checked(pod).cover(wanted))
}

/// Whether the pod gets no requests because the policies say that it is to go: now, or since before.
fn is_recalled(judged: Option<&Judged>, pod: &SlimPod, step: &Step) -> bool {
    judged.is_some_and(|judged| judged.is_recalled(OnRecall::Drain))
        && (pod.is_recalled() || step.recalled.iter().any(|name| name == pod.name()))
}

/// Whether the pod is to go, after this step.
fn is_draining(pod: &SlimPod, step: &Step) -> bool {
    let named = |names: &[String]| names.iter().any(|name| name == pod.name());
    (pod.draining_since().is_some() && !named(&step.take_back)) || named(&step.drain)
}

/// What is said of a pod to which nobody objects: it gets requests once its engine has answered the first, for as long as that
/// engine runs.
async fn first(context: &Context, pod: &SlimPod, judged: &Judged, vouched: bool, doors: &mut Doors) -> Word {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let start = pod.restarts(CONTAINER_ENGINE);
    let request = judged.seen.notes.asking.as_ref().and_then(|asking| asking.request.as_ref());
    // Somebody who knew vouched for it before we did.
    match vouched {
        true if was_started_since(pod) => context.answers.doubt(uid, start),
        true => context.answers.take_for_granted(uid, start),
        false => {}
    }
    if context.answers.has(uid, start) || (vouched && request.is_none()) {
        return if vouched { Word::Nothing } else { Word::Vouched };
    }
    if !pod.container(CONTAINER_ENGINE).is_some_and(|engine| engine.ready) {
        let again = "Its engine was started again, and has not answered a request since.".to_owned();
        return if vouched { Word::Not("Probing", again) } else { Word::Nothing };
    }
    let Some(request) = request else { return Word::Vouched };
    let Some(at) = drain::address(pod, judged.seen.revision.port) else { return Word::Nothing };
    match context.answers.first(&context.ask, uid, start, at, request).await {
        First::Answered => Word::Vouched,
        First::Asked => {
            doors.asked.push(pod.name().to_owned());
            let message = "Its engine was asked for a first answer.";
            if vouched && !context.answers.is_doubted(uid, start) {
                Word::Not("Probing", message.to_owned())
            } else {
                Word::Nothing
            }
        }
        First::Failing(problem) => {
            let message = problem.message.clone();
            doors.unanswered.push((pod.name().to_owned(), problem));
            if vouched { Word::Not("Probing", message) } else { Word::Nothing }
        }
    }
}

/// Whether the engine was started again after the pod was vouched for, by the times that its node and the manager wrote down.
fn was_started_since(pod: &SlimPod) -> bool {
    let running = pod.container(CONTAINER_ENGINE).and_then(|engine| engine.state.running.as_ref()?.started_at);
    pod.restarts(CONTAINER_ENGINE) > 0 && running > pod.condition(VOUCHED).and_then(|vouched| vouched.last_transition_time)
}

/// Whether this pod is one of those whose bytes were not what was judged. Others of its revision have verified theirs.
fn found_other_bytes(judged: &Judged, pod: &SlimPod) -> bool {
    judged.seen.refusal.as_ref().is_some_and(|refusal| refusal.pods.contains(pod.metadata.uid.as_ref().unwrap_or(&String::new())))
}

/// Whether the verdicts were reached under the policies and the namespace's labels that stand in the API server now, read past
/// every cache.
pub async fn is_today(
    client: &Client,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    versions: &policies::Versions,
) -> Result<bool, kube::Error> {
    if policies::versions(client).await? != *versions {
        return Ok(false);
    }
    let namespace = Api::<Namespace>::all(client.clone()).get_metadata(namespace).await?;
    Ok(namespace.metadata.labels.unwrap_or_default() == *labels)
}

/// What a pod is beside its revision's template.
enum Compared {
    /// Not there any more, or another has its name.
    Gone,
    /// What was written.
    Same,
    /// Something else, and this is the first difference.
    Another(String),
}

impl Compared {
    fn by(objection: Option<String>) -> Self {
        objection.map_or(Self::Same, Self::Another)
    }
}

/// Compares the live pod with its revision's template; a pod's generation changes whenever its spec does, so each is read once for
/// each of the two.
async fn compare(context: &Context, owner: &Owner, pod: &SlimPod, judged: &Judged) -> Result<Compared, kube::Error> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let generation = pod.metadata.generation;
    let revision = &judged.seen.revision.name;
    let known = context.vouchers.compared.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
    if let Some((seen, of, objection)) = known
        && seen == generation
        && of == *revision
        && generation.is_some()
    {
        return Ok(Compared::by(objection));
    }
    let live = api(context, owner).get_opt(pod.name()).await?;
    // The watch will tell.
    let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(&uid)) else { return Ok(Compared::Gone) };
    let seen = live.metadata.generation;
    let live = serde_json::to_value(live).map_err(kube::Error::SerdeError)?;
    let objection = vouch::objection(&judged.seen.revision.template, &live, &context.config.trusted_mutators);
    if let Some(objection) = &objection {
        tracing::warn!(
            pod = pod.name(),
            namespace = owner.namespace,
            objection,
            "a pod is not what we wrote: it is not vouched for"
        );
    }
    context
        .vouchers
        .compared
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(uid, (seen, revision.clone(), objection.clone()));
    Ok(Compared::by(objection))
}

impl Vouchers {
    /// Forgets the pods that are not in `alive`.
    pub fn keep_only(&self, alive: &std::collections::HashSet<String>) {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| alive.contains(uid));
        self.lifted.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, at| alive.contains(uid) && at.elapsed() < HEARD);
    }
}

/// Lifts the gate, once: while the watch has not told of it, it is not done again.
async fn lift(context: &Context, owner: &Owner, pod: &SlimPod) -> Result<(), kube::Error> {
    let Some(at) = pod.spec.scheduling_gates.iter().position(|gate| gate.name == GATE) else { return Ok(()) };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let lifted = || context.vouchers.lifted.lock().unwrap_or_else(PoisonError::into_inner);
    if lifted().get(&uid).is_some_and(|at| at.elapsed() < HEARD) {
        return Ok(());
    }
    let path = format!("/spec/schedulingGates/{at}");
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": pod.metadata.uid },
        { "op": "test", "path": format!("{path}/name"), "value": GATE },
        { "op": "remove", "path": path },
    ]);
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    context.metrics.wrote("Pod", "patch");
    match api(context, owner).patch(pod.name(), &PatchParams::default(), &Patch::<()>::Json(patch)).await {
        Ok(_) => {
            lifted().insert(uid, Instant::now());
            Ok(())
        }
        // Deleted, replaced or lifted meanwhile: the next event tells.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says it in the pod's readiness gate; with a version, on that alone.
async fn set(context: &Context, owner: &Owner, pod: &SlimPod, word: &Word, version: Option<String>) -> Result<(), kube::Error> {
    let (status, reason, message) = match word {
        Word::Nothing => return Ok(()),
        Word::Vouched => ("True", "Vouched", "The pod is what Bonafide wrote."),
        Word::Not(reason, message) => ("False", *reason, message.as_str()),
    };
    let before = pod.condition(VOUCHED);
    let same = |found: &SlimCondition| found.status == status && (status == "True" || found.message == message);
    // Without a condition a pod gets no requests either.
    if before.is_some_and(same) || (status == "False" && before.is_none()) {
        return Ok(());
    }
    let condition =
        json!({ "type": VOUCHED, "status": status, "reason": reason, "message": message, "lastTransitionTime": now(context) });
    let mut patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
    if let (Some(version), Some(metadata)) = (version, patch.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    context.metrics.wrote("Pod", "patch");
    match api(context, owner).patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // Gone, or another by its name (whose UID may not be changed): the next event tells.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        Err(error) => Err(error),
    }
}

fn now(context: &Context) -> Value {
    Timestamp::from_second(context.clock.now().as_second()).map_or(Value::Null, |now| json!(now.to_string()))
}

fn api(context: &Context, owner: &Owner) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    Api::namespaced_with(context.client.clone(), &owner.namespace, &resource)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// An API server that has one policy and one namespace.
    fn server(uid: &'static str, generation: i64, label: &'static str) -> Client {
        let answer = move |request: Request<Body>| async move {
            let body = if request.uri().path().ends_with("/clustermodelpolicies") {
                let meta = json!({ "name": "orchard", "uid": uid, "generation": generation });
                json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": [{ "metadata": meta }] })
            } else {
                let meta = json!({ "name": "fruit", "labels": { "tier": label } });
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta })
            };
            Ok::<_, Infallible>(Response::new(Body::from(body.to_string().into_bytes())))
        };
        Client::new(tower::service_fn(answer), "fruit")
    }

    #[tokio::test]
    async fn a_verdict_counts_only_under_the_policies_and_labels_that_stand_there_now() {
        let versions = BTreeMap::from([("u1".to_owned(), ("orchard".to_owned(), 3))]);
        let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
        let today = async |client| is_today(&client, "fruit", &labels, &versions).await.unwrap();
        assert!(today(server("u1", 3, "gold")).await);
        assert!(!today(server("u1", 4, "gold")).await, "the policy was changed");
        assert!(!today(server("u2", 3, "gold")).await, "the policy was deleted and made again");
        assert!(!today(server("u1", 3, "iron")).await, "the namespace was labelled anew");
        assert!(!is_today(&server("u1", 3, "gold"), "fruit", &labels, &BTreeMap::new()).await.unwrap(), "a policy was added");
    }
}
