use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::Decision;
use crate::{
    api::Assurance,
    model::{Digest, File, Manifest, Source},
    trust::{Candidate, DefaultStance, PolicySet, PolicyState, Trust, Verdict},
};

/// What a policy that trusts the authority of `tests/data/oms` says of the model there.
fn judged(now: Timestamp) -> Verdict {
    let data = |name: &str| std::fs::read_to_string(format!("{}/tests/data/oms/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let policy = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": {"name": "p"},
        "spec": {
            "signers": [{"name": "models", "certificate": {"ca": {"pem": data("acme-root.pem")}, "subject": {"exact": "CN=Models,O=Acme,C=NL"}}}],
            "rules": [{"name": "all", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "m", "anyOf": ["models"]}]}],
        },
    });
    let policy = PolicyState::of(&serde_json::from_value(policy).unwrap(), &|_| None);
    let set = PolicySet { policies: vec![policy], default: DefaultStance::Allow };
    let content = data("model/config.json");
    let file = File { path: "config.json".parse().unwrap(), size: content.len() as u64, sha256: Digest::of(&content) };
    let (source, manifest) = ("hf://acme/whale".parse::<Source>().unwrap(), Manifest::new(vec![file]).unwrap());
    let bundles = [("model.sig".to_owned(), data("acme.sig"))];
    let candidate = Candidate {
        source: &source,
        revision: "c0ffee",
        manifest: &manifest,
        bundles: &bundles,
        pin: None,
        assurance: Assurance::Copied,
        image: None,
    };
    set.for_namespace(&Default::default()).judge(&candidate, now)
}

#[test]
fn a_deployment_is_looked_at_again_when_a_certificate_ends() {
    let decision = |verdict| Decision {
        revisions: vec![],
        current: None,
        looked: false,
        blocked: None,
        model: None,
        verdict,
        artifacts: vec![],
        engine: None,
        shared: None,
    };
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(decision(None).holds_for(now), None);
    let verdict = judged(now);
    assert_eq!(verdict.trust(), Trust::Signed, "{}", verdict.message());
    let until = verdict.holds_until().unwrap();
    let decision = decision(Some(verdict));
    let before = until - Duration::from_secs(90);
    assert_eq!(decision.holds_for(before), Some(Duration::from_secs(90)));
    assert_eq!(decision.holds_for(until + Duration::from_secs(5)), Some(Duration::from_secs(1)), "it is late already");
    assert_eq!(judged(until).trust(), Trust::Refused);
}
