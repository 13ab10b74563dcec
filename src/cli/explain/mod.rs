//! `bonafide explain`: would this model be served here, and if not, why?

mod world;

use std::{path::PathBuf, process::ExitCode};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use self::world::World;
use super::{
    Output, USAGE,
    ask::{AskArgs, Asker, here},
    cluster::{ClusterArgs, Failure},
    fail, print,
    status::text,
    yaml,
};
use crate::{
    api::{ModelDeployment, PolicyVerdict, Problem},
    controller, engine,
    model::{Digest, Source},
    trust::{Applicable, Candidate, Verdict},
};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --cluster nothing but the files and the model's source is asked: ClusterModelPolicies, ModelSignatures,
InferenceEngines, Namespaces (for their labels) and Secrets (for keys that policies name) are taken from the files. With --cluster
they are taken from the cluster too; what stands in a file counts instead of what the cluster has under that name.

What the model's source has now is judged, by the engine that would be chosen now; a ModelDeployment that serves already keeps its
commit and its engine. Which policy.default the cluster's operator has is not seen from outside: say it.

No weights are read: what a policy asks of their bytes (formats, remoteCode in configuration) is looked at by the container that
fetches, and is only announced here. HF_TOKEN is sent to huggingface.co and to nobody else.

Exit codes: 0 every model would be served; 1 one would not; 2 of one it cannot be said: a file, the cluster or a source cannot be read.

Examples:
  bonafide explain -f model.yaml -f policies/                    # before anything is applied
  bonafide explain -f model.yaml --cluster -n chat               # by the policies of the cluster
  bonafide explain -f model.yaml -f new-policy.yaml --cluster    # what a new policy would change
  bonafide explain -f model.yaml -f policies/ -o json"
)]
pub struct ExplainArgs {
    /// Files or directories with the ModelDeployments and what is to count beside them; '-' is the standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also count what the cluster has
    #[arg(long)]
    cluster: bool,
    /// What becomes of a namespace that no policy selects: the chart's policy.default
    #[arg(long, value_name = "Allow|Deny", default_value = "Allow", value_parser = ["Allow", "Deny"])]
    policy_default: String,
    /// How the answer is given
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    place: ClusterArgs,
}

/// What would become of one model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    namespace: String,
    name: String,
    source: String,
    served: bool,
    /// As the column TRUST has it.
    trust: String,
    reason: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signers: Vec<String>,
    /// What each policy says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<PolicyVerdict>,
    /// What is looked at in the bytes before they are mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<&'static str>,
}

/// Explains.
pub async fn run(args: ExplainArgs) -> ExitCode {
    match explain(&args).await {
        Ok((text, served)) => match print(&text) {
            ExitCode::SUCCESS => match served {
                Some(true) => ExitCode::SUCCESS,
                Some(false) => ExitCode::from(1),
                None => ExitCode::from(USAGE),
            },
            code => code,
        },
        Err((code, message)) => fail(code, message),
    }
}

/// What is said, and whether all would be served; none where not every model has an answer.
async fn explain(args: &ExplainArgs) -> Result<(String, Option<bool>), Failure> {
    let mut objects = Vec::new();
    for file in yaml::files(&args.files, false).map_err(|error| (USAGE, error))? {
        let content = yaml::text(&file).map_err(|error| (USAGE, error))?;
        let documents = yaml::documents(&content).map_err(|error| (USAGE, format!("{}: {error}", file.display())))?;
        objects.extend(documents.iter().map(yaml::Node::value));
    }
    let cluster = if args.cluster { Some(args.place.connect().await?) } else { None };
    let default_namespace = match &cluster {
        Some(cluster) => cluster.namespace.clone(),
        None => args.place.namespace.clone().unwrap_or_else(|| "default".to_owned()),
    };
    let world = World::of(&objects, cluster.as_ref(), &args.policy_default, &default_namespace).await?;
    let asker = args.ask.asker(&world.engines)?;
    let now = cluster.as_ref().map_or_else(Timestamp::now, |cluster| cluster.clock.now());
    let models = objects.iter().filter(|object| text(object, "/kind") == "ModelDeployment");
    let (mut answers, mut unanswered) = (Vec::new(), Vec::new());
    for model in models {
        match one(&asker, &world, model, &default_namespace, now).await {
            Ok(answer) => answers.push(answer),
            Err(why) => unanswered.push(why),
        }
    }
    if answers.is_empty() && unanswered.is_empty() {
        return Err((USAGE, "there is no ModelDeployment in the files".to_owned()));
    }
    let served = answers.iter().all(|answer| answer.served);
    let said = match args.output {
        Output::Json => format!("{:#}\n", serde_json::json!({ "models": answers, "unanswered": unanswered })),
        Output::Text => answers.iter().map(Explained::for_people).collect(),
    };
    for why in &unanswered {
        eprintln!("error: {why}");
    }
    Ok((said, if unanswered.is_empty() { Some(served) } else { None }))
}

