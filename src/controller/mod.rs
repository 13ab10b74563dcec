//! The controller of ModelDeployments: `observe → decide → plan → apply → attend → status`, each step its own module.
//!
//! Pure steps: [`plan`], [`rollout`], [`doors::vouch`], [`diagnose`], [`progress`], [`status`], [`objects::diff`]. The others ask the
//! API server or the source. What a step needs has its room: [`objects`], [`source`], [`mod@verdicts`], [`doors`].

mod backoff;
mod claims;
mod confirm;
mod context;
mod crds;
mod decide;
mod diagnose;
mod doors;
mod events;
mod fetched;
mod lookup;
mod notes;
mod objects;
mod observe;
pub mod plan;
mod progress;
mod recalled;
mod rollout;
mod run;
mod shift;
mod sightings;
mod source;
mod status;
mod verdicts;
mod write;

pub use context::{Config, Stance, read_sources};
pub use crds::{Definitions, run as watch_definitions};
pub use decide::{render_input, served_names};
pub use doors::ask;
pub use notes::{ANSWERED, FAILED, Notes, REFUSED};
pub use run::{RunError, Surroundings, run};
pub use source::{
    resolve::{Answer, LookedUp, find, look_up},
    volume_claims::is_of_one_node,
};
pub use verdicts::artifacts::name as artifact_name;

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use kube::api::Resource as _;

use self::{
    context::Context,
    decide::Decision,
    observe::{Observed, refresh},
    plan::Owner,
    status::Picture,
    verdicts::artifacts::Artifact,
};
use crate::{
    api::{ModelDeployment, PolicyVerdict, Problem, Reason},
    runtime::http::Obstacle,
};

/// Looked at again after this time, also when no event says so.
const RESYNC: Duration = Duration::from_secs(600);
/// The same when something was seen that is known to change.
const HURRY: Duration = Duration::from_secs(2);
/// The same while an engine is asked for its first answer.
const ASKED: Duration = Duration::from_secs(1);

/// One reconcile: what is wanted is compared with what is there, and one step is made towards it. Says when to look again;
/// `None` when something is in the way that may go by itself.
async fn reconcile(context: &Context, deployment: &ModelDeployment) -> Result<Option<Duration>, kube::Error> {
    if deployment.meta().deletion_timestamp.is_some() {
        return Ok(Some(RESYNC)); // The garbage collector removes what we own.
    }
    let policies = context.policies.borrow().clone();
    let Some(policies) = policies else { return Ok(Some(Duration::from_secs(1))) };

    let observed = observe::observe(context, deployment, policies).await;
    let mut observed = told(context, deployment, observed).await?;
    context.sightings.look(&observed.owner.uid);
    let decision = decide::decide(context, deployment, &observed).await;
    let mut decision = told(context, deployment, decision).await?;
    let refused_now = note_refusals(context, deployment, &observed, &mut decision).await;
    let refused_now = told(context, deployment, refused_now).await?;
    // The status is written also after an error: it is what people see.
    let mut failed = None;
    let found = lookup::look(context, &observed, &decision).await;
    let mut step = shift::next(context, deployment, &observed, &decision, &found);
    // What takes something away is decided anew by what stands there, or waits until the watches have caught up.
    let mut up_to_date = true;
    if confirm::takes_away(context, &observed, &decision, &step) {
        let confirmed = confirm::look(context, deployment, &mut observed, &mut decision).await;
        up_to_date = confirmed.unwrap_or_else(|error| note(&mut failed, error));
        step = if up_to_date { shift::next(context, deployment, &observed, &decision, &found) } else { step.held_back(HURRY) };
    }
    // What the policies say is written down while the children are made: neither waits for the other.
    let verdicts = verdicts(&decision);
    let children = async {
        match up_to_date {
            true => shift::carry_out(context, deployment, &observed, &mut decision, &mut step).await,
            false => Ok(None),
        }
    };
    let (recorded, applied) = futures::join!(record(context, &observed.owner, verdicts), children);
    let applied = applied.unwrap_or_else(|error| note(&mut failed, error));
    recorded.unwrap_or_else(|error| note(&mut failed, error));
    // A pod is unrouted after it was marked, and never without: one that is not routed to and has no mark looks like a broken one.
    let step = if failed.is_some() { step.without_marks() } else { step };
    let (doors, error) = doors::gate::attend(context, &observed, &decision.revisions, &step).await;
    if let Some(error) = error {
        note(&mut failed, error)
    }
    shift::look(context, &observed, &decision);
    shift::note(context, deployment, &observed, &decision).await.unwrap_or_else(|error| note(&mut failed, error));
    keep_records(context, &observed.owner, &decision).await.unwrap_or_else(|error| note(&mut failed, error));

    let retry = decision.blocked.as_ref().and_then(|blocked| blocked.retry);
    let hurry = match (doors.stale || refused_now, doors.asked.is_empty(), doors.unanswered.is_empty()) {
        (_, false, _) => Some(ASKED),
        (true, ..) | (.., false) => Some(HURRY),
        _ => None,
    };
    let in_the_way = applied.is_some();
    let service = context.stores.services.named(&observed.owner.namespace, &observed.owner.name);
    let picture = Picture {
        deployment,
        reachable: service.is_some_and(|service| observed.owner.owns(&service.metadata)),
        owner: &observed.owner,
        decision: &decision,
        pods: &observed.pods,
        doors: &doors,
        step: &step,
        applied,
        failed: failed.as_ref().map(no_part),
        unprotected: context.unprotected.borrow().clone(),
        found: &found,
        now: context.clock.now(),
    };
    let held_back = write::status(context, &picture).await?;
    let shared = decision.shared.as_ref().map(|_| decide::NAME_TAKEN);
    let edge = decision.holds_for(context.clock.now());
    let again = [hurry, retry, step.again, found.again, held_back, shared, edge, Some(RESYNC)].into_iter().flatten().min();
    if let Some(error) = failed {
        return Err(error);
    }
    // What is to happen at its time does not wait for what is in the way.
    Ok(if in_the_way && step.again.is_none() { None } else { again })
}

