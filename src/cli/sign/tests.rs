use std::{fs, os::unix::fs::symlink};

use base64::Engine as _;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    cli::verify::{Output, Verified, VerifyArgs, verify},
    trust::Contents,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oms").join(name)
}

/// A directory `model` with the model, without a signature, in one of its own.
fn model() -> (TempDir, PathBuf) {
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("model");
    fs::create_dir_all(dir.join("original")).unwrap();
    for name in ["config.json", "model.safetensors", "original/params.json"] {
        fs::copy(data("model").join(name), dir.join(name)).unwrap();
    }
    (outer, dir)
}

fn args(dir: &Path) -> SignArgs {
    SignArgs {
        dir: dir.to_owned(),
        signer: SignerArgs { key: data("keys/sec1-p256.key"), certificate_chain: None },
        signature: None,
        ignore: vec![],
        force: false,
    }
}

fn done(args: &SignArgs) -> Signed {
    sign(args, &signer(&args.signer).unwrap(), false).unwrap()
}

fn refused(args: &SignArgs) -> String {
    signer(&args.signer).and_then(|signer| sign(args, &signer, false)).unwrap_err()
}

fn verified(dir: &Path, signature: Option<PathBuf>, ignore: &[&str]) -> Verified {
    let args = VerifyArgs {
        dir: dir.to_owned(),
        key: Some(data("keys/p256.pub")),
        certificate_chain: None,
        subject: None,
        san: None,
        issuer: None,
        identity: None,
        identity_regex: None,
        trusted_root: None,
        signature,
        ignore: ignore.iter().map(|path| (*path).to_owned()).collect(),
        ignore_unsigned: false,
        signature_only: false,
        output: Output::Text,
    };
    verify(&args, false).unwrap()
}

/// The statement in a bundle.
fn statement(bundle: &Path) -> Value {
    let bundle: Value = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(payload).unwrap()).unwrap()
}

#[test]
fn what_is_signed_is_verified_and_lists_what_the_reference_client_lists() {
    let (_outer, dir) = model();
    let signed = done(&args(&dir));
    assert_eq!((signed.files, signed.bytes, signed.left_out.as_slice()), (3, 68, [].as_slice()));
    assert_eq!(signed.signature, dir.join("model.sig"));
    let found = verified(&dir, None, &[]);
    assert_eq!((found.files, found.contents.unwrap().digest), (3, signed.digest));

    let (ours, theirs) = (statement(&signed.signature), statement(&data("p256.sig")));
    assert_eq!(ours["subject"], theirs["subject"], "the same name and root digest");
    assert_eq!(ours["predicate"]["resources"], theirs["predicate"]["resources"]);
    for field in ["method", "hash_type", "allow_symlinks"] {
        assert_eq!(ours["predicate"]["serialization"][field], theirs["predicate"]["serialization"][field]);
    }
}

#[test]
fn signing_again_gives_the_same_signature() {
    let (_outer, dir) = model();
    let first = fs::read(done(&args(&dir)).signature).unwrap();
    let again = done(&SignArgs { force: true, ..args(&dir) });
    assert_eq!(fs::read(again.signature).unwrap(), first);
}

#[test]
fn files_are_listed_in_the_order_of_their_code_points() {
    let (_outer, dir) = model();
    for name in ["a.b", "B", "é", "z", "\u{1f600}", "\u{ff5e}"] {
        fs::write(dir.join(name), name).unwrap();
    }
    fs::create_dir(dir.join("a")).unwrap();
    fs::write(dir.join("a/b"), "").unwrap();
    let statement = statement(&done(&args(&dir)).signature);
    let resources = statement["predicate"]["resources"].as_array().unwrap();
    let names: Vec<&str> = resources.iter().map(|resource| resource["name"].as_str().unwrap()).collect();
    let mut sorted = names.clone();
    sorted.sort_by(|a, b| a.chars().cmp(b.chars()));
    assert_eq!(names, sorted);
    assert!(names.starts_with(&["B", "a.b", "a/b"]), "{names:?}");
    verified(&dir, None, &[]);
}

