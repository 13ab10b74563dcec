//! What only the manager would say of an object, as far as it needs neither a cluster nor the source.

use serde_json::Value;

use super::{Finding, Severity};
use crate::{
    api::{
        AcceleratorClass, ClusterModelPolicy, InferenceEngine, ModelDeployment, ModelSignature, PolicyRule, Problem,
        PublicKeySource, Reason, SignedBy, Signer, SourceMatch,
    },
    cli::yaml::Step,
    controller,
    engine::{self, Catalogue, Engine},
    model::Source,
    trust::{Bundle, Contents, Policy},
};

/// Stands in for a key in a Secret, which is not here: a public key whose private one nobody has.
const STAND_IN: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYLzEaJiOIvYcZl9iW/pdJvE+LYbZ
DFjgtN1J21KK9Q7NZW3GG833RV9EwpX72UakxZdTjnVHdHHY3K1bj/48Cg==
-----END PUBLIC KEY-----
";

/// A pattern that every source matches.
const ANY: &str = "**";
/// Stands for an authority that is not here.
const STAND_IN_CA: &str = "-----BEGIN CERTIFICATE-----
MIIBjTCCATOgAwIBAgIUQ5L6/Bvs++ua9mysbCjJdmHm+gcwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIc3RhbmQtaW4wIBcNMjYxMTIyMjEwMzU1WhgPMjEyNjEwMjky
MTAzNTVaMBMxETAPBgNVBAMMCHN0YW5kLWluMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEyHM2L/neQNyxAc6oFPTbdccCyQMocazOEgjwBnxJIBu+utqRI9Zo6AmT
UW7HJhLouuHhDr/DfK16+gH5giqEvqNjMGEwHQYDVR0OBBYEFK3glm7kevvI5xWb
+SFRgEk31LxpMB8GA1UdIwQYMBaAFK3glm7kevvI5xWb+SFRgEk31LxpMA8GA1Ud
EwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIGnl
h1IFz5R7ceQ9Cvpw5FQw9iItPl8FFbrnrNpq5s1OAiEAuHuAAP1ZDSn8J8A+lYh/
yY7Qs0Ag2Efzb8xwp/LWpcQ=
-----END CERTIFICATE-----
";

/// A context, in tokens, for which hardly any node has the memory.
const LONG: i64 = 1_048_576;

/// What is wrong with an object that keeps every rule of its definition.
pub fn check(kind: &str, object: &Value, catalogue: &Catalogue) -> Vec<(Severity, Finding)> {
    let read = match kind {
        "ModelDeployment" => serde_json::from_value(object.clone()).map(|object| deployment(&object, catalogue)),
        "ClusterModelPolicy" => serde_json::from_value(object.clone()).map(|object| policy(&object)),
        "ModelSignature" => serde_json::from_value(object.clone()).map(|object| signature(&object)),
        "InferenceEngine" => serde_json::from_value(object.clone()).map(engine),
        _ => Ok(vec![]),
    };
    read.unwrap_or_else(|error| vec![(Severity::Error, Finding::new(vec![], format!("it cannot be read: {error}")))])
}

fn deployment(deployment: &ModelDeployment, catalogue: &Catalogue) -> Vec<(Severity, Finding)> {
    let spec = &deployment.spec;
    let mut found = vec![];
    let mut problem = |problem: Problem| found.push((Severity::Error, of(&problem)));
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or("default");
    let source = Source::in_namespace(&spec.model.source, namespace);
    if let Err(error) = &source {
        problem(Problem::new(Reason::InvalidSpec, format!("spec.model.source: {error}")));
    }
    if let Err(wrong) = engine::wanted(&spec.model.files) {
        problem(wrong);
    }
    let engines: Vec<&Engine> = match spec.engine.name.as_deref().map(|name| catalogue.get(name)) {
        Some(Ok(engine)) => vec![engine],
        Some(Err(unknown)) => {
            let message = format!(
                "spec.engine.name: {} If the cluster has an InferenceEngine of that name, give its object with -f.",
                unknown.message
            );
            problem(Problem::new(unknown.reason, message));
            vec![]
        }
        // Which engine it will be depends on the files: it is right when one of them takes it.
        None => catalogue.engines().collect(),
    };
    if let Ok(source) = &source {
        let served = controller::served_names(deployment, source);
        let tries: Vec<Vec<Problem>> = engines.iter().map(|engine| refusals(engine, deployment, &served)).collect();
        if tries.iter().all(|refusals| !refusals.is_empty()) {
            tries.into_iter().next().into_iter().flatten().for_each(&mut problem);
        }
    }
    if spec.engine.context_length.is_some() && !engines.is_empty() && !engines.iter().any(|engine| takes_context(engine)) {
        let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
        problem(Problem::new(
            Reason::InvalidSpec,
            format!(
                "spec.engine.contextLength: it has no meaning for engine {}, whose command line has no $(CONTEXT_LENGTH). Leave it out.",
                names.join(", ")
            ),
        ));
    }
    let on_cpu = spec.resources.accelerator.as_ref().is_none_or(|asked| asked.class == AcceleratorClass::None);
    if let Some(length) = spec.engine.context_length.filter(|length| *length > LONG)
        && spec.resources.memory.is_none()
        && on_cpu
    {
        let path = ["spec", "engine", "contextLength"].map(|step| Step::Key(step.to_owned()));
        let message =
            format!("a context of {length} tokens takes as much of the node's memory as there is, since nothing limits it");
        let next = Some("set spec.resources.memory, which is a limit too, or a shorter context".to_owned());
        found.push((Severity::Hint, Finding { path: path.to_vec(), message, next }));
    }
    if let Some(revision) = &spec.model.revision
        && spec.model.digest.is_none()
        && !is_commit(revision)
    {
        let path = ["spec", "model", "revision"].map(|step| Step::Key(step.to_owned()));
        let message =
            format!("{revision:?} is a branch or a tag: what it stands for can change, and another cluster may get other bytes");
        let next = Some("`bonafide pin -f FILE --in-place` writes the commit and the digest".to_owned());
        found.push((Severity::Hint, Finding { path: path.to_vec(), message, next }));
    }
    found
}