/// Passes a step's result on; an error with which the reconcile cannot go on is told in the status first, as far as that is
/// possible.
async fn told<T>(context: &Context, deployment: &ModelDeployment, step: Result<T, kube::Error>) -> Result<T, kube::Error> {
    if let Err(error) = &step
        && let Err(untold) = write::trouble(context, &deployment.metadata, &no_part(error), false).await
    {
        tracing::debug!(%untold, "the status could not be written either");
    }
    step
}

/// What an API server said, without the wrapping.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn no_part(error: &kube::Error) -> Problem {
    Problem::new(Reason::ApiError, format!("The API server did not do its part, and is asked again: {}", said(error)))
}

/// Keeps the first error, with which the reconcile will end; the step that failed has done nothing.
fn note<T: Default>(failed: &mut Option<kube::Error>, error: kube::Error) -> T {
    failed.get_or_insert(error);
    T::default()
}

/// Writes down which revisions turned out not to be what was judged: whether there was a new one.
async fn note_refusals(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    decision: &mut Decision,
) -> Result<bool, kube::Error> {
    let generation = deployment.metadata.generation.unwrap_or_default();
    let mut new = false;
    for judged in &mut decision.revisions {
        let pods: Vec<_> = status::pods_of(&observed.pods, judged)
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(|pod| &**pod)
            .collect();
        let known = judged.seen.notes.refusal.as_ref();
        let Some(refusal) = fetched::refusal(&pods, known, generation, refresh(deployment)) else { continue };
        let note = serde_json::to_string(&refusal).map_err(kube::Error::SerdeError)?;
        notes::write(context, &observed.owner, &judged.seen.revision.name, &[(notes::REFUSED, Some(note))]).await?;
        judged.seen.notes.refusal = Some(refusal.clone());
        judged.seen.refusal = Some(refusal);
        new = true;
    }
    Ok(new)
}

/// The artifacts that were judged, with what the policies say of them today.
fn verdicts(decision: &Decision) -> Vec<(Arc<Artifact>, Vec<PolicyVerdict>)> {
    let verdicts = decision.revisions.iter().filter_map(|judged| Some((judged.artifact.as_ref()?, judged.verdict.as_ref()?)));
    // What is wished for is not always what was recorded last: an older revision may answer it.
    let named = |name: &str| decision.artifacts.iter().find(|artifact| artifact.name == name);
    let wanted = decision.model.as_ref().and_then(|model| named(&model.artifact)).zip(decision.verdict.as_ref());
    verdicts.chain(wanted).map(|(artifact, verdict)| (artifact.clone(), verdict.per_policy())).collect()
}

/// Writes down what the policies say.
async fn record(context: &Context, owner: &Owner, verdicts: Vec<(Arc<Artifact>, Vec<PolicyVerdict>)>) -> Result<(), kube::Error> {
    for (artifact, verdicts) in verdicts {
        verdicts::artifacts::record(context, &owner.namespace, &artifact, verdicts).await?;
    }
    Ok(())
}

/// Keeps the artifacts that are needed, and lets go of the others.
async fn keep_records(context: &Context, owner: &Owner, decision: &Decision) -> Result<(), kube::Error> {
    let needed: Vec<&str> = decision.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    verdicts::artifacts::keep(context, owner, &needed).await?;
    // While nothing is known, nothing is let go.
    if decision.blocked.as_ref().is_some_and(|blocked| blocked.stage == decide::Stage::Source) {
        return Ok(());
    }
    verdicts::artifacts::release(context, owner, &needed).await
}

/// Something is in the way of everything: the object is told so, and nothing is done for it.
async fn obstructed(context: &Context, metadata: &kube::api::ObjectMeta, obstacle: &Obstacle) -> Result<(), kube::Error> {
    let problem = Problem::new(Reason::CrdOutdated, obstacle.message.clone());
    let (uid, telling) = (metadata.uid.clone().unwrap_or_default(), (metadata.generation, problem.message.clone()));
    // A definition that lacks the very fields in which it is told would be told for ever.
    if context.told.lock().unwrap_or_else(PoisonError::into_inner).get(&uid) == Some(&telling) {
        return Ok(());
    }
    write::trouble(context, metadata, &problem, true).await?;
    context.told.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, telling);
    Ok(())
}

/// An object that this version of Bonafide cannot read: it is told so, and the others go on.
async fn unreadable(context: &Context, metadata: &kube::api::ObjectMeta, error: &str) -> Result<(), kube::Error> {
    let problem = Problem::new(
        Reason::InvalidSpec,
        format!("This version of Bonafide cannot read the object: {error}. Its replicas, if there are any, keep serving."),
    );
    write::trouble(context, metadata, &problem, true).await
}
