//! From what is seen to the next step of a rollout, and the step done: pods are marked, children brought to what the plan says.

use std::sync::Arc;

use super::{
    HURRY, claims,
    context::Context,
    decide::{Decision, Judged},
    diagnose::{Found, far},
    doors::{drain, gate},
    notes::{self, Failure},
    objects::{
        apply::{self, ApplyError},
        slim::SlimPod,
    },
    observe::{Observed, refresh},
    plan::{self, ChildKind, Live},
    progress, recalled,
    rollout::{self, Fate, Looks, Seen, Standing, Step, Wish},
    said, status,
    verdicts::artifacts::Artifact,
    write,
};
use crate::{
    api::{Management, ModelDeployment, OnRecall, Problem, Reason, VOUCHED},
    model::{Checks, Source},
    trust::Verdict,
};

/// So many revisions are kept that nothing runs of any more: `bonafide rollout undo` goes back to them.
const HISTORY: usize = 10;

/// The next step; while the ModelDeployment is paused there is none, and who was to go is taken back.
pub fn next(context: &Context, deployment: &ModelDeployment, observed: &Observed, decision: &Decision, found: &Found) -> Step {
    let now = context.sightings.now(&context.clock);
    let seen: Vec<Seen> = decision.revisions.iter().map(|judged| seen(context, deployment, observed, judged, found)).collect();
    let wish =
        Wish { replicas: deployment.spec.replicas, current: decision.current.as_deref(), rollout: &deployment.spec.rollout };
    match deployment.spec.management {
        Management::Paused => rollout::hold(&seen, &wish, now),
        Management::Managed => rollout::step(&seen, &wish, now),
    }
}

/// Whether a revision may take the place of one that is recalled: it serves what the wish's source has, and nobody else has its names
/// since.
fn stands_in(context: &Context, deployment: &ModelDeployment, observed: &Observed, judged: &Judged) -> bool {
    let source = Source::in_namespace(&deployment.spec.model.source, &observed.owner.namespace);
    source.is_ok_and(|source| source.to_string() == judged.seen.revision.source)
        && (judged.seen.asked > Some(0) || claims::lost(context, deployment, &observed.owner).is_none())
}