/// Everything that an engine has against a deployment: after an argument or a variable that is refused, the rest is looked at.
fn refusals(engine: &Engine, deployment: &ModelDeployment, served: &[String]) -> Vec<Problem> {
    let (mut rest, mut passed, mut refusals) = (deployment.clone(), 0, vec![]);
    while let Some(problem) = engine::refuses(engine, &controller::render_input(&rest, served)) {
        let named = |start: &str| problem.message.strip_prefix(start)?.split_once(']').map(|(named, _)| named.to_owned());
        let (args, env) = (&mut rest.spec.engine.args, &mut rest.spec.engine.env);
        if let Some(at) = named("spec.engine.args[").and_then(|at| at.parse::<usize>().ok()).filter(|at| *at < args.len()) {
            // The flag, and what stands behind it as its value.
            let values = args.iter().skip(at + 1).take_while(|arg| !arg.starts_with('-')).count();
            args.drain(..=at + values);
            let place = format!("spec.engine.args[{}]", passed + at);
            refusals.push(Problem::new(problem.reason, problem.message.replacen(&format!("spec.engine.args[{at}]"), &place, 1)));
            passed += at + values + 1;
        } else if let Some(at) = named("spec.engine.env[").and_then(|name| env.iter().position(|variable| variable.name == name))
        {
            env.remove(at);
            refusals.push(problem);
        } else {
            refusals.push(problem);
            break;
        }
    }
    refusals
}

/// What a commit looks like.
pub fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn takes_context(engine: &Engine) -> bool {
    let spec = engine.spec();
    let texts = spec.args.iter().chain(&spec.command).chain(spec.env.iter().map(|variable| &variable.value));
    texts.into_iter().any(|text| text.contains("$(CONTEXT_LENGTH)"))
}

