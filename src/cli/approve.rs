//! `bonafide approve`: somebody's signature over a content digest, as the object that delivers it.

use std::{io::IsTerminal as _, path::Path, process::ExitCode};

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::{
    USAGE, fail, print,
    sign::{SignerArgs, model, signer, whose, words},
    verify::tree::Tree,
};
use crate::{
    model::{Digest, Manifest},
    trust::{MAX_COMMENT, Signer},
};

/// Approve a content: sign its digest, and print the ModelSignature that delivers the approval
///
/// A policy may ask for a second opinion: `signedBy: [{name: review, anyOf: [ann, bob], minimum: 2}]`. What is approved is a
/// content digest, that of all files with their names, as status.model.digest of a ModelDeployment and `bonafide verify` show
/// it. One changed byte, one file more or fewer, and the approval is void. It goes into the namespace where the model is
/// served, apart from the model.
///
/// Given a directory, its files are hashed as `bonafide sign` would; a deployment that serves fewer of them has another digest,
/// so prefer the digest of the deployment that you looked at.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  approved
  2  not approved: what was named is neither a digest nor a model, or a key or certificate is of no use

Examples:
  bonafide approve \"$(kubectl get mdep llama -n chat -o jsonpath={.status.model.digest})\" --key bob.key | kubectl apply -n chat -f -
  bonafide approve ./SmolLM2-135M --key bob.key --comment 'evals of 2026-11-20 passed'
  bonafide approve sha256:a471307fc8ac1dae716aadcf54f34dc069bde1a0723847158f47ae5b9eeeafbc --key bob.key -o bundle > bob.sig")]
pub struct ApproveArgs {
    /// A content digest, sha256:…, or a model's directory
    #[arg(value_name = "DIGEST|DIR")]
    content: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// What to say with it, for people; signed, and of no effect
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// The name of the ModelSignature [default: approval-, the digest's and the key's first digits]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A file or directory, relative to DIR, that is no part of the model; may be given several times
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,
    /// What to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

/// What is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A ModelSignature for kubectl apply.
    #[default]
    Yaml,
    /// The bundle alone, as a file beside the model.
    Bundle,
}

/// Prints the approval.
pub fn run(args: &ApproveArgs) -> ExitCode {
    match approve(args, Timestamp::now()) {
        Ok(text) => print(&text),
        Err(message) => fail(USAGE, message),
    }
}

fn approve(args: &ApproveArgs, now: Timestamp) -> Result<String, String> {
    if let Some(long) = args.comment.as_ref().map(String::len).filter(|length| *length > MAX_COMMENT) {
        return Err(format!("--comment is {long} bytes long, more than {MAX_COMMENT}."));
    }
    let signer = signer(&args.signer)?;
    let content = content(args)?;
    let bundle = signer.approves(content, args.comment.as_deref(), now);
    if args.output == Form::Bundle {
        return Ok(format!("{bundle}\n"));
    }
    let name = args.name.clone().unwrap_or_else(|| format!("approval-{}-{}", content.short(), signer.key().hint().short()));
    if !is_name(&name) {
        return Err(format!("--name {name:?} is no name of an object: lower-case letters, digits, - and ., at most 253."));
    }
    Ok(object(&name, content, &signer, &bundle))
}

fn object(name: &str, content: Digest, signer: &Signer, bundle: &str) -> String {
    format!(
        "# An approval of {content}
# by {}. It is void when one byte of it changes, or of what it approves.
apiVersion: bonafide.dev/v1alpha1
kind: ModelSignature
metadata:
  name: {name:?}
spec:
  digest: {content}
  bundle: |
    {bundle}
",
        whose(signer).replace(char::is_control, "\u{fffd}")
    )
}

/// What is to be approved.
fn content(args: &ApproveArgs) -> Result<Digest, String> {
    if args.content.starts_with("sha256:") {
        return args.content.parse().map_err(|error| format!("{error}."));
    }
    let path = Path::new(&args.content);
    if !path.exists() {
        let hint = if Digest::from_hex(&args.content).is_ok() { ". A digest begins with sha256:" } else { "" };
        return Err(format!("{:?} is neither a content digest (sha256:…) nor a directory{hint}.", args.content));
    }
    let tree = Tree::at(path).map_err(words)?;
    let model = model(&tree, None, &args.ignore, std::io::stderr().is_terminal())?;
    let files = model.files.len();
    let manifest = Manifest::new(model.files).map_err(|error| format!("{}: {error}.", path.display()))?;
    let digest = manifest.digest();
    eprintln!("{digest} stands for the {files} files in {}; a deployment that serves fewer of them has another.", path.display());
    Ok(digest)
}

/// Whether Kubernetes takes it as a name.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        api::ModelSignature,
        trust::{Bundle, Contents, PrivateKey},
    };

    const DIGEST: &str = "sha256:a471307fc8ac1dae716aadcf54f34dc069bde1a0723847158f47ae5b9eeeafbc";
    const NOW: Timestamp = Timestamp::constant(1_782_864_000, 0);

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oms").join(name)
    }

    fn args(content: &str) -> ApproveArgs {
        ApproveArgs {
            content: content.to_owned(),
            signer: SignerArgs { key: data("keys/sec1-p256.key"), certificate_chain: None },
            comment: Some("looks\ngood: \"yes\"".to_owned()),
            name: None,
            ignore: vec![],
            output: Form::Yaml,
        }
    }

    fn read(text: &str) -> ModelSignature {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn an_approval_is_a_whole_object_whose_bundle_holds_for_that_digest() {
        let object = read(&approve(&args(DIGEST), NOW).unwrap());
        assert_eq!(object.spec.digest, DIGEST);
        let key = PrivateKey::from_pem(&std::fs::read_to_string(data("keys/sec1-p256.key")).unwrap()).unwrap();
        let name = format!("approval-a471307f-{}", key.public().hint().short());
        assert_eq!(object.metadata.name.as_deref(), Some(name.as_str()));
        let bundle = Bundle::parse(object.spec.bundle.as_bytes(), Bundle::MAX_RECORDED).unwrap();
        let attested = bundle.verify(key.public()).unwrap();
        assert_eq!(attested.contents(), &Contents::Whole(DIGEST.parse().unwrap()));

        let bundle = approve(&ApproveArgs { output: Form::Bundle, ..args(DIGEST) }, NOW).unwrap();
        assert_eq!(bundle, object.spec.bundle, "the same, alone");
    }

    #[test]
    fn a_directory_is_approved_by_the_digest_that_verify_shows_of_it() {
        let object = read(&approve(&args(&data("model").display().to_string()), NOW).unwrap());
        // What `bonafide verify` prints for tests/data/oms/model, as in examples/approval.yaml.
        assert_eq!(object.spec.digest, DIGEST);
    }

    #[test]
    fn what_is_no_content_is_not_approved() {
        for (args, fragment) in [
            (args("sha256:12"), "64 lower-case"),
            (args(DIGEST.strip_prefix("sha256:").unwrap()), "begins with sha256:"),
            (args("./nowhere-to-be-found"), "neither a content digest"),
            (ApproveArgs { name: Some("Ann's".to_owned()), ..args(DIGEST) }, "--name"),
            (ApproveArgs { comment: Some("x".repeat(MAX_COMMENT + 1)), ..args(DIGEST) }, "--comment"),
        ] {
            let message = approve(&args, NOW).unwrap_err();
            assert!(message.contains(fragment), "{message}");
        }
    }
}