fn seen(context: &Context, deployment: &ModelDeployment, observed: &Observed, judged: &Judged, found: &Found) -> Seen {
    let (now, owner) = (context.clock.now(), &observed.owner.uid);
    let pods = status::pods_of(&observed.pods, judged);
    let revision = &judged.seen.revision;
    let waiting = pods.iter().copied().filter(|pod| !progress::answers(pod));
    let progress = progress::foremost(far(judged, waiting, found, now).map(|(_, progress)| progress).collect());
    // Where no node could ever take it, none can because another pod has gone; and where one is on its way, none has to go.
    let in_vain = [Reason::NoNodeFits, Reason::WaitingForNode];
    let in_vain = progress.as_ref().is_some_and(|progress| in_vain.contains(&progress.reason));
    let since = |uid: &str, what, stamp| context.sightings.since(&context.clock, owner, uid, what, stamp);
    let pod = |pod: &Arc<SlimPod>| {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut seen = rollout::of_pod(pod, Looks { idle: context.drains.is_idle(uid) })?;
        seen.answers_since = seen.answers_since.map(|stamp| since(uid, "answers", stamp));
        seen.silent_since = seen.silent_since.map(|stamp| since(uid, "does not answer any more", stamp));
        seen.created = seen.created.map(|stamp| since(uid, "made", stamp));
        seen.no_room_since = seen.no_room_since.filter(|_| !in_vain).map(|stamp| since(uid, "finds no room", stamp));
        // As long as it is routed to, its time to finish has not begun.
        seen.draining_since = seen.draining_since.map(|stamp| match pod.condition(VOUCHED) {
            Some(vouched) if vouched.status == "True" => context.sightings.now(&context.clock),
            vouched => {
                since(uid, "drains", Some(stamp).max(vouched.and_then(|vouched| vouched.last_transition_time)).unwrap_or(stamp))
            }
        });
        Some(seen)
    };
    let placed = pods.iter().filter(|pod| pod.spec.node_name.is_some()).count();
    let (counted_since, gave_room) = context.sightings.counted(&context.clock, owner, &revision.name, "pods on nodes", placed);
    let asked = usize::try_from(judged.seen.asked.unwrap_or(0)).unwrap_or(0);
    let (asked_since, _) = context.sightings.counted(&context.clock, owner, &revision.name, "asked for", asked);
    let refused = judged.is_refused();
    let (refused_since, _) = context.sightings.counted(&context.clock, owner, &revision.name, "refused", usize::from(refused));
    let deadline = deployment.spec.rollout.deadline.as_ref().map(|deadline| deadline.length());
    Seen {
        name: revision.name.clone(),
        number: revision.number,
        asked: judged.seen.asked,
        asked_since: Some(asked_since),
        since: judged.seen.since.map(|stamp| since(&revision.name, "has a Deployment", stamp)),
        pods: pods.iter().copied().filter_map(pod).collect(),
        leaving: pods.iter().filter(|pod| rollout::is_leaving(pod, now)).count(),
        counted_since: Some(counted_since),
        gave_room,
        standing: match (&judged.seen.refusal, &judged.seen.failed) {
            (Some(_), _) => Standing::Refused,
            (None, Some(_)) => Standing::Failed,
            (None, None) => Standing::Good,
        },
        may_serve: judged.may_serve(),
        refused_since: refused.then_some(refused_since),
        asked_for: judged.seen.asked_for,
        drained_by: judged
            .recall()
            .filter(|recall| recall.on == OnRecall::Drain)
            .map(|recall| recall.by.clone())
            .unwrap_or_default(),
        stands_in: judged.may_serve() && stands_in(context, deployment, observed, judged),
        answered: judged.seen.notes.answered,
        whole: judged.seen.notes.whole,
        tried: judged.seen.notes.tried,
        deadline: deadline.unwrap_or_else(|| rollout::deadline(bytes(judged.artifact.as_deref()), &revision.template)),
        trouble: progress.map(|progress| progress.message).or_else(|| judged.seen.failure.clone()),
    }
}

fn bytes(artifact: Option<&Artifact>) -> u64 {
    artifact.map_or(0, |artifact| artifact.manifest.size())
}

/// Does the step. What is in the way of that is a state to report; only an API server that does not answer is an error.
pub async fn carry_out(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    decision: &mut Decision,
    step: &mut Step,
) -> Result<Option<Problem>, kube::Error> {
    let owner = &observed.owner;
    tell_recall(context, deployment, observed, decision, step).await;
    mark(context, observed, step).await?;
    if deployment.spec.management == Management::Paused {
        return lower_recalled(context, observed, decision, step).await;
    }
    give_up(context, deployment, observed, decision, step).await?;
    if let Some(name) = &step.tried {
        notes::write(context, &observed.owner, name, &[(notes::TRIED, Some("true".to_owned()))]).await?;
    }
    let history = history(decision, step);
    let mut live: Vec<Live<'_>> = Vec::new();
    for (judged, fate) in decision.revisions.iter().zip(&step.fates) {
        let replicas = match fate {
            Fate::Keep(replicas) => Some(*replicas),
            Fate::Rest if history.contains(&judged.seen.revision.name.as_str()) => None,
            Fate::Rest => continue,
        };
        live.push(Live {
            revision: &judged.seen.revision,
            // Without its record a revision's ConfigMap cannot be written; it stays as it is until the record is back.
            manifest: judged.artifact.as_ref().map(|artifact| &artifact.manifest),
            checks: judged.checks().unwrap_or_default(),
            replicas,
            version: judged.seen.version.as_deref(),
            notes: &judged.seen.notes.kept,
        });
    }
    if live.is_empty() && decision.revisions.is_empty() {
        return Ok(None);
    }
    let children = plan::children(owner, &live, &context.sources);
    let applied = apply::apply(context, owner, &children).await;
    if applied.is_ok() {
        announce(context, deployment, decision).await;
    }
    in_the_way(applied, step)
}