#[test]
fn what_is_no_part_of_the_model_is_left_out_and_said() {
    let (_outer, dir) = model();
    fs::create_dir_all(dir.join(".git/objects")).unwrap();
    fs::create_dir_all(dir.join("original/.git")).unwrap();
    for path in [".git/HEAD", ".git/objects/x", ".gitattributes", "original/.git/HEAD", "notes.txt", "no-signature.sig"] {
        fs::write(dir.join(path), "x").unwrap();
    }
    symlink("HEAD", dir.join(".git/link")).unwrap();
    fs::copy(data("p384.sig"), dir.join("approval.sig")).unwrap();
    let signed = done(&SignArgs { ignore: vec!["notes.txt".to_owned()], ..args(&dir) });
    assert_eq!(signed.left_out, [".git", ".gitattributes", "approval.sig"]);
    assert_eq!(signed.files, 5, "what is only called like a signature, and what git keeps elsewhere, is signed");
    let statement = statement(&signed.signature);
    let told = statement["predicate"]["serialization"]["ignore_paths"].as_array().unwrap();
    for path in [".git", ".github", ".gitignore", ".gitattributes", "approval.sig", "notes.txt"] {
        assert!(told.iter().any(|it| it == path), "{path}: {told:?}");
    }
    let signer = signer(&args(&dir).signer).unwrap();
    let words = in_words(&SignArgs { ignore: vec!["notes.txt".to_owned()], ..args(&dir) }, &signed, &signer);
    assert!(words.contains("Left out, git's: .git, .gitattributes\nLeft out, another signature: approval.sig\n"), "{words}");
    assert!(words.contains("--ignore .git --ignore .gitattributes --ignore approval.sig --ignore notes.txt\n"), "{words}");
    verified(&dir, None, &[".git", ".gitattributes", "approval.sig", "notes.txt"]);
}

#[test]
fn the_signature_is_no_part_of_itself_wherever_it_is_written() {
    let (outer, dir) = model();
    for signature in [dir.join("ann.sig"), dir.join("original/ann.json"), outer.path().join("outside.sig")] {
        for _ in 0..2 {
            let signed = done(&SignArgs { signature: Some(signature.clone()), force: true, ..args(&dir) });
            assert_eq!(signed.files, 3, "{}", signature.display());
            verified(&dir, Some(signature.clone()), &[]);
        }
        fs::remove_file(signature).unwrap();
    }
}

#[test]
fn a_signature_that_is_there_stays_unless_asked_and_nothing_else_is_left_behind() {
    let (_outer, dir) = model();
    fs::write(dir.join("model.sig"), "theirs").unwrap();
    let message = refused(&args(&dir));
    assert!(message.contains("is there already") && message.contains("--force"), "{message}");
    assert_eq!(fs::read_to_string(dir.join("model.sig")).unwrap(), "theirs");
    done(&SignArgs { force: true, ..args(&dir) });
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "three entries and the signature");
    verified(&dir, None, &[]);
    let message = refused(&SignArgs { signature: Some(dir.join("original")), force: true, ..args(&dir) });
    assert!(message.contains("is a directory"), "{message}");
    let message = refused(&SignArgs { signature: Some(dir.join("nowhere/model.sig")), ..args(&dir) });
    assert!(message.contains("nowhere is no directory"), "{message}");
}

#[test]
fn what_can_be_no_part_of_a_model_is_refused_by_its_name() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 5] = [
        (|dir| symlink("config.json", dir.join("alias")).unwrap(), "alias cannot be part of a model: it is a symbolic link"),
        (|dir| symlink("original", dir.join("linked")).unwrap(), "linked cannot be part of a model: it is a symbolic link"),
        (|dir| drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap()), "socket cannot be part of a model"),
        (|dir| fs::write(dir.join("back\\slash"), "").unwrap(), "back\\\\slash"),
        (
            |dir| {
                use std::os::unix::ffi::OsStrExt as _;
                fs::write(dir.join(std::ffi::OsStr::from_bytes(b"\xff.bin")), "").unwrap();
            },
            "not UTF-8",
        ),
    ];
    for (spoil, fragment) in cases {
        let (_outer, dir) = model();
        spoil(&dir);
        let message = refused(&args(&dir));
        assert!(message.contains(fragment), "{fragment}: {message}");
        assert!(!dir.join("model.sig").exists(), "nothing is written");
    }
    let (_outer, dir) = model();
    for name in ["config.json", "model.safetensors", "original/params.json"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert!(refused(&args(&dir)).contains("no file"), "{}", refused(&args(&dir)));
}

#[test]
fn one_file_is_signed_under_its_name() {
    let (_outer, dir) = model();
    let signed = done(&args(&dir.join("model.safetensors")));
    assert_eq!((signed.files, signed.signature), (1, dir.join("model.safetensors.sig")));
    let bundle = fs::read(dir.join("model.safetensors.sig")).unwrap();
    let bundle = Bundle::parse(&bundle, Bundle::MAX_FILE).unwrap();
    assert!(matches!(bundle.claimed(), Contents::Tree(files) if files[0].0.as_str() == "model.safetensors"));
}

#[test]
fn a_key_of_no_use_is_named_with_its_file() {
    let (_outer, dir) = model();
    let with = |name: &str| SignArgs { signer: SignerArgs { key: data(name), certificate_chain: None }, ..args(&dir) };
    let message = refused(&with("keys/encrypted-sec1.key"));
    assert!(message.contains("encrypted-sec1.key: the key is encrypted") && message.contains("openssl pkey"), "{message}");
    assert!(refused(&with("keys/nothing.key")).contains("nothing.key cannot be read"));
}
