//! Which revisions there are to be, and what the policies say of each today.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    claims,
    context::Context,
    notes::{Notes, Refusal},
    observe::{Observed, ObservedRevision, refresh},
    plan::{self, Revision, RevisionInput},
    source::{
        look_again, measure,
        resolve::{self, Question, Unanswered},
        volume_claims,
    },
    verdicts::{
        artifacts::{self, Artifact},
        judgements, signatures,
    },
};
use crate::{
    api::{
        ANNOTATION_SPEC, AcceleratorClass, Assurance, ModelDeployment, OnRecall, Problem, Reason, ResolvedModel, RevisionStatus,
    },
    engine::{self, RenderInput},
    model::{Checks, Digest, Source},
    trust::{Applicable, Candidate, Recall, Verdict},
    weights::Library,
};

/// The source is asked again after this time while the model may not be served: perhaps it was signed meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(120);
/// A name that belongs to another ModelDeployment is looked at again after this time.
pub const NAME_TAKEN: Duration = Duration::from_secs(10);

/// A revision and what the policies say of it today.
pub struct Judged {
    /// The revision, as it exists or as it is to be.
    pub seen: ObservedRevision,
    /// Its artifact; `None` when the record is gone, and then nothing new of it is let in.
    pub artifact: Option<Arc<Artifact>>,
    /// What the policies say.
    pub verdict: Option<Verdict>,
}

impl Judged {
    /// Whether new pods of it may run.
    pub fn may_serve(&self) -> bool {
        self.verdict.as_ref().is_some_and(Verdict::may_serve)
    }

    /// What its pods have to look at beside digests; `None` when they fetch with a version that cannot.
    pub fn checks(&self) -> Option<Checks> {
        let (Some(verdict), Some(artifact)) = (&self.verdict, &self.artifact) else { return Some(Checks::default()) };
        let checks = verdict.checks().within(&artifact.manifest).for_those_who_know(&self.seen.revision.checks);
        checks.are_known_to(&self.seen.revision.checks).then_some(checks)
    }

    /// Forgets that a replica found something of which policies wanted to know then, and want no more.
    fn forgive(mut self) -> Self {
        let wanted = self.checks().unwrap_or_default();
        let counts = |refusal: &Refusal| match refusal.reason() {
            Reason::FormatMismatch => wanted.formats,
            Reason::RemoteCodeDenied => wanted.remote_code.is_some(),
            _ => true,
        };
        self.seen.refusal = self.seen.refusal.filter(counts);
        self
    }

    /// Whether the policies say that none may: that nothing is known yet is not that.
    pub fn is_refused(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| !verdict.may_serve())
    }

    /// What the policies that refuse it say of its replicas that run.
    pub fn recall(&self) -> Option<&Recall> {
        self.verdict.as_ref().and_then(Verdict::recall)
    }

    /// The same, if it is that.
    pub fn is_recalled(&self, on: OnRecall) -> bool {
        self.recall().is_some_and(|recall| recall.on == on)
    }
}

/// Which condition reports why there is nothing to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The wish itself.
    Spec,
    /// The source.
    Source,
    /// Trust.
    Trust,
}

/// Why the wish is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Where it went wrong.
    pub stage: Stage,
    /// What went wrong.
    pub problem: Problem,
    /// When it is tried again by itself; `None`: when something changes.
    pub retry: Option<Duration>,
}

impl Blocked {
    /// Whether it may go by while nobody changes what is at the source or what is asked for: the source is silent, or the cluster
    /// does not have yet what is needed to ask it.
    ///
    /// Everything else stays until a person mends it, although it is looked at again.
    pub fn waits(&self) -> bool {
        self.stage == Stage::Source && look_again::passes(self.problem.reason)
    }
}

/// The decision.
pub struct Decision {
    /// Every revision, the current one among them.
    pub revisions: Vec<Judged>,
    /// The name of the revision that answers today's wish and may be served.
    pub current: Option<String>,
    /// Whether the source was looked at for it.
    pub looked: bool,
    /// Why there is none.
    pub blocked: Option<Blocked>,
    /// What the wish was resolved to, as far as it was.
    pub model: Option<ResolvedModel>,
    /// What the policies say of it.
    pub verdict: Option<Verdict>,
    /// Artifacts that are needed.
    pub artifacts: Vec<Arc<Artifact>>,
    /// The engine that was chosen.
    pub engine: Option<String>,
    /// What is not as it should be although the wish is answered: another one answers to the same name.
    pub shared: Option<Problem>,
}

