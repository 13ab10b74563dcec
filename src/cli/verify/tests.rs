use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oms").join(name)
}

/// A copy of the signed model with `p256.sig` beside it as `model.sig`.
fn model() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("original")).unwrap();
    for name in ["config.json", "model.safetensors", "original/params.json"] {
        fs::copy(data("model").join(name), dir.path().join(name)).unwrap();
    }
    fs::copy(data("p256.sig"), dir.path().join("model.sig")).unwrap();
    dir
}

fn args(dir: impl AsRef<Path>) -> VerifyArgs {
    VerifyArgs {
        dir: dir.as_ref().to_owned(),
        key: Some(data("p256.pub")),
        certificate_chain: None,
        subject: None,
        san: None,
        issuer: None,
        identity: None,
        identity_regex: None,
        trusted_root: None,
        signature: None,
        ignore: Vec::new(),
        ignore_unsigned: false,
        signature_only: false,
        output: Output::Text,
    }
}

fn check(args: &VerifyArgs) -> Result<Verified, Failure> {
    verify(args, false)
}

fn problem(args: &VerifyArgs) -> Problem {
    match check(args) {
        Err(Failure::NotGenuine(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

fn unknown(args: &VerifyArgs) -> String {
    match check(args) {
        Err(Failure::Unknown(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_as_the_reference_client_signed_it_is_verified() {
    for curve in ["p256", "p384", "p521"] {
        let args = VerifyArgs {
            key: Some(data(&format!("{curve}.pub"))),
            signature: Some(data(&format!("{curve}.sig"))),
            ..args(data("model"))
        };
        let verified = check(&args).unwrap();
        assert_eq!(verified.files, 3);
        assert_eq!(verified.contents.unwrap().bytes, 68);
    }
}

#[test]
fn the_content_digest_is_that_of_the_signed_files() {
    let dir = model();
    let file = |path: &str| {
        let content = fs::read(dir.path().join(path)).unwrap();
        File { path: path.parse().unwrap(), size: content.len() as u64, sha256: Digest::of(content) }
    };
    let manifest = Manifest::new(["config.json", "model.safetensors", "original/params.json"].map(file).to_vec()).unwrap();
    assert_eq!(check(&args(&dir)).unwrap().contents.unwrap().digest, Some(manifest.digest()));
}

#[test]
fn each_way_to_tamper_with_a_model_has_its_reason() {
    type Tamper = fn(&Path);
    let cases: [(Tamper, Reason, &str); 12] = [
        (
            |dir| fs::write(dir.join("model.safetensors"), "those are weights\n").unwrap(),
            Reason::DigestMismatch,
            "model.safetensors: signed as sha256 ",
        ),
        (|dir| fs::write(dir.join("model.safetensors"), "").unwrap(), Reason::DigestMismatch, "model.safetensors: "),
        (
            |dir| fs::remove_file(dir.join("config.json")).unwrap(),
            Reason::SignedFileMissing,
            "config.json was signed and is not there.",
        ),
        (|dir| fs::rename(dir.join("config.json"), dir.join("Config.json")).unwrap(), Reason::SignedFileMissing, "config.json "),
        (
            |dir| fs::write(dir.join("modeling_evil.py"), "import os").unwrap(),
            Reason::UnsignedFile,
            "modeling_evil.py is there and was not signed.",
        ),
        (
            |dir| {
                fs::create_dir(dir.join(".git")).unwrap();
                fs::write(dir.join(".git/evil.py"), "").unwrap();
            },
            Reason::UnsignedFile,
            ".git/evil.py is there",
        ),
        (|dir| fs::write(dir.join(".gitattributes"), "").unwrap(), Reason::UnsignedFile, ".gitattributes is there"),
        (
            |dir| {
                fs::create_dir_all(dir.join(".cache/huggingface")).unwrap();
                fs::write(dir.join(".cache/huggingface/x.metadata"), "").unwrap();
            },
            Reason::UnsignedFile,
            "--ignore .cache/huggingface",
        ),
        (
            |dir| {
                fs::rename(dir.join("config.json"), dir.join("original/config.json")).unwrap();
                symlink("original/config.json", dir.join("config.json")).unwrap();
            },
            Reason::SignedFileMissing,
            "config.json is a symbolic link",
        ),
        (
            |dir| {
                fs::rename(dir.join("original"), dir.join("elsewhere")).unwrap();
                symlink("elsewhere", dir.join("original")).unwrap();
            },
            Reason::SignedFileMissing,
            "original is a symbolic link",
        ),
        (|dir| symlink("config.json", dir.join("alias")).unwrap(), Reason::UnsignedFile, "alias (a symbolic link)"),
        (|dir| fs::write(dir.join("model.sig"), "junk").unwrap(), Reason::SignatureMalformed, "is not a Sigstore bundle"),
    ];
    for (tamper, reason, fragment) in cases {
        let dir = model();
        check(&args(&dir)).unwrap();
        tamper(dir.path());
        let problem = problem(&args(&dir));
        assert_eq!(problem.reason, reason, "{problem}");
        assert!(problem.message.contains(fragment), "{fragment}: {problem}");
    }
}

/// `model()` with the manifest that `bonafide manifest` writes for a server of files.
fn listed() -> TempDir {
    let dir = model();
    let manifest =
        format!(r#"{{"version": 1, "files": [{{"path": "config.json", "size": 3, "sha256": "{}"}}]}}"#, "0".repeat(64));
    fs::write(dir.path().join("bonafide.json"), manifest).unwrap();
    dir
}

#[test]
fn the_manifest_for_a_server_is_no_part_of_the_model_whenever_it_was_written() {
    let (dir, plain) = (listed(), model());
    let plain = check(&args(&plain)).unwrap().contents;
    let verified = check(&args(&dir)).unwrap();
    assert!(verified.manifest && in_words(&verified).contains("bonafide.json"), "{}", in_words(&verified));
    assert_eq!(verified.contents, plain, "and changes no digest");
    let quick = VerifyArgs { signature_only: true, ..args(&dir) };
    assert!(check(&quick).unwrap().manifest);

    // Signed with it there, by the reference client; then it was written anew, since it lists the signature.
    let signed = VerifyArgs { key: Some(data("publisher.pub")), ..args(&dir) };
    fs::copy(data("with-manifest.sig"), dir.path().join("model.sig")).unwrap();
    let verified = check(&signed).unwrap();
    assert_eq!((verified.files, verified.contents), (3, plain));
    fs::write(dir.path().join("bonafide.json"), "import os").unwrap();
    assert_eq!(problem(&signed).reason, Reason::DigestMismatch, "anything else of that name is a file like any other");
}

#[test]
fn a_manifest_that_was_signed_and_taken_away_is_missed_like_any_other_file() {
    let dir = listed();
    let signed = VerifyArgs { key: Some(data("publisher.pub")), ..args(&dir) };
    fs::copy(data("with-manifest.sig"), dir.path().join("model.sig")).unwrap();
    check(&signed).unwrap();
    fs::remove_file(dir.path().join("bonafide.json")).unwrap();
    let quick = VerifyArgs { signature_only: true, key: Some(data("publisher.pub")), ..args(&dir) };
    let lenient = VerifyArgs {
        ignore_unsigned: true,
        ignore: vec!["bonafide.json".to_owned()],
        key: Some(data("publisher.pub")),
        ..args(&dir)
    };
    for args in [signed, quick, lenient] {
        let problem = problem(&args);
        assert_eq!(problem.reason, Reason::SignedFileMissing);
        assert!(problem.message.starts_with("bonafide.json was signed and is not there."), "{problem}");
        assert!(problem.message.contains("bonafide manifest"), "{problem}");
    }
}

#[test]
fn a_manifest_is_one_here_exactly_when_it_is_one_to_those_who_fetch() {
    let dir = model();
    let write = |text: &str| fs::write(dir.path().join("bonafide.json"), text).unwrap();
    let file = |more: &str| format!(r#"{{"path": "config.json", "size": 3, "sha256": "{}"{more}}}"#, "0".repeat(64));
    // Members that nobody knows are passed over, on both levels.
    write(&format!(r#"{{"generator": {{"name": "ours"}}, "files": [{}]}}"#, file(r#", "mode": "0644""#)));
    assert!(check(&args(&dir)).unwrap().manifest);
    let twice = format!(r#"{{"files": [{0}], "files": [{0}]}}"#, file(""));
    for text in [twice, format!("{{\"files\": [{}]}}{}", file(""), "import os"), format!("[{}]", file(""))] {
        write(&text);
        assert_eq!(problem(&args(&dir)).reason, Reason::UnsignedFile, "{text}");
    }
    // One that is too long to be fetched.
    write(&format!(r#"{{"files": [{}], "more": "{}"}}"#, file(""), "x".repeat(WebManifest::MAX)));
    assert_eq!(problem(&args(&dir)).reason, Reason::UnsignedFile);
}

#[test]
fn what_is_called_like_the_manifest_and_is_none_is_unsigned() {
    let dir = model();
    for text in ["import os", "{}", r#"{"version": 2, "files": []}"#, r#"{"files": [{"path": "a", "size": 1, "sha256": "x"}]}"#] {
        fs::write(dir.path().join("bonafide.json"), text).unwrap();
        assert_eq!(problem(&args(&dir)).reason, Reason::UnsignedFile, "{text}");
    }
    fs::remove_file(dir.path().join("bonafide.json")).unwrap();
    let manifest = listed();
    fs::rename(manifest.path().join("bonafide.json"), dir.path().join("original/bonafide.json")).unwrap();
    assert!(problem(&args(&dir)).message.starts_with("original/bonafide.json is there"), "only at the root");
    // Beside one at the root the other is no manifest either.
    fs::copy(dir.path().join("original/bonafide.json"), dir.path().join("bonafide.json")).unwrap();
    assert!(problem(&args(&dir)).message.starts_with("original/bonafide.json is there"));
    fs::remove_file(dir.path().join("bonafide.json")).unwrap();
    // What a link leads to can change at any time, a manifest or not.
    for target in ["config.json", "original/bonafide.json"] {
        symlink(target, dir.path().join("bonafide.json")).unwrap();
        let ignoring = VerifyArgs { ignore: vec!["original/bonafide.json".to_owned()], ..args(&dir) };
        assert!(problem(&ignoring).message.starts_with("bonafide.json (a symbolic link)"), "{target}");
        fs::remove_file(dir.path().join("bonafide.json")).unwrap();
    }
}

#[test]
fn another_signature_beside_it_is_told_from_other_files() {
    let dir = model();
    fs::write(dir.path().join("approval.sig"), "{}").unwrap();
    let message = problem(&args(&dir)).message;
    assert!(message.contains("another signature") && message.contains("--ignore approval.sig"), "{message}");
    let ignoring = VerifyArgs { ignore: vec!["approval.sig".to_owned()], ..args(&dir) };
    check(&ignoring).unwrap();

    // Made while model.sig lay there, which was made anew since.
    fs::copy(data("p384.sig"), dir.path().join("model.sig")).unwrap();
    let approval = VerifyArgs { signature: Some(data("after-another.sig")), key: Some(data("publisher.pub")), ..ignoring };
    let problem = problem(&approval);
    assert_eq!(problem.reason, Reason::DigestMismatch);
    assert!(problem.message.contains(&format!("--ignore-paths {}", dir.path().join("model.sig").display())), "{problem}");
}

#[test]
fn an_empty_directory_more_does_not_matter() {
    let dir = model();
    fs::create_dir_all(dir.path().join("empty/empty")).unwrap();
    check(&args(&dir)).unwrap();
}

#[test]
fn every_changed_file_is_counted() {
    let dir = model();
    for name in ["config.json", "model.safetensors"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let message = problem(&args(&dir)).message;
    assert!(message.starts_with("config.json: ") && message.contains("One more file differs."), "{message}");
}

#[test]
fn unsigned_files_are_accepted_only_when_asked_and_never_instead_of_signed_ones() {
    let dir = model();
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/HEAD"), "").unwrap();
    assert_eq!(problem(&args(&dir)).reason, Reason::UnsignedFile);
    let any = VerifyArgs { ignore_unsigned: true, ..args(&dir) };
    check(&any).unwrap();
    let named = |paths: &[&str]| VerifyArgs { ignore: paths.iter().map(|path| (*path).to_owned()).collect(), ..args(&dir) };
    check(&named(&["notes.txt", ".git/"])).unwrap();
    assert!(problem(&named(&[".git"])).message.starts_with("notes.txt "));
    assert!(problem(&named(&["notes.txt", ".gi"])).message.starts_with(".git/HEAD "));
    fs::write(dir.path().join("config.json"), "x").unwrap();
    assert_eq!(problem(&any).reason, Reason::DigestMismatch);
    assert_eq!(problem(&named(&["notes.txt", ".git", "config.json"])).reason, Reason::DigestMismatch);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_eq!(problem(&any).reason, Reason::SignedFileMissing);
}

#[test]
fn another_key_is_told_by_both_hints() {
    let dir = model();
    let wrong = VerifyArgs { key: Some(data("p384.pub")), ..args(&dir) };
    let problem = problem(&wrong);
    assert_eq!(problem.reason, Reason::WrongSigner);
    for name in ["p256.pub", "p384.pub"] {
        let key = PublicKey::from_pem(&fs::read_to_string(data(name)).unwrap()).unwrap();
        assert!(problem.message.contains(key.hint().as_str()), "{problem}");
    }
}

#[test]
fn the_signature_is_found_beside_the_model() {
    let dir = model();
    let rename = |from: &str, to: &str| fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    rename("model.sig", "approval.sig");
    check(&args(&dir)).unwrap();
    rename("approval.sig", "approval.oms.sig");
    check(&args(&dir)).unwrap();
    fs::write(dir.path().join("other.sig"), "").unwrap();
    assert!(problem(&args(&dir)).message.starts_with("other.sig is there"), "*.oms.sig before *.sig");
    rename("approval.oms.sig", "approval.sig");
    let message = unknown(&args(&dir));
    assert!(message.contains("several signatures: approval.sig, other.sig"), "{message}");
    rename("approval.sig", "model.sig");
    assert!(problem(&args(&dir)).message.starts_with("other.sig is there"), "model.sig before all");
    fs::remove_file(dir.path().join("other.sig")).unwrap();
    fs::remove_file(dir.path().join("model.sig")).unwrap();
    assert_eq!(problem(&args(&dir)).reason, Reason::Unsigned);
}

#[test]
fn one_file_can_be_verified_by_itself() {
    let dir = model();
    let alone = VerifyArgs { signature: Some(data("one-file.sig")), ..args(dir.path().join("model.safetensors")) };
    assert_eq!(check(&alone).unwrap().files, 1);
    let whole = VerifyArgs { dir: dir.path().to_owned(), ..alone };
    assert!(problem(&whole).message.contains("a single file, and there are 4"), "{:?}", check(&whole));
    fs::write(dir.path().join("model.safetensors"), "x").unwrap();
    let alone = VerifyArgs { dir: dir.path().join("model.safetensors"), ..whole };
    assert_eq!(problem(&alone).reason, Reason::DigestMismatch);
    assert_eq!(problem(&args(dir.path().join("config.json"))).reason, Reason::SignedFileMissing, "one of several signed files");

    // Alone with its signature and the manifest for a server it needs no name.
    let dir = listed();
    for name in ["config.json", "original/params.json"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::copy(data("one-file.sig"), dir.path().join("model.sig")).unwrap();
    assert_eq!(check(&args(&dir)).unwrap().files, 1);
    // A signature of another name is not taken for that of a file.
    fs::rename(dir.path().join("model.sig"), dir.path().join("other.sig")).unwrap();
    assert_eq!(problem(&args(dir.path().join("model.safetensors"))).reason, Reason::Unsigned);
    fs::rename(dir.path().join("other.sig"), dir.path().join("model.safetensors.sig")).unwrap();
    assert_eq!(check(&args(dir.path().join("model.safetensors"))).unwrap().files, 1);
}

#[test]
fn without_reading_files_nothing_is_said_of_their_contents() {
    let dir = model();
    fs::write(dir.path().join("model.safetensors"), "x").unwrap();
    let quick = VerifyArgs { signature_only: true, ..args(&dir) };
    let verified = check(&quick).unwrap();
    assert_eq!(verified.contents, None);
    assert_eq!(as_json(&Ok(verified))["verified"], false);
    fs::write(dir.path().join("more.bin"), "x").unwrap();
    assert_eq!(problem(&quick).reason, Reason::UnsignedFile);
}

#[test]
fn what_cannot_be_read_is_not_called_tampered_with() {
    let dir = model();
    for (args, fragment) in [
        (args(dir.path().join("nowhere")), "nowhere"),
        (VerifyArgs { key: Some(data("nothing.pub")), ..args(&dir) }, "nothing.pub"),
        (VerifyArgs { key: Some(data("rsa.pub")), ..args(&dir) }, "an RSA key"),
        (VerifyArgs { signature: Some(data("nothing.sig")), ..args(&dir) }, "nothing.sig"),
        (VerifyArgs { ignore: vec!["../x".to_owned()], ..args(&dir) }, "--ignore"),
    ] {
        let message = unknown(&args);
        assert!(message.contains(fragment), "{message}");
    }
}

#[test]
fn the_exit_code_tells_what_is_not_genuine_from_what_is_not_known() {
    let dir = model();
    assert_eq!(code(&check(&args(&dir))), 0);
    assert_eq!(code(&check(&args(dir.path().join("nowhere")))), 2);
    fs::write(dir.path().join("config.json"), "x").unwrap();
    assert_eq!(code(&check(&args(&dir))), 1);
}

#[test]
fn an_input_that_is_longer_than_any_of_its_kind_is_not_read_to_its_end() {
    let dir = model();
    let key = dir.path().join("long.pub");
    fs::write(&key, format!("{}{}", fs::read_to_string(data("p256.pub")).unwrap(), " ".repeat(PublicKey::MAX_PEM))).unwrap();
    let message = unknown(&VerifyArgs { key: Some(key), ..args(&dir) });
    assert!(message.contains(&format!("longer than {} bytes", PublicKey::MAX_PEM)), "{message}");
}

#[test]
fn a_file_that_became_a_link_since_it_was_listed_is_not_read() {
    let dir = model();
    symlink("config.json", dir.path().join("alias")).unwrap();
    assert!(hash::file(&dir.path().join("config.json")).is_ok());
    assert!(hash::file(&dir.path().join("alias")).unwrap_err().to_string().contains("replaced"));
}

#[test]
fn json_says_what_was_found() {
    let dir = model();
    let good = as_json(&check(&args(&dir)));
    assert_eq!((good["verified"].as_bool(), good["files"].as_u64(), good["bytes"].as_u64()), (Some(true), Some(3), Some(68)));
    assert!(good["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(good["signer"].as_str().unwrap().len(), 64);
    fs::write(dir.path().join("config.json"), "x").unwrap();
    let bad = as_json(&check(&args(&dir)));
    assert_eq!((bad["verified"].as_bool(), bad["reason"].as_str()), (Some(false), Some("DigestMismatch")));
}

#[test]
fn a_socket_in_the_place_of_a_file_is_not_opened() {
    let dir = model();
    let path = dir.path().join("config.json");
    fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let problem = problem(&args(&dir));
    assert_eq!(problem.reason, Reason::SignedFileMissing);
    assert!(problem.message.contains("neither a file nor a directory"), "{problem}");
}

#[test]
fn a_name_that_is_not_utf_8_passes_for_no_signed_one() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = model();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.bin")), "").unwrap();
    let problem = problem(&args(&dir));
    assert_eq!(problem.reason, Reason::UnsignedFile);
    assert!(problem.message.contains("not UTF-8"), "{problem}");
}

#[test]
fn a_model_that_a_certificate_signed_is_verified_by_its_authority_and_a_name() {
    let by = |signature: &str, subject: Option<&str>, san: Option<&str>| VerifyArgs {
        key: None,
        certificate_chain: Some(data("acme-root.pem")),
        subject: subject.map(str::to_owned),
        san: san.map(str::to_owned),
        signature: Some(data(signature)),
        ..args(data("model"))
    };
    let models = Some("CN=Models,O=Acme,C=NL");
    for good in
        [by("acme.sig", models, None), by("acme-p521.sig", models, None), by("acme.sig", None, Some("email:models@acme.example"))]
    {
        assert_eq!(check(&good).unwrap().files, 3);
    }
    let words = in_words(&check(&by("acme.sig", models, None)).unwrap());
    assert!(words.contains("signed by the owner of a certificate for CN=Models,O=Acme,C=NL."), "{words}");
    assert_eq!(problem(&by("acme-expired.sig", models, None)).reason, Reason::CertificateExpired);
    assert_eq!(problem(&by("acme-tls.sig", Some("CN=www.acme.example,O=Acme,C=NL"), None)).reason, Reason::CertificateUnfit);
    assert_eq!(problem(&by("acme.sig", Some("CN=Models"), None)).reason, Reason::WrongSigner);
    assert_eq!(problem(&by("p256.sig", models, None)).reason, Reason::WrongSigner);
    assert_eq!(problem(&by("certificate.sig", Some("CN=leaf"), None)).reason, Reason::WrongSigner, "another authority");
    assert!(unknown(&by("acme.sig", Some("Models"), None)).contains("--subject"));
    assert!(unknown(&by("acme.sig", None, Some("models@acme.example"))).contains("email:NAME"));
    let not_an_authority = VerifyArgs { certificate_chain: Some(data("p256.pub")), ..by("acme.sig", models, None) };
    assert!(unknown(&not_an_authority).contains("p256.pub"));
}

#[test]
fn an_authority_without_a_name_is_wrong_usage() {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: VerifyArgs,
    }
    let parse = |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' ')).map(|line| line.args);
    assert!(parse("verify d --key k").is_ok());
    assert!(parse("verify d --certificate-chain c --subject CN=a").is_ok());
    assert!(parse("verify d --certificate_chain c --san email:a --subject CN=a").is_ok());
    assert!(parse("verify d --issuer https://a --identity a@b").is_ok());
    assert!(parse("verify d --issuer https://a --identity-regex a@.+ --trusted-root r.json").is_ok());
    for wrong in [
        "verify d",
        "verify d --certificate-chain c",
        "verify d --key k --certificate-chain c --subject CN=a",
        "verify d --key k --subject CN=a",
        "verify d --issuer https://a",
        "verify d --identity a@b",
        "verify d --issuer https://a --identity a --identity-regex a",
        "verify d --issuer https://a --identity a --subject CN=a",
        "verify d --issuer https://a --identity a --key k",
        "verify d --issuer https://a --identity a --certificate-chain c --subject CN=a",
        "verify d --key k --trusted-root r",
        "verify d --key k --identity a",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    let told = parse("verify d --key k --identity a --issuer https://a").unwrap_err().to_string();
    assert!(told.contains("the argument '--key <FILE>' cannot be used with"), "{told}");
    let told = parse("verify d --identity a").unwrap_err().to_string();
    assert!(told.contains("--issuer <URL>"), "{told}");
    let told = parse("verify d --issuer https://a").unwrap_err().to_string();
    assert!(told.contains("<--identity <ID>|--identity-regex <PATTERN>>"), "{told}");
}

#[test]
fn a_model_that_an_identity_signed_is_verified_with_no_network() {
    use crate::trust::tests::sigstore::{ISSUER, Sigstore};

    const MODELS: &str = "models@acme.example";
    let (dir, sigstore) = (model(), Sigstore::new());
    let files: Vec<_> = ["config.json", "model.safetensors", "original/params.json"]
        .map(|name| (name, fs::read_to_string(dir.path().join(name)).unwrap()))
        .into();
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let elsewhere = TempDir::new().unwrap();
    let root = elsewhere.path().join("root.json");
    fs::write(dir.path().join("model.sig"), sigstore.signs(MODELS, &files).text()).unwrap();
    fs::write(&root, sigstore.trusted_root().to_string()).unwrap();
    let by = |issuer: &str, identity: Option<&str>, pattern: Option<&str>| VerifyArgs {
        key: None,
        issuer: Some(issuer.to_owned()),
        identity: identity.map(str::to_owned),
        identity_regex: pattern.map(str::to_owned),
        trusted_root: Some(root.clone()),
        ..args(&dir)
    };
    let words = in_words(&check(&by(ISSUER, Some(MODELS), None)).unwrap());
    assert!(
        words.contains("signed by the identity email:models@acme.example (issuer https://accounts.acme.example)."),
        "{words}"
    );
    let words = in_words(&check(&by(ISSUER, None, Some("models@acme[.]example"))).unwrap());
    assert!(words.contains("signed by the identity email:models@acme.example ("), "the name, not the pattern: {words}");
    for (args, fragment) in [
        (by(ISSUER, Some("ann@acme.example"), None), "was signed by models@acme.example (issuer"),
        (by("https://other.example", Some(MODELS), None), "and wanted is models@acme.example (issuer https://other.example)"),
        (by(ISSUER, None, Some("models@acme")), "and wanted is the pattern models@acme"),
        (VerifyArgs { trusted_root: None, ..by(ISSUER, Some(MODELS), None) }, "which Sigstore's public instance does not have"),
    ] {
        let problem = problem(&args);
        assert!(problem.reason == Reason::WrongSigner && problem.message.contains(fragment), "{fragment}: {problem}");
    }
    assert!(unknown(&by("accounts.google.com", Some(MODELS), None)).starts_with("--issuer: "));
    assert!(unknown(&by(ISSUER, None, Some(".*"))).starts_with("--identity-regex: "));
    assert!(unknown(&by(ISSUER, Some(""), None)).starts_with("--identity: "));
    let no_root = VerifyArgs { trusted_root: Some(data("p256.pub")), ..by(ISSUER, Some(MODELS), None) };
    assert!(unknown(&no_root).contains("p256.pub: it cannot be read"), "{}", unknown(&no_root));
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert_eq!(problem(&by(ISSUER, Some(MODELS), None)).reason, Reason::DigestMismatch);
}

#[test]
fn parts_of_files_and_blake3_are_checked_where_the_files_are() {
    for (name, key) in [("shards.sig", "p256.pub"), ("blake3.sig", "p256.pub"), ("blake2b.sig", "keys/p256.pub")] {
        let dir = model();
        fs::copy(data(name), dir.path().join("model.sig")).unwrap();
        let with = |signature_only| VerifyArgs { key: Some(data(key)), signature_only, ..args(&dir) };
        let verified = check(&with(false)).unwrap();
        assert_eq!(verified.files, 3, "{name}");
        let plain = model();
        assert_eq!(verified.contents, check(&args(&plain)).unwrap().contents, "{name}: the same content digest");
        assert_eq!(check(&with(true)).unwrap().contents, None);
    }
}

#[test]
fn a_file_that_differs_from_its_parts_is_told_with_the_place() {
    type Tamper = fn(&mut Vec<u8>);
    let cases: [(&str, Tamper, &str); 7] = [
        ("shards.sig", |content| content[9] ^= 1, "model.safetensors: bytes 8 to 16 signed as sha256 "),
        ("shards.sig", |content| content[0] ^= 1, "model.safetensors: bytes 0 to 8 signed as sha256 "),
        ("shards.sig", |content| content.truncate(3), "model.safetensors: bytes 0 to 8 signed as sha256 "),
        ("shards.sig", |content| content.truncate(8), "model.safetensors: bytes 8 to 16 signed as sha256 "),
        ("shards.sig", |content| content.push(b'x'), "model.safetensors: signed with 18 bytes, found 19."),
        ("blake3.sig", |content| content[9] ^= 1, "model.safetensors: signed as blake3 194e68c5"),
        ("blake3.sig", Vec::clear, "model.safetensors: signed as blake3 194e68c5"),
    ];
    for (signature, tamper, fragment) in cases {
        let dir = model();
        fs::copy(data(signature), dir.path().join("model.sig")).unwrap();
        let path = dir.path().join("model.safetensors");
        let mut content = fs::read(&path).unwrap();
        tamper(&mut content);
        fs::write(&path, content).unwrap();
        let problem = problem(&args(&dir));
        assert_eq!(problem.reason, Reason::DigestMismatch);
        assert!(problem.message.starts_with(fragment), "{fragment}: {problem}");
    }
    let dir = model();
    fs::copy(data("shards.sig"), dir.path().join("model.sig")).unwrap();
    fs::write(dir.path().join("empty.py"), "").unwrap();
    assert_eq!(problem(&args(&dir)).reason, Reason::UnsignedFile, "parts cannot list an empty file");
}

#[test]
fn an_approval_holds_for_all_files_together() {
    let dir = model();
    fs::remove_file(dir.path().join("model.sig")).unwrap();
    let digest =
        check(&VerifyArgs { signature: Some(data("p256.sig")), ..args(&dir) }).unwrap().contents.unwrap().digest.unwrap();
    let key = crate::trust::PrivateKey::from_pem(&fs::read_to_string(data("keys/sec1-p521.key")).unwrap()).unwrap();
    let outside = TempDir::new().unwrap();
    let signature = outside.path().join("bob.sig");
    fs::write(&signature, crate::trust::Signer::by_key(key).approves(digest, None, Timestamp::now())).unwrap();
    let by_bob = |ignore: &[&str]| VerifyArgs {
        key: Some(data("keys/p521.pub")),
        signature: Some(signature.clone()),
        ignore: ignore.iter().map(|path| (*path).to_owned()).collect(),
        ..args(&dir)
    };
    let verified = check(&by_bob(&[])).unwrap();
    assert_eq!((verified.files, verified.contents.unwrap().digest), (3, Some(digest)));
    let message = unknown(&VerifyArgs { signature_only: true, ..by_bob(&[]) });
    assert!(message.contains("lists no files"), "{message}");

    fs::copy(data("p256.sig"), dir.path().join("model.sig")).unwrap();
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/HEAD"), "x").unwrap();
    assert!(problem(&by_bob(&["model.sig"])).message.contains(".git is there"));
    assert!(problem(&by_bob(&[".git"])).message.contains("model.sig is there"));
    assert!(check(&by_bob(&[".git", "model.sig"])).is_ok());

    fs::write(dir.path().join("config.json"), "x").unwrap();
    let problem = problem(&by_bob(&[".git", "model.sig"]));
    assert_eq!(problem.reason, Reason::DigestMismatch);
    assert!(problem.message.contains(&digest.to_string()), "{problem}");
}
