//! What is chosen of what a source has, and what is missed there.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::weights::TreeFile;

/// Files by path, with their contents.
struct Shelf(Vec<(&'static str, String)>);

/// A shelf that lists something else than it gives.
struct Liar(Shelf);

impl Library for Liar {
    fn resolve<'a>(
        &'a self,
        source: &'a Source,
        revision: Option<&'a str>,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>> {
        Box::pin(async move {
            let mut tree = self.0.resolve(source, revision, credentials).await?;
            tree.files.iter_mut().for_each(|file| file.sha256 = Some(Digest::of("another")));
            Ok(tree)
        })
    }

    fn read<'a>(
        &'a self,
        source: &'a Source,
        commit: &'a str,
        path: &'a CleanPath,
        size: u64,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        self.0.read(source, commit, path, size, credentials)
    }
}

impl Library for Shelf {
    fn resolve<'a>(
        &'a self,
        _: &'a Source,
        _: Option<&'a str>,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>> {
        let file = |(path, content): &(&str, String)| TreeFile {
            path: path.parse().unwrap(),
            size: content.len() as u64,
            sha256: Some(Digest::of(content)),
        };
        let tree = Tree { revision: "c0ffee".to_owned(), files: self.0.iter().map(file).collect(), unclean: vec![] };
        Box::pin(async move { Ok(tree) })
    }

    fn read<'a>(
        &'a self,
        _: &'a Source,
        _: &'a str,
        path: &'a CleanPath,
        _: u64,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        let found = self.0.iter().find(|(name, _)| *name == path.as_str()).map(|(_, content)| content.clone().into_bytes());
        Box::pin(async move { found.ok_or_else(|| SourceError::invalid("It is not there.")) })
    }
}

/// What somebody says to have signed. Nobody has: the names alone narrow what is chosen.
fn claims(names: &[&str]) -> String {
    let digest = Digest::of("x");
    let resource = |name: &&str| json!({ "name": name, "algorithm": "sha256", "digest": digest.hex() });
    let root: Vec<u8> = names.iter().flat_map(|_| *digest.as_bytes()).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "m", "digest": { "sha256": Digest::of(root).hex() } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": names.iter().map(resource).collect::<Vec<_>>(),
            "serialization": { "method": "files", "hash_type": "sha256" },
        },
    });
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "" } },
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement.to_string()), "payloadType": "application/vnd.in-toto+json", "signatures": [{ "sig": "AAAA" }],
        },
    })
    .to_string()
}

/// A model with a manifest beside it, and a signature of these names.
fn shelf(has: &[&'static str], signed: &[&str]) -> Shelf {
    let mut files: Vec<_> = has.iter().map(|name| (*name, "x".to_owned())).collect();
    files.push(("model.sig", claims(signed)));
    Shelf(files)
}

async fn chosen(shelf: &dyn Library, source: &str, files: &[&str], restrict_to_signed: bool) -> Result<Vec<String>, Problem> {
    let spec = json!({ "model": { "source": source, "files": files } });
    let spec: ModelDeploymentSpec = serde_json::from_value(spec).unwrap();
    let source = source.parse().unwrap();
    let question = Question {
        asker: "",
        spec: &spec,
        source: &source,
        revision: None,
        credentials: None,
        kept_engine: None,
        restrict_to_signed,
    };
    match resolve(shelf, &Trees::default(), &Catalogue::builtin(), &question).await {
        Ok(answer) => Ok(answer.artifact.files.into_iter().map(|file| file.path).collect()),
        Err(Unanswered::Source(error)) => Err(error.problem),
        Err(Unanswered::Spec(problem) | Unanswered::Trust(problem)) => Err(problem),
    }
}

const HUB: &str = "hf://orbit/whale";
const SERVER: &str = "https://orbit.test/whale/bonafide.json";
const ALL: &[&str] = &["**"];

#[tokio::test]
async fn signatures_that_no_record_has_room_for_are_refused_unread() {
    let half = usize::try_from(MAX_BUNDLE / 2).unwrap();
    let with = |more: usize| {
        let signature = |length: usize| format!("{}{}", claims(&["m.gguf"]), " ".repeat(length - claims(&["m.gguf"]).len()));
        Shelf(vec![("m.gguf", "x".to_owned()), ("a.sig", signature(half)), ("b.sig", signature(half + more))])
    };
    assert_eq!(chosen(&with(0), HUB, &[], true).await.unwrap(), ["m.gguf"]);
    let problem = chosen(&with(1), HUB, &[], true).await.unwrap_err();
    assert_eq!(problem.reason, Reason::SignatureMalformed);
    assert!(problem.message.starts_with("a.sig: the signatures have 524289 bytes"), "{problem}");
}

#[tokio::test]
async fn a_signature_that_is_not_the_listed_one_is_not_taken() {
    let honest = shelf(&["m.gguf"], &["m.gguf"]);
    chosen(&honest, HUB, &[], false).await.unwrap();
    let problem = chosen(&Liar(honest), HUB, &[], false).await.unwrap_err();
    assert_eq!(problem.reason, Reason::SourceInvalid);
    assert!(problem.message.starts_with("model.sig: hf://orbit/whale lists it with another SHA-256"), "{problem}");
}

#[tokio::test]
async fn a_manifest_on_the_hub_is_a_file_like_any_other_and_served_only_when_it_is_asked_for() {
    let unsigned = shelf(&["m.gguf", "bonafide.json"], &["m.gguf"]);
    assert_eq!(chosen(&unsigned, HUB, &[], false).await.unwrap(), ["m.gguf"]);
    assert_eq!(chosen(&unsigned, HUB, ALL, true).await.unwrap(), ["m.gguf"], "only what is signed");
    assert_eq!(chosen(&unsigned, HUB, ALL, false).await.unwrap(), ["bonafide.json", "m.gguf"], "which a policy judges");
    let missing = shelf(&["m.gguf"], &["m.gguf", "bonafide.json"]);
    let problem = chosen(&missing, HUB, ALL, true).await.unwrap_err();
    assert_eq!(problem.reason, Reason::SignedFileMissing);
    assert!(problem.message.starts_with("bonafide.json: the signature lists it"), "{problem}");
    assert_eq!(chosen(&missing, HUB, &[], true).await.unwrap(), ["m.gguf"], "nobody misses what would not be served");
}

#[tokio::test]
async fn the_manifest_that_a_source_itself_is_belongs_to_no_model_whether_it_was_signed_or_not() {
    for signed in [&["m.gguf"][..], &["bonafide.json", "m.gguf"]] {
        for has in [&["m.gguf"][..], &["m.gguf", "bonafide.json"]] {
            for restrict in [true, false] {
                assert_eq!(chosen(&shelf(has, signed), SERVER, ALL, restrict).await.unwrap(), ["m.gguf"], "{signed:?} {has:?}");
            }
        }
    }
    // One of another name is not that manifest.
    let other = shelf(&["m.gguf"], &["m.gguf", "whale.json"]);
    assert_eq!(chosen(&other, SERVER, ALL, true).await.unwrap_err().reason, Reason::SignedFileMissing);
    assert_eq!(chosen(&other, "https://orbit.test/whale.json", ALL, true).await.unwrap(), ["m.gguf"]);
}