/// While changes wait, nothing is written but this: what the policies recall has fewer replicas.
async fn lower_recalled(
    context: &Context,
    observed: &Observed,
    decision: &Decision,
    step: &mut Step,
) -> Result<Option<Problem>, kube::Error> {
    for (judged, fate) in decision.revisions.iter().zip(step.fates.clone()) {
        let Fate::Keep(replicas) = fate else { continue };
        if !judged.is_recalled(OnRecall::Drain) || judged.seen.asked.is_none_or(|asked| asked <= replicas) {
            continue;
        }
        let live = Live {
            revision: &judged.seen.revision,
            manifest: None,
            checks: Checks::default(),
            replicas: Some(replicas),
            version: judged.seen.version.as_deref(),
            notes: &judged.seen.notes.kept,
        };
        let Some(child) = plan::one(&observed.owner, ChildKind::Deployment, Some(&live), &context.sources) else { continue };
        if let Some(problem) = in_the_way(apply::ensure(context, &observed.owner, &child).await, step)? {
            return Ok(Some(problem));
        }
    }
    Ok(None)
}

/// What is in the way of the children; an error when the API server does not answer.
fn in_the_way(applied: Result<(), ApplyError>, step: &mut Step) -> Result<Option<Problem>, kube::Error> {
    match applied {
        Ok(()) => Ok(None),
        Err(ApplyError::Taken(problem)) => Ok(Some(problem)),
        Err(ApplyError::Moved { kind, name }) => {
            tracing::debug!(kind, name, "it has changed meanwhile; it is looked at again");
            step.look_again(HURRY);
            Ok(None)
        }
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

/// Tells in an Event what the policies take out of service, before it is done.
async fn tell_recall(context: &Context, deployment: &ModelDeployment, observed: &Observed, decision: &Decision, step: &Step) {
    for judged in decision.revisions.iter().filter(|judged| judged.is_recalled(OnRecall::Drain)) {
        let pods = status::pods_of(&observed.pods, judged);
        let new = pods.iter().filter(|pod| pod.draining_since().is_none() && step.recalled.iter().any(|name| name == pod.name()));
        let (new, revision) = (new.count(), &judged.seen.revision.name);
        if let Some(recall) = judged.recall().filter(|_| new > 0) {
            let why = judged.verdict.as_ref().map(Verdict::message).unwrap_or_default();
            let message = format!("Revision {revision}: {} {why}", recalled::drained(new, recall));
            write::warning(context, deployment, Reason::Draining, &message).await;
        }
    }
}

/// Marks who is to go and takes the marks off who is wanted again, and looks at the engines of those who go.
async fn mark(context: &Context, observed: &Observed, step: &mut Step) -> Result<(), kube::Error> {
    let mut is_today = None;
    for pod in &observed.pods {
        if step.drain.iter().any(|name| name == pod.name()) {
            // Since when it is to go is said once.
            if pod.draining_since().is_some() {
                continue;
            }
            drain::mark(context, &observed.owner, pod).await?;
        } else if step.take_back.iter().any(|name| name == pod.name()) {
            // What a policy took out of service comes back by the policies of today alone.
            if pod.is_recalled() {
                let today = match is_today {
                    Some(known) => known,
                    None => policies_are_of_today(context, observed).await?,
                };
                is_today = Some(today);
                if !today {
                    step.look_again(HURRY);
                    continue;
                }
            }
            drain::unmark(context, &observed.owner, pod).await?;
        }
    }
    Ok(())
}

async fn policies_are_of_today(context: &Context, observed: &Observed) -> Result<bool, kube::Error> {
    let Observed { owner, namespace_labels, policies, .. } = observed;
    gate::is_today(&context.client, &owner.namespace, namespace_labels, &policies.versions).await
}

/// Notes that a revision is given up, before anything is done about it.
async fn give_up(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    decision: &mut Decision,
    step: &Step,
) -> Result<(), kube::Error> {
    let Some((name, cause)) = &step.given_up else { return Ok(()) };
    let failure = Failure { message: cause.clone(), refresh: refresh(deployment).map(str::to_owned), forgiven: false };
    let note = serde_json::to_string(&failure).map_err(kube::Error::SerdeError)?;
    notes::write(context, &observed.owner, name, &[(notes::FAILED, Some(note))]).await?;
    for judged in decision.revisions.iter_mut().filter(|judged| judged.seen.revision.name == *name) {
        judged.seen.failed = Some(failure.clone());
    }
    Ok(())
}

/// The revisions that are kept as history: the newest of those that nothing runs of.
fn history<'a>(decision: &'a Decision, step: &Step) -> Vec<&'a str> {
    let rests = decision.revisions.iter().zip(&step.fates).filter(|(_, fate)| **fate == Fate::Rest);
    rests.rev().take(HISTORY).map(|(judged, _)| judged.seen.revision.name.as_str()).collect()
}