impl Decision {
    /// How long every verdict in it holds if nothing but time passes, at least a second; `None`: for good.
    pub fn holds_for(&self, now: Timestamp) -> Option<Duration> {
        let verdicts = self.revisions.iter().filter_map(|judged| judged.verdict.as_ref()).chain(&self.verdict);
        let until = verdicts.filter_map(Verdict::holds_until).min()?;
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1)))
    }
}

/// Decides. An error means that the API server could not be asked.
pub async fn decide(context: &Context, deployment: &ModelDeployment, observed: &Observed) -> Result<Decision, kube::Error> {
    let applicable = observed.policies.set.for_namespace(&observed.namespace_labels);
    let pin = deployment.spec.model.digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
    measure::tidy(context, deployment, &observed.owner).await;
    let mut revisions = Vec::new();
    for seen in &observed.revisions {
        let artifact = artifacts::get(context, &observed.owner.namespace, &seen.revision.artifact).await?;
        // The record must be of what the pods serve: its digest stands in their arguments.
        let artifact = artifact.filter(|artifact| artifact.manifest.digest() == seen.revision.digest);
        let pin = pin.filter(|_| seen.asked_for);
        let assurance = plan::assurance(&seen.revision.template);
        let verdict = match &artifact {
            Some(artifact) => {
                let image = Some(seen.revision.image.as_str());
                judge(context, &applicable, observed, artifact, pin, assurance, image).await?
            }
            None => None,
        };
        revisions.push(Judged { seen: seen.clone(), artifact, verdict }.forgive());
    }
    let mut decision = Decision {
        artifacts: revisions.iter().filter_map(|judged| judged.artifact.clone()).collect(),
        // Whatever is in the way of asking again changes nothing about what was found.
        model: known_model(deployment, &revisions),
        revisions,
        current: None,
        looked: false,
        blocked: None,
        verdict: None,
        engine: None,
        shared: None,
    };
    let answer = answer(deployment, &decision.revisions).map(|judged| judged.seen.revision.name.clone());
    if answer.is_none() || is_refreshing(deployment, &decision.revisions) {
        match renew(context, deployment, observed, &applicable, pin, &mut decision).await? {
            Ok(()) => decision.looked = true,
            Err(blocked) => decision.blocked = Some(blocked),
        }
        if decision.current.is_some() || answer.is_none() {
            return Ok(decision);
        }
    }
    if let Some(judged) = decision.revisions.iter().find(|judged| Some(&judged.seen.revision.name) == answer.as_ref()) {
        if is_gone_back_to(deployment, judged)
            && let Some(problem) = claims::lost(context, deployment, &observed.owner)
        {
            decision.blocked = Some(Blocked { stage: Stage::Spec, problem, retry: Some(NAME_TAKEN) });
            return Ok(decision);
        }
        decision.model = judged.artifact.as_ref().map(|artifact| resolved_model(deployment, artifact));
        decision.verdict = judged.verdict.clone();
        decision.engine = Some(judged.seen.revision.engine.clone());
        decision.current = answer;
        decision.shared = claims::shared(context, deployment, &observed.owner);
    }
    Ok(decision)
}

/// The revision that answers the wish: of several, the one that a fresh look found; then the one that was it before; then the
/// newest.
fn answer<'a>(deployment: &ModelDeployment, revisions: &'a [Judged]) -> Option<&'a Judged> {
    let refresh = refresh(deployment);
    let before = deployment.status.as_ref().and_then(|status| status.model.as_ref()).map(|model| model.artifact.as_str());
    let preference = |judged: &&Judged| {
        let fresh = refresh.is_some() && judged.seen.notes.refresh.as_deref() == refresh;
        (fresh, Some(judged.seen.revision.artifact.as_str()) == before, judged.seen.revision.number)
    };
    revisions.iter().filter(|judged| judged.seen.asked_for && judged.may_serve()).max_by_key(preference)
}

/// Whether nothing runs of that revision, and it is not the one that was wanted last.
fn is_gone_back_to(deployment: &ModelDeployment, judged: &Judged) -> bool {
    let name = &judged.seen.revision.name;
    let is_last = |revision: &RevisionStatus| revision.phase == "Current" && revision.name == *name;
    let was_last = deployment.status.as_ref().is_some_and(|status| status.revisions.iter().any(is_last));
    judged.seen.asked.unwrap_or(0) == 0 && !was_last && deployment.spec.replicas > 0
}