/// What would become of one model; an error says why nobody can say it here.
async fn one(asker: &Asker, world: &World, model: &Value, default: &str, now: Timestamp) -> Result<Explained, String> {
    let name = text(model, "/metadata/name").to_owned();
    let namespace = Some(text(model, "/metadata/namespace")).filter(|named| !named.is_empty()).unwrap_or(default).to_owned();
    let unread = |message: String| format!("ModelDeployment {name}: {message}");
    let read: ModelDeployment = serde_json::from_value(model.clone())
        .map_err(|error| unread(format!("it cannot be read: {error}; `bonafide lint -f FILE` says where")))?;
    let source = Source::in_namespace(&read.spec.model.source, &namespace)
        .map_err(|error| unread(format!("spec.model.source: {error}")))?;
    let applicable = world.policies.for_namespace(&world.labels(&namespace));
    let answer = Explained {
        namespace,
        name: name.clone(),
        source: source.to_string(),
        served: false,
        trust: "Refused".to_owned(),
        reason: String::new(),
        message: String::new(),
        revision: None,
        digest: None,
        signers: vec![],
        policies: vec![],
        checks: vec![],
    };
    let assurance = controller::plan::assurance_of(&read.spec.model);
    if let Err(problem) = applicable.before_resolve(&source, assurance) {
        return Ok(answer.refused(&problem));
    }
    if source.is_in_place() {
        let message = "what lies in a claim is read in the cluster only: apply it, and `bonafide status` tells what became of it";
        return Err(unread(message.to_owned()));
    }
    let restrict = applicable.restricts_to_signed(&source);
    let found = controller::find(&asker.resolver, &asker.catalogue, &read.spec, &source, asker.credentials.as_ref(), restrict);
    let found = match found.await {
        Ok(found) => found,
        // What is wrong with the model is an answer; a source that cannot be asked is none.
        Err(problem) if problem.reason.is_of_source() => return Err(unread(here(&problem))),
        Err(problem) => return Ok(answer.refused(&problem)),
    };
    judge(&read, &source, &found, &applicable, world, answer, now).map_err(unread)
}

fn judge(
    model: &ModelDeployment,
    source: &Source,
    found: &controller::Answer,
    applicable: &Applicable<'_>,
    world: &World,
    answer: Explained,
    now: Timestamp,
) -> Result<Explained, String> {
    let names = controller::served_names(model, source);
    let image = match engine::render(&found.engine, &found.selection, &controller::render_input(model, &names)) {
        Ok(rendered) => rendered.image,
        Err(problem) => return Ok(answer.refused(&problem)),
    };
    let manifest = found.artifact.manifest()?;
    let digest = manifest.digest();
    let beside = found.artifact.bundles.iter().map(|bundle| (bundle.from.clone(), bundle.content.clone()));
    let bundles: Vec<_> = beside.chain(world.delivered(&answer.namespace, digest)).collect();
    let pin = model.spec.model.digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
    let candidate = Candidate {
        source,
        revision: &found.artifact.revision,
        manifest: &manifest,
        bundles: &bundles,
        pin,
        assurance: controller::plan::assurance_of(&model.spec.model),
        image: Some(&image),
    };
    let verdict = applicable.judge(&candidate, now);
    let checks = verdict.checks().within(&manifest);
    let checks = [
        checks.formats.then_some("that weights are of the format that their names say"),
        checks.remote_code.map(|_| "that configuration names no code that is denied"),
    ];
    Ok(Explained {
        revision: Some(found.artifact.revision.clone()),
        digest: Some(digest.to_string()),
        checks: checks.into_iter().flatten().collect(),
        ..answer.with(&verdict)
    })
}

impl Explained {
    fn refused(self, problem: &Problem) -> Self {
        Self { reason: problem.reason.to_string(), message: problem.message.clone(), ..self }
    }

    fn with(self, verdict: &Verdict) -> Self {
        Self {
            served: verdict.may_serve(),
            trust: verdict.trust().to_string(),
            reason: verdict.reason().to_string(),
            message: verdict.message().to_owned(),
            signers: verdict.signers().to_vec(),
            policies: verdict.per_policy(),
            ..self
        }
    }

    fn for_people(&self) -> String {
        use std::fmt::Write as _;

        let fate = if self.served { "would be served" } else { "would NOT be served" };
        let mut said = format!("{}/{}: {fate}, TRUST {}\n", self.namespace, self.name, self.trust);
        // Writing into a String does not fail.
        let _ = writeln!(said, "  {}: {}", self.reason, self.message);
        for policy in &self.policies {
            let why = if policy.reason.is_empty() { String::new() } else { format!(": {}", policy.reason) };
            let by = if policy.signers.is_empty() { String::new() } else { format!(", signed by {}", policy.signers.join(", ")) };
            let _ = writeln!(said, "  {} {}: {}{why}{by}", policy.kind, policy.name, policy.result);
        }
        if let (Some(revision), Some(digest)) = (&self.revision, &self.digest) {
            let _ = writeln!(said, "  {} at {revision}, content {digest}", self.source);
        }
        for look in &self.checks {
            let _ = writeln!(said, "  Looked at before it is mounted: {look}.");
        }
        said
    }
}
