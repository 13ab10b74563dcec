//! What may be in a model, whoever signed it: formats, code, and the engine that gets it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    authority::NOW,
    fixtures::manifest,
    verdicts::{COMMIT, person, platform, recall, refused, set, source},
};
use crate::{
    api::{Assurance, Reason},
    model::{Checks, Digest, RemoteCode},
    trust::{Candidate, Trust, Verdict},
};

/// The verdict on files that the platform signed, or nobody.
fn judge(policies: &[(&str, Value)], files: &[(&str, &str)], is_signed: bool, image: Option<&str>) -> Verdict {
    let (set, manifest, source) = (set(policies), manifest(files), source());
    let bundles = if is_signed { super::verdicts::bundle(person("platform").signs(files)) } else { vec![] };
    let candidate = Candidate {
        source: &source,
        revision: COMMIT,
        manifest: &manifest,
        bundles: &bundles,
        pin: None,
        assurance: Assurance::Copied,
        image,
    };
    set.for_namespace(&BTreeMap::new()).judge(&candidate, NOW)
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = platform();
    spec[field] = value;
    spec
}

#[test]
fn weights_are_of_an_allowed_format_and_only_harmless_files_lie_beside_them() {
    let policy = || [("production", with("formats", json!(["safetensors"])))];
    let good = [("config.json", "{}"), ("model.safetensors", "w"), ("tokenizer.model", "t")];
    let verdict = judge(&policy(), &good, true, None);
    assert_eq!(verdict.trust(), Trust::Signed);
    assert!(verdict.checks().formats, "what the names say is looked at in the bytes");
    for other in ["model.gguf", "pytorch_model.bin", "consolidated.pth", "weights.npz", "MODEL.GGUF", "model", "run.exe"] {
        let verdict = judge(&policy(), &[("config.json", "{}"), (other, "w")], true, None);
        let problem = refused(&verdict);
        assert_eq!(problem.reason, Reason::FormatNotAllowed, "{other}");
        assert!(problem.message.starts_with(&format!("{other}: hf://acme/smollm2@12fd25f would serve it")), "{problem}");
        assert!(problem.message.contains("allows weights only as safetensors (formats)"), "{problem}");
    }
}

#[test]
fn formats_hold_in_every_mode_and_where_no_rule_names_the_source() {
    for spec in [with("mode", json!("Audit")), json!({"unmatched": "Accept"})] {
        let mut spec = spec;
        spec["formats"] = json!(["gguf"]);
        assert_eq!(refused(&judge(&[("p", spec.clone())], &[("a.bin", "w")], true, None)).reason, Reason::FormatNotAllowed);
        let verdict = judge(&[("p", spec)], &[("a.gguf", "w")], true, None);
        assert!(verdict.may_serve() && verdict.checks().formats);
    }
    assert!(!judge(&[("production", platform())], &[("a.gguf", "w")], true, None).checks().formats, "nobody asks for it");
}

#[test]
fn code_is_denied_unless_a_policy_takes_it_and_then_only_signed() {
    let files = [("config.json", "{}"), ("modeling_x.py", "print()"), ("model.safetensors", "w")];
    let verdict = judge(&[("production", platform())], &files, true, None);
    let problem = refused(&verdict);
    assert_eq!(problem.reason, Reason::RemoteCodeDenied);
    assert!(problem.message.starts_with("modeling_x.py: hf://acme/smollm2@12fd25f would serve it, it is code"), "{problem}");
    let allowing = with("remoteCode", json!("AllowIfSigned"));
    let verdict = judge(&[("production", allowing.clone())], &files, true, None);
    assert_eq!((verdict.trust(), verdict.checks().remote_code), (Trust::Signed, Some(RemoteCode::AllowIfSigned)));
    // A mode that passes over a missing signature does not pass code.
    let mut warning = allowing.clone();
    warning["mode"] = json!("Warn");
    assert_eq!(refused(&judge(&[("production", warning)], &files, false, None)).reason, Reason::RemoteCodeDenied);
    // Of several policies the strictest.
    let verdict = judge(&[("a", allowing), ("b", platform())], &files[..1], true, None);
    assert_eq!(verdict.checks().remote_code, Some(RemoteCode::Deny));
}

#[test]
fn a_recall_alone_says_nothing_of_code() {
    let verdict = judge(&[("recall", recall("other"))], &[("config.json", "{}"), ("x.py", "")], false, None);
    assert!(verdict.may_serve());
    assert_eq!(verdict.checks(), Checks::default());
}

#[test]
fn only_the_images_that_a_policy_names_get_the_weights() {
    let (good, other) = (Digest::of("good").to_string(), Digest::of("other").to_string());
    let policy = || [("production", with("engines", json!({"images": [format!("ghcr.io/engines/a@{good}")]})))];
    let judge = |image: Option<&str>| judge(&policy(), &[("model.gguf", "w")], true, image);
    assert_eq!(judge(Some(&format!("ghcr.io/engines/a:v1@{good}"))).trust(), Trust::Signed);
    assert_eq!(judge(None).trust(), Trust::Signed, "where no engine is in question");
    for (image, why) in [
        (format!("ghcr.io/engines/a@{other}"), "which is none of them"),
        (format!("ghcr.io/engines/b@{good}"), "which is none of them"),
        ("ghcr.io/engines/a:v1".to_owned(), "which has no digest"),
    ] {
        let verdict = judge(Some(&image));
        let problem = refused(&verdict);
        assert_eq!(problem.reason, Reason::EngineNotAllowed);
        assert!(problem.message.contains(&format!("would be served by {image}, {why}")), "{problem}");
    }
}

#[test]
fn a_policy_that_only_restricts_does_not_open_what_the_default_keeps_closed() {
    let image = format!("ghcr.io/a/b@{}", Digest::of("image"));
    for spec in [
        json!({"unmatched": "Accept", "formats": ["gguf"]}),
        json!({"unmatched": "Accept", "engines": {"images": [image]}}),
        json!({"unmatched": "Accept", "formats": ["gguf"], "deny": [{"name": "x", "source": "hf://x/*"}]}),
    ] {
        let mut set = set(&[("restricts", spec)]);
        set.default = crate::trust::DefaultStance::Deny;
        let before = set.for_namespace(&BTreeMap::new()).before_resolve(&source(), Assurance::Copied);
        assert_eq!(before.unwrap_err().reason, Reason::DefaultDeny);
    }
}
