//! The controller of ModelDeployments: `observe → decide → plan → apply → attend → status`, each step its own module.
//!
//! Pure steps: [`plan`], [`revisions`], [`vouch`], [`progress`], [`status`], [`diff`]. The others ask the API server or the source.

mod apply;
mod artifacts;
pub mod ask;
mod backoff;
mod coldstart;
mod context;
mod crds;
mod decide;
mod diagnose;
mod diff;
mod fetched;
mod gate;
mod lookup;
mod needs;
mod observe;
pub mod plan;
mod policies;
mod progress;
mod protection;
mod resolve;
mod revisions;
mod run;
mod signatures;
mod slim;
mod status;
mod stores;
mod vouch;
mod write;

pub use artifacts::name as artifact_name;
pub use context::{Config, Stance, read_sources};
pub use crds::{Definitions, run as watch_definitions};
pub use decide::{render_input, served_names};
pub use run::{RunError, Surroundings, run};

use std::{sync::PoisonError, time::Duration};

use kube::api::Resource as _;

use self::{
    apply::ApplyError,
    context::Context,
    decide::Decision,
    observe::Observed,
    plan::{Live, Owner},
    revisions::{Fate, Seen},
    status::Picture,
};
use crate::{
    api::{ModelDeployment, Problem, Reason},
    runtime::http::Obstacle,
};

/// Looked at again after this time, also when no event says so.
const RESYNC: Duration = Duration::from_secs(600);

/// One reconcile: what is wanted is compared with what is there, and one step is made towards it. Says when to look again;
/// `None` when something is in the way that may go by itself.
async fn reconcile(context: &Context, deployment: &ModelDeployment) -> Result<Option<Duration>, kube::Error> {
    if deployment.meta().deletion_timestamp.is_some() {
        return Ok(Some(RESYNC)); // The garbage collector removes what we own.
    }
    let policies = context.policies.borrow().clone();
    let Some(policies) = policies else { return Ok(Some(Duration::from_secs(1))) };

    let observed = observe::observe(context, deployment, policies).await;
    let observed = told(context, deployment, observed).await?;
    let decision = decide::decide(context, deployment, &observed).await;
    let mut decision = told(context, deployment, decision).await?;
    let refused_now = note_refusals(context, deployment, &observed, &mut decision).await;
    let refused_now = told(context, deployment, refused_now).await?;
    // The status is written also after an error: it is what people see.
    let mut failed = None;
    let applied = bring_about(context, deployment, &observed, &decision).await.unwrap_or_else(|error| note(&mut failed, error));
    let doors = gate::attend(context, &observed, &decision.revisions).await;
    let doors = doors.unwrap_or_else(|error| note(&mut failed, error));
    keep_records(context, &observed.owner, &decision).await.unwrap_or_else(|error| note(&mut failed, error));

    let found = lookup::look(context, &observed, &decision).await;
    let retry = [decision.blocked.as_ref().and_then(|blocked| blocked.retry), found.again].into_iter().flatten().min();
    let hurry = doors.stale || refused_now;
    let in_the_way = applied.is_some();
    let picture = Picture {
        deployment,
        owner: &observed.owner,
        decision: &decision,
        pods: &observed.pods,
        doors: &doors,
        applied,
        failed: failed.as_ref().map(no_part),
        unprotected: context.unprotected.borrow().clone(),
        rollout: None,
        found: &found,
        now: context.clock.now(),
    };
    let held_back = write::status(context, &picture).await?;
    let retry = [retry, held_back].into_iter().flatten().min();
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(match in_the_way {
        true => None,
        false if hurry => Some(Duration::from_secs(2)),
        false => Some(retry.unwrap_or(RESYNC)),
    })
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
        let Some(refusal) = fetched::refusal(&pods, judged.seen.refusal.as_ref(), &judged.seen.refused_pods, generation) else {
            continue;
        };
        fetched::record(context, &observed.owner, &judged.seen.revision.name, &refusal).await?;
        judged.seen.refusal = Some(refusal);
        new = true;
    }
    Ok(new)
}