/// Whether a fresh look at the source is wished for that no revision answers yet; one whose record is gone does not.
fn is_refreshing(deployment: &ModelDeployment, revisions: &[Judged]) -> bool {
    refresh(deployment).is_some_and(|wanted| {
        let answers = |judged: &Judged| judged.seen.notes.refresh.as_deref() == Some(wanted) && judged.artifact.is_some();
        !revisions.iter().any(answers)
    })
}

/// What the policies say of an artifact today, by the signatures that were found beside the model and those that were delivered in
/// the namespace.
async fn judge(
    context: &Context,
    applicable: &Applicable<'_>,
    observed: &Observed,
    artifact: &Arc<Artifact>,
    pin: Option<Digest>,
    assurance: Assurance,
    image: Option<&str>,
) -> Result<Option<Verdict>, kube::Error> {
    let namespace = &observed.owner.namespace;
    let Ok(source) = artifact.spec.source.parse::<Source>() else { return Ok(None) };
    let beside = artifact.spec.bundles.iter().map(|bundle| (bundle.from.clone(), bundle.content.clone()));
    let delivered = signatures::about(context, namespace, artifact.manifest.digest()).await?;
    let now = context.clock.now();
    let question = judgements::Question {
        namespace,
        policies: &observed.policies,
        labels: &observed.namespace_labels,
        artifact,
        delivered: &delivered,
        pin,
        assurance,
        image,
        now,
    };
    Ok(context.judgements.reach(&question, || {
        let bundles: Vec<_> = beside.chain(delivered.iter().map(|bundle| (**bundle).clone())).collect();
        let candidate = Candidate {
            source: &source,
            revision: &artifact.spec.revision,
            manifest: &artifact.manifest,
            bundles: &bundles,
            pin,
            assurance,
            image,
        };
        Some(applicable.judge(&candidate, now))
    }))
}