/// Each part of a policy by itself: who corrects one mistake wants to know of the others.
fn policy(policy: &ClusterModelPolicy) -> Vec<(Severity, Finding)> {
    let mut whole = policy.clone();
    let (signers, rules, deny) =
        (std::mem::take(&mut whole.spec.signers), std::mem::take(&mut whole.spec.rules), std::mem::take(&mut whole.spec.deny));
    let mut problems = vec![];
    let mut refused = |part: &ClusterModelPolicy| {
        let problem = Policy::compile(part, &|_| Some(STAND_IN.to_owned())).err();
        let is_new = problem.clone().filter(|problem| !problems.contains(problem));
        problems.extend(is_new);
        problem.is_some()
    };
    refused(&whole);
    let with = |change: &dyn Fn(&mut ClusterModelPolicy)| {
        let mut part = whole.clone();
        change(&mut part);
        part
    };
    let mut known = signers.clone();
    for (signer, known) in signers.iter().zip(&mut known) {
        let mut here = signer.clone();
        if let Some(ca) = here.certificate.as_mut().map(|certificate| &mut certificate.ca)
            && ca.pem.is_none()
            && ca.secret_key_ref.take().is_some()
        {
            ca.pem = Some(STAND_IN_CA.to_owned());
        }
        if let Some(keyless) = &mut here.keyless
            && keyless.trusted_root.as_ref().is_some_and(|root| root.json.is_none() && root.secret_key_ref.is_some())
        {
            // The public instance stands in for one that is not here.
            keyless.trusted_root = None;
        }
        let alone = with(&|part| part.spec.signers = vec![here.clone()]);
        if refused(&alone) || signer.secrets().next().is_some() {
            known.public_key = Some(PublicKeySource { pem: Some(STAND_IN.to_owned()), secret_key_ref: None });
            (known.certificate, known.keyless) = (None, None);
        }
    }
    refused(&with(&|part| part.spec.signers.clone_from(&known)));
    let is_unknown = |name: &String| {
        let stands_in = |signer: &Signer| signer.public_key.as_ref().is_some_and(|key| key.pem.as_deref() == Some(STAND_IN));
        known.iter().any(|signer| signer.name == *name && stands_in(signer))
    };
    for rule in &rules {
        let mut rule = rule.clone();
        // Whether two keys that are not here are the same one is not known here.
        for demand in rule.signed_by.iter_mut().filter(|demand| demand.any_of.iter().any(is_unknown)) {
            demand.minimum = demand.minimum.min(1);
        }
        let mut alone = |change: &dyn Fn(&mut PolicyRule)| {
            let mut rule = rule.clone();
            change(&mut rule);
            refused(&with(&|part| (part.spec.signers, part.spec.rules) = (known.clone(), vec![rule.clone()])))
        };
        // One pattern and one name after the other, among others that are right.
        let any = |patterns: &[String]| vec![ANY.to_owned(); patterns.len()];
        for at in 0..rule.sources.include.len() + rule.sources.exclude.len() {
            alone(&|one| {
                let SourceMatch { include, exclude } = rule.sources.clone();
                one.sources = SourceMatch { include: any(&include), exclude: any(&exclude) };
                let patterns = one.sources.include.iter_mut().chain(&mut one.sources.exclude);
                for (pattern, wanted) in patterns.zip(include.into_iter().chain(exclude)).skip(at).take(1) {
                    *pattern = wanted;
                }
            });
        }
        for demand in &rule.signed_by {
            for name in &demand.any_of {
                alone(&|one| {
                    one.sources = SourceMatch { include: vec![ANY.to_owned()], exclude: vec![] };
                    one.signed_by = vec![SignedBy { any_of: vec![name.clone()], minimum: 1, ..demand.clone() }];
                });
            }
        }
        alone(&|_| {});
    }
    for entry in &deny {
        refused(&with(&|part| part.spec.deny = vec![entry.clone()]));
    }
    problems.iter().map(|problem| (Severity::Error, of(problem))).collect()
}

/// Whether the manager could read the bundle.
fn signature(object: &ModelSignature) -> Vec<(Severity, Finding)> {
    let read = Bundle::parse(object.spec.bundle.as_bytes(), Bundle::MAX_RECORDED);
    let approved = read.as_ref().ok().and_then(|bundle| match bundle.claimed() {
        Contents::Whole(approved) if approved.to_string() != object.spec.digest => Some(*approved),
        _ => None,
    });
    let rejected = read.err().map(|rejected| {
        let next = "Write the whole of model.sig there, as model_signing writes it.";
        Problem::new(rejected.reason, format!("spec.bundle: it {rejected}, and counts for nothing. {next}"))
    });
    let rejected = rejected.or_else(|| {
        let message = format!(
            "spec.bundle: it approves {}, and spec.digest is {}: it counts for nothing. Have that content approved: bonafide approve {} --key KEY.pem",
            approved?, object.spec.digest, object.spec.digest
        );
        Some(Problem::new(Reason::DigestMismatch, message))
    });
    rejected.iter().map(|problem| (Severity::Error, of(problem))).collect()
}

fn engine(object: InferenceEngine) -> Vec<(Severity, Finding)> {
    let name = object.metadata.name.unwrap_or_default();
    Engine::parse(&name, object.spec).err().map(|problem| (Severity::Error, of(&problem))).into_iter().collect()
}

/// A problem, at the field with which its message begins.
fn of(problem: &Problem) -> Finding {
    let (field, rest) = problem.message.split_once(": ").unwrap_or(("", &problem.message));
    let path = path(field);
    if path.is_empty() {
        return Finding::new(vec![], problem.to_string());
    }
    let exact = crate::cli::yaml::written(&path) == field;
    Finding::new(path, format!("{}: {}", problem.reason, if exact { rest } else { &problem.message }))
}

/// `spec.engine.args[1]` as steps, as far as it is one; nothing for what is no field.
fn path(field: &str) -> Vec<Step> {
    if !field.starts_with("spec.") || field.contains(' ') {
        return vec![];
    }
    let mut path = vec![];
    for part in field.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        path.push(Step::Key(name.to_owned()));
        if !index.is_empty() {
            let Some(index) = index.strip_suffix(']').and_then(|index| index.parse().ok()) else { break };
            path.push(Step::Index(index));
        }
    }
    path
}