/// Applies what is planned. What is in the way of that is a state to report; only an API server that does not answer is an error.
async fn bring_about(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    decision: &Decision,
) -> Result<Option<Problem>, kube::Error> {
    let seen: Vec<Seen> = decision
        .revisions
        .iter()
        .map(|judged| {
            let pods = status::pods_of(&observed.pods, judged);
            Seen {
                name: judged.seen.revision.name.clone(),
                asked: judged.seen.asked,
                ready: i32::try_from(pods.iter().filter(|pod| progress::answers(pod)).count()).unwrap_or(i32::MAX),
                pods: i32::try_from(pods.len()).unwrap_or(i32::MAX),
                refused: judged.seen.refusal.is_some(),
            }
        })
        .collect();
    let fates = revisions::shift(&seen, decision.current.as_deref(), deployment.spec.replicas);
    let live: Vec<Live<'_>> = decision
        .revisions
        .iter()
        .zip(&fates)
        .filter_map(|(judged, fate)| match fate {
            // Without its record a revision's ConfigMap cannot be written; it stays as it is until the record is back.
            Fate::Keep(replicas) => Some(Live {
                revision: &judged.seen.revision,
                manifest: judged.artifact.as_ref().map(|artifact| &artifact.manifest),
                replicas: *replicas,
            }),
            Fate::Remove => None,
        })
        .collect();
    if live.is_empty() && decision.revisions.is_empty() {
        return Ok(None);
    }
    let children = plan::children(&observed.owner, &live, &context.sources);
    match apply::apply(context, &observed.owner, &children).await {
        Ok(()) => Ok(None),
        Err(ApplyError::Taken(problem)) => Ok(Some(problem)),
        Err(ApplyError::Api { source, kind, name, .. }) if matches!(&*source, kube::Error::Api(status) if matches!(status.code, 403 | 422)) =>
        {
            let reason = if source.to_string().contains("quota") { Reason::QuotaExceeded } else { Reason::ApiError };
            Ok(Some(Problem::new(reason, format!("The API server refuses {kind} {name}: {}", said(&source)))))
        }
        Err(ApplyError::Api { source, .. }) => Err(*source),
        Err(contested @ ApplyError::Contested { .. }) => Ok(Some(Problem::new(
            Reason::ApiError,
            format!("{contested}. Something in the cluster changes it; find out what with kubectl get --show-managed-fields."),
        ))),
    }
}

/// Keeps the artifacts that are needed, with today's verdicts, and lets go of the others.
async fn keep_records(context: &Context, owner: &Owner, decision: &Decision) -> Result<(), kube::Error> {
    let verdicts = decision.revisions.iter().filter_map(|judged| Some((judged.artifact.as_ref()?, judged.verdict.as_ref()?)));
    let wanted = decision.artifacts.last().zip(decision.verdict.as_ref());
    for (artifact, verdict) in verdicts.chain(wanted) {
        artifacts::record(context, &owner.namespace, artifact, verdict.per_policy()).await?;
    }
    let needed: Vec<&str> = decision.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    artifacts::keep(context, owner, &needed).await?;
    // While nothing is known, nothing is let go.
    if decision.blocked.as_ref().is_some_and(|blocked| blocked.stage == decide::Stage::Source) {
        return Ok(());
    }
    artifacts::release(context, owner, &needed).await
}

/// Something is in the way of everything: the object is told so, and nothing is done for it.
async fn obstructed(context: &Context, metadata: &kube::api::ObjectMeta, obstacle: &Obstacle) -> Result<(), kube::Error> {
    let problem = Problem::new(Reason::CrdOutdated, obstacle.message.clone());
    let (uid, telling) = (metadata.uid.clone().unwrap_or_default(), (metadata.generation, problem.message.clone()));
    // A definition that lacks the very fields in which it is told would be told for ever.
    if context.told.lock().unwrap_or_else(PoisonError::into_inner).get(&uid) == Some(&telling) {
        return Ok(());
    }
    write::trouble_as_far_as_possible(context, metadata, &problem).await?;
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