/// There is no revision that answers the wish: one is made, if everything allows it.
async fn renew(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    applicable: &Applicable<'_>,
    pin: Option<Digest>,
    decision: &mut Decision,
) -> Result<Result<(), Blocked>, kube::Error> {
    let spec = &deployment.spec;
    let blocked = |stage, problem, retry| Ok(Err(Blocked { stage, problem, retry }));
    let source = match Source::in_namespace(&spec.model.source, &observed.owner.namespace) {
        Ok(source) => source,
        Err(error) => {
            return blocked(Stage::Spec, Problem::new(Reason::InvalidSpec, format!("spec.model.source: {error}")), None);
        }
    };
    let names = served_names(deployment, &source);
    // What is wrong whatever the source has is said first, as `bonafide lint` says it.
    if let Some(name) = &spec.engine.name {
        let engine = observed.catalogue.get(name);
        let refused = engine.map(|engine| engine::refuses(engine, &render_input(deployment, &names)));
        if let Some(problem) = refused.unwrap_or_else(Some) {
            return blocked(Stage::Spec, problem, None);
        }
    }
    let assurance = plan::assurance_of(&deployment.spec.model);
    if let Err(problem) = applicable.before_resolve(&source, assurance) {
        return blocked(Stage::Trust, problem, None);
    }
    let reach = match volume_claims::look(context, deployment, &source).await? {
        Ok(reach) => reach,
        Err(problem) => return blocked(Stage::Source, problem, Some(look_again::FIRST)),
    };
    let credentials = match &observed.credentials {
        Ok(credentials) => credentials.as_ref(),
        Err(problem) => return blocked(Stage::Source, problem.clone(), Some(look_again::FIRST)),
    };
    if let Some(problem) = claims::taken(context, deployment, &observed.owner) {
        return blocked(Stage::Spec, problem, Some(NAME_TAKEN));
    }
    let status = deployment.status.as_ref();
    let refreshing = is_refreshing(deployment, &decision.revisions);
    // What was listed before a fresh look was wished for is no answer to it.
    let asker = format!("{} {}", observed.owner.uid, refresh(deployment).unwrap_or_default());
    let question = Question {
        asker: &asker,
        spec,
        source: &source,
        // What lies in a claim is measured anew for every new revision.
        revision: pinned_commit(deployment).filter(|_| !refreshing && !source.is_in_place()).or(spec.model.revision.as_deref()),
        credentials,
        kept_engine: status.and_then(|status| status.engine.as_ref()).map(|engine| engine.name.as_str()),
        restrict_to_signed: applicable.restricts_to_signed(&source),
    };
    let claims = measure::Claims { context, deployment, owner: &observed.owner };
    let library: &dyn Library = if source.is_in_place() { &claims } else { &*context.library };
    let answer = match resolve::resolve(library, &context.trees, &observed.catalogue, &question).await {
        Ok(answer) => answer,
        Err(Unanswered::Source(error)) => {
            recall(context, deployment, observed, applicable, pin, decision).await?;
            let lasts = look_again::lasts(deployment, context.clock.now());
            let after = look_again::after(&error, lasts);
            return blocked(Stage::Source, error.problem, Some(after));
        }
        Err(Unanswered::Spec(problem)) => return blocked(Stage::Spec, problem, Some(LOOK_AGAIN)),
        Err(Unanswered::Trust(problem)) => return blocked(Stage::Trust, problem, Some(LOOK_AGAIN)),
    };
    decision.engine = Some(answer.engine.name().to_owned());
    let rendered = match engine::render(&answer.engine, &answer.selection, &render_input(deployment, &names)) {
        Ok(rendered) => rendered,
        Err(problem) => return blocked(Stage::Spec, problem, None),
    };
    if source.is_in_place() && answer.artifact.files.len() > plan::MAX_IN_PLACE {
        let problem = plan::too_many_in_place(&source, answer.artifact.files.len());
        return blocked(Stage::Spec, problem, Some(LOOK_AGAIN));
    }
    let artifact = match artifacts::ensure(context, &observed.owner, answer.artifact).await {
        Ok(artifact) => artifact,
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 413 | 422) || status.message.contains("too large") => {
            let message = format!(
                "The model's files and signatures are too many to be recorded: {}. Serve fewer files with spec.model.files.",
                status.message
            );
            return blocked(Stage::Spec, Problem::new(Reason::TooManyFiles, message), Some(LOOK_AGAIN));
        }
        Err(error) => return Err(error),
    };
    let Some(artifact) = artifact else {
        return blocked(
            Stage::Source,
            Problem::new(Reason::Pending, "The record of the resolved model is being written."),
            Some(Duration::from_secs(1)),
        );
    };
    decision.artifacts.push(artifact.clone());
    decision.model = Some(resolved_model(deployment, &artifact));
    let Some(verdict) = judge(context, applicable, observed, &artifact, pin, assurance, Some(&rendered.image)).await? else {
        return blocked(
            Stage::Spec,
            Problem::new(Reason::InternalError, "The record of the resolved model could not be read back."),
            Some(LOOK_AGAIN),
        );
    };
    decision.verdict = Some(verdict.clone());
    if let Some(problem) = verdict.problem().filter(|_| !verdict.may_serve()) {
        return blocked(Stage::Trust, problem.clone(), Some(LOOK_AGAIN));
    }
    let number = decision.revisions.iter().map(|judged| judged.seen.revision.number).max().unwrap_or(0) + 1;
    let revision = plan::revision(&RevisionInput {
        number,
        deployment: &observed.owner.name,
        spec,
        artifact_name: &artifact.name,
        artifact: &artifact.spec,
        digest: artifact.manifest.digest(),
        bytes: artifact.manifest.size(),
        engine: answer.engine.name(),
        rendered: &rendered,
        fetch_image: &context.config.image,
        pull_policy: &context.config.image_pull_policy,
        one_node: reach.one_node,
    });
    decision.current = Some(revision.name.clone());
    if !decision.revisions.iter().any(|judged| judged.seen.revision.name == revision.name) {
        let (made_of, asking) = (plan::spec_of(spec), plan::asking(&answer.engine, &names));
        let reason = why(&decision.revisions, &made_of, &revision);
        let notes = Notes::new(&made_of, &reason, asking, refresh(deployment));
        decision.revisions.push(new_revision(revision, artifact, verdict, notes));
    }
    Ok(Ok(()))
}

