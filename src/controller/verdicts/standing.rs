//! What is said of each ModelSignature: whether it can be read, what it signs, and who has that content. Only what changes is
//! written.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    convert::Infallible,
    time::Duration,
};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::{ACCEPTED, FIELD_MANAGER, Finding, ModelDeployment, ModelSignature, ModelSignatureStatus, Problem, Reason, settle},
    controller::{context::Context, objects::slim::SlimSignature},
    trust::{Bundle, Contents},
};

/// Between two looks at what the watches know.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many ModelDeployments are named.
const NAMED: usize = 5;

/// What a bundle holds, in words, or why it cannot be read.
type Content = Result<String, Problem>;

/// What was read and said of one signature: its generation and content; its version and what was said of it.
#[derive(Default)]
struct Known {
    read: Option<(Option<i64>, Content)>,
    told: Option<(Option<String>, Finding)>,
}

/// Looks again and again, until the process ends.
pub async fn run(context: &Context) -> Infallible {
    let mut known: HashMap<String, Known> = HashMap::new();
    loop {
        let signatures = context.stores.signatures.state();
        let alive: HashSet<&str> = signatures.iter().filter_map(|signature| signature.metadata.uid.as_deref()).collect();
        known.retain(|uid, _| alive.contains(uid.as_str()));
        let users = users(context);
        for signature in signatures.iter().filter(|signature| signature.metadata.deletion_timestamp.is_none()) {
            let Some(uid) = signature.metadata.uid.clone() else { continue };
            let known = known.entry(uid).or_default();
            if let Err(error) = tell(context, signature, &users, known).await {
                tracing::warn!(signature = signature.name_any(), %error, "what is to be said of it could not be said; trying again");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The ModelDeployments that have or had a content, by namespace and digest.
type Users = HashMap<(String, String), BTreeSet<String>>;

fn users(context: &Context) -> Users {
    let mut users = Users::new();
    for wish in context.stores.wishes.state() {
        let Ok(deployment) = &wish.0 else { continue };
        for digest in contents(deployment) {
            let key = (deployment.namespace().unwrap_or_default(), digest.to_owned());
            users.entry(key).or_default().insert(deployment.name_any());
        }
    }
    users
}

/// The contents that a ModelDeployment asks for or runs.
fn contents(deployment: &ModelDeployment) -> impl Iterator<Item = &str> {
    let status = deployment.status.iter();
    status.flat_map(|status| {
        let wanted = status.model.iter().map(|model| model.digest.as_str());
        wanted.chain(status.revisions.iter().map(|revision| revision.digest.as_str()))
    })
}

async fn tell(context: &Context, signature: &SlimSignature, users: &Users, known: &mut Known) -> Result<(), kube::Error> {
    let (name, namespace) = (signature.name_any(), signature.namespace().unwrap_or_default());
    let api: Api<ModelSignature> = Api::namespaced(context.client.clone(), &namespace);
    let generation = signature.metadata.generation;
    if known.read.as_ref().is_none_or(|(read, _)| *read != generation) {
        let Some(live) = api.get_opt(&name).await? else { return Ok(()) };
        // Another object of that name, or another bundle than the watch knows of: it will tell.
        if live.metadata.uid != signature.metadata.uid || live.metadata.generation != generation {
            return Ok(());
        }
        known.read = Some((generation, read(&live.spec.bundle, &live.spec.digest)));
    }
    let Some((_, content)) = &known.read else { return Ok(()) };
    let by = users.get(&(namespace.clone(), signature.spec.digest.clone()));
    let finding = finding(content, by, &namespace, &signature.spec.digest);
    // As long as the watch has not told of what was written, it is not written again.
    let telling = (signature.metadata.resource_version.clone(), finding.clone());
    if known.told.as_ref() == Some(&telling) {
        return Ok(());
    }
    let old = &signature.status;
    let conditions = settle(&old.conditions, &[finding], generation, context.clock.now());
    let status = ModelSignatureStatus { observed_generation: generation, conditions };
    if status != *old {
        // The UID and the version are those that were looked at: nothing is said of an object that took its place.
        let metadata = json!({ "uid": signature.metadata.uid, "resourceVersion": signature.metadata.resource_version });
        let patch = Patch::Merge(json!({ "metadata": metadata, "status": status }));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        context.metrics.wrote("ModelSignature", "patch");
        match api.patch_status(&name, &parameters, &patch).await {
            Ok(_) => {}
            // It is gone, or another now: the watch will tell.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409 | 422) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    known.told = Some(telling);
    Ok(())
}

fn read(bundle: &str, digest: &str) -> Content {
    let bundle = Bundle::parse(bundle.as_bytes(), Bundle::MAX_RECORDED)
        .map_err(|rejected| Problem::new(rejected.reason, format!("spec.bundle {rejected}.")))?;
    Ok(match bundle.claimed() {
        Contents::Tree(files) if files.len() == 1 => "It lists 1 file.".to_owned(),
        Contents::Tree(files) => format!("It lists {} files.", files.len()),
        Contents::Nameless(_) => "It is of one file, without its name.".to_owned(),
        Contents::Whole(approved) if approved.to_string() == digest => "It is an approval of this content.".to_owned(),
        Contents::Whole(approved) => {
            let message = format!("spec.bundle approves {approved}, and spec.digest is {digest}.");
            return Err(Problem::new(Reason::DigestMismatch, message));
        }
        Contents::Parts(_) => "It lists parts of files.".to_owned(),
    })
}

/// What is said of a signature, when these ModelDeployments have the content that it is about.
fn finding(content: &Content, by: Option<&BTreeSet<String>>, namespace: &str, digest: &str) -> Finding {
    let said = |reason, message: String| Finding::new(ACCEPTED, Some(true), reason, message);
    match (content, by) {
        (Err(problem), _) => {
            let next = "It counts for nothing. Put the signature there as model_signing writes it, or delete this object.";
            Finding::new(ACCEPTED, Some(false), problem.reason, format!("{} {next}", problem.message))
        }
        (Ok(content), Some(names)) => {
            let more = names.len().saturating_sub(NAMED);
            let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let which = if names.len() == 1 { "ModelDeployment" } else { "ModelDeployments" };
            let counts = "Whether it counts there is for the policies to say.";
            said(
                Reason::Accepted,
                format!("{content} It is about what {which} {named}{more} of this namespace may serve. {counts}"),
            )
        }
        (Ok(content), None) => {
            let next = "Compare spec.digest with status.model.digest of the ModelDeployment that is meant.";
            said(
                Reason::Unused,
                format!("{content} No ModelDeployment of namespace {namespace} has the content {digest}. {next}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_signs_and_who_has_that_is_said() {
        let bundle = include_str!("../../../tests/data/oms/p256.sig");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let say = |bundle: &str, by: Option<&BTreeSet<String>>| finding(&read(bundle, "sha256:1"), by, "birds", "sha256:1");
        let used = say(bundle, Some(&names(&["wren", "finch"])));
        assert_eq!((used.status, used.reason), (Some(true), Reason::Accepted));
        assert!(
            used.message.starts_with("It lists 3 files. It is about what ModelDeployments finch, wren of"),
            "{}",
            used.message
        );
        let many = names(&["a", "b", "c", "d", "e", "f", "g"]);
        assert!(say(bundle, Some(&many)).message.contains("a, b, c, d, e and 2 more"));
        let unused = say(bundle, None);
        assert_eq!((unused.status, unused.reason), (Some(true), Reason::Unused));
        assert!(unused.message.contains("No ModelDeployment of namespace birds has the content sha256:1"), "{}", unused.message);
        // An approval says itself which content it is about.
        let key = include_str!("../../../tests/data/oms/keys/sec1-p256.key");
        let bob = crate::trust::Signer::by_key(crate::trust::PrivateKey::from_pem(key).unwrap());
        let approved = crate::model::Digest::of("this");
        let approval = bob.approves(approved, None, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(read(&approval, &approved.to_string()), Ok("It is an approval of this content.".to_owned()));
        let other = say(&approval, Some(&many));
        assert_eq!((other.status, other.reason), (Some(false), Reason::DigestMismatch));
        assert!(other.message.contains(&format!("approves {approved}, and spec.digest is sha256:1.")), "{}", other.message);
        let broken = say("{", Some(&many));
        assert_eq!((broken.status, broken.reason), (Some(false), Reason::SignatureMalformed));
        assert!(broken.message.starts_with("spec.bundle is not a Sigstore bundle: "), "{}", broken.message);
    }
}