/// Tells in an Event that a revision takes the place of another, and why: when its children were made.
async fn announce(context: &Context, deployment: &ModelDeployment, decision: &Decision) {
    let current = |judged: &&Judged| Some(&judged.seen.revision.name) == decision.current.as_ref();
    let Some(new) = decision.revisions.iter().find(current).filter(|judged| judged.seen.asked.is_none()) else { return };
    let old = decision.revisions.iter().filter(|judged| !current(judged) && judged.seen.asked > Some(0));
    let old: Vec<&str> = old.map(|judged| judged.seen.revision.name.as_str()).collect();
    if old.is_empty() {
        return;
    }
    let newest = decision.revisions.iter().all(|judged| judged.seen.revision.number <= new.seen.revision.number);
    let why = match new.seen.notes.kept.get(crate::api::ANNOTATION_REASON).filter(|_| newest) {
        Some(reason) => reason.clone(),
        None => format!("what is asked for is again what it was in revision {}", new.seen.revision.number),
    };
    let message = format!("Revision {} takes the place of {}: {why}", new.seen.revision.name, old.join(" and "));
    write::event(context, deployment, Reason::RollingOut, &message).await;
}

/// Writes down what has to be noted of revisions: which fresh look was answered, what is tried again, what came up after all.
pub async fn note(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    decision: &Decision,
) -> Result<(), kube::Error> {
    if deployment.spec.management == Management::Paused {
        return Ok(());
    }
    let asked: i32 = decision.revisions.iter().filter_map(|judged| judged.seen.asked).sum();
    for judged in &decision.revisions {
        let is_current = Some(&judged.seen.revision.name) == decision.current.as_ref();
        let answering = status::pods_of(&observed.pods, judged).iter().filter(|pod| progress::answers(pod)).count();
        let whole = answering > 0 && i32::try_from(answering).is_ok_and(|answering| answering >= deployment.spec.replicas);
        let counts = judged.seen.refusal.is_some() || judged.seen.failed.is_some();
        let mut anew = judged.seen.notes.settled(judged.seen.asked_for, is_current && whole && !counts);
        let alone = i32::try_from(answering).is_ok_and(|answering| answering >= asked);
        if !is_current && answering > 0 && (!judged.seen.notes.answered || (alone && !judged.seen.notes.whole)) {
            anew.push((notes::ANSWERED, Some(if alone { notes::WHOLE } else { "true" }.to_owned())));
        }
        let refresh = refresh(deployment);
        let refreshed = is_current && decision.looked && refresh.is_some();
        // One that is made now has it from the start.
        if refreshed && judged.seen.asked_for && judged.seen.notes.refresh.as_deref() != refresh {
            anew.push((crate::api::ANNOTATION_REFRESH, refresh.map(str::to_owned)));
        }
        if !anew.is_empty() {
            notes::write(context, &observed.owner, &judged.seen.revision.name, &anew).await?;
        }
    }
    Ok(())
}

/// Looks at the engines of the pods that drain, in the background.
pub fn look(context: &Context, observed: &Observed, decision: &Decision) {
    for pod in observed.pods.iter().filter(|pod| pod.draining_since().is_some() && !pod.is_over()) {
        let Some(judged) = decision.revisions.iter().find(|judged| status::belongs(pod, judged)) else { continue };
        let revision = &judged.seen.revision;
        // A revision of the release before has no note: today's definition of its engine is the best guess, and a wrong one
        // only waits too long.
        let guess = || observed.catalogue.get(&revision.engine).map(|engine| plan::asking(engine, &[])).unwrap_or_default();
        let asking = judged.seen.notes.asking.clone().unwrap_or_else(guess);
        context.drains.look(&context.ask, pod, revision.port, &asking);
    }
}