/// What makes the revision necessary, after the one that is there.
fn why(revisions: &[Judged], made_of: &serde_json::Value, new: &Revision) -> String {
    let before = revisions.iter().max_by_key(|judged| (judged.seen.asked > Some(0), judged.seen.revision.number));
    let spec = before.and_then(|judged| serde_json::from_str(judged.seen.notes.kept.get(ANNOTATION_SPEC)?).ok());
    let before = before.map(|judged| &judged.seen.revision).map(|revision| plan::Before {
        spec: spec.as_ref(),
        commit: &revision.commit,
        artifact: &revision.artifact,
    });
    plan::reason(before, made_of, &new.commit, &new.artifact)
}

fn new_revision(revision: Revision, artifact: Arc<Artifact>, verdict: Verdict, notes: Notes) -> Judged {
    let seen = ObservedRevision {
        revision: Arc::new(revision),
        asked: None,
        since: None,
        failure: None,
        version: None,
        asked_for: true,
        notes,
        refusal: None,
        failed: None,
    };
    Judged { seen, artifact: Some(artifact), verdict: Some(verdict) }
}

/// The source does not answer: what was resolved before is still known, and judged by the policies of today.
async fn recall(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &Observed,
    applicable: &Applicable<'_>,
    pin: Option<Digest>,
    decision: &mut Decision,
) -> Result<(), kube::Error> {
    let Some(known) = resolved_before(deployment) else { return Ok(()) };
    if let Some(artifact) = artifacts::get(context, &observed.owner.namespace, &known.artifact).await? {
        let assurance = plan::assurance_of(&deployment.spec.model);
        decision.verdict = judge(context, applicable, observed, &artifact, pin, assurance, None).await?;
        decision.model = Some(resolved_model(deployment, &artifact));
        decision.artifacts.push(artifact);
    }
    Ok(())
}

/// What the spec's source and revision were resolved to, as the status says.
fn resolved_before(deployment: &ModelDeployment) -> Option<&ResolvedModel> {
    let (wanted, known) = (&deployment.spec.model, deployment.status.as_ref()?.model.as_ref()?);
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let source = Source::in_namespace(&wanted.source, namespace).ok()?;
    let same = source.to_string() == known.source && known.wanted_revision == wanted.revision.clone().unwrap_or_default();
    same.then_some(known)
}

/// The same, as long as there is a revision of it.
fn known_model(deployment: &ModelDeployment, revisions: &[Judged]) -> Option<ResolvedModel> {
    let known = resolved_before(deployment)?;
    revisions.iter().any(|judged| judged.seen.revision.artifact == known.artifact).then(|| known.clone())
}

/// Once something of this source and revision was served, a branch is not looked up again: it stays what it was.
fn pinned_commit(deployment: &ModelDeployment) -> Option<&str> {
    let model = resolved_before(deployment)?;
    let served =
        deployment.status.iter().flat_map(|status| &status.revisions).any(|revision| revision.artifact == model.artifact);
    (served && !model.revision.is_empty()).then_some(model.revision.as_str())
}

fn resolved_model(deployment: &ModelDeployment, artifact: &Artifact) -> ResolvedModel {
    ResolvedModel {
        artifact: artifact.name.clone(),
        source: artifact.spec.source.clone(),
        wanted_revision: deployment.spec.model.revision.clone().unwrap_or_default(),
        revision: artifact.spec.revision.clone(),
        short_revision: artifact.spec.revision.chars().take(7).collect(),
        digest: artifact.spec.digest.clone(),
        bytes: i64::try_from(artifact.manifest.size()).unwrap_or(i64::MAX),
    }
}

/// The names by which requests ask for the model.
pub fn served_names(deployment: &ModelDeployment, source: &Source) -> Vec<String> {
    let names = &deployment.spec.model.served_names;
    if names.is_empty() { vec![source.base_name().to_owned()] } else { names.clone() }
}

/// What the engine is rendered with, for that deployment.
pub fn render_input<'a>(deployment: &'a ModelDeployment, served_names: &'a [String]) -> RenderInput<'a> {
    let spec = &deployment.spec;
    let accelerator =
        spec.resources.accelerator.as_ref().map_or((AcceleratorClass::None, 0), |accelerator| match accelerator.class {
            AcceleratorClass::None => (AcceleratorClass::None, 0),
            class => (class, accelerator.count.unwrap_or(1)),
        });
    RenderInput {
        served_names,
        context_length: spec.engine.context_length,
        accelerator,
        user_args: &spec.engine.args,
        user_env: &spec.engine.env,
        model_path: plan::MODEL_PATH,
    }
}
