//! `bonafide verify`: is the model in this directory the one that was signed? Offline, with a public key, an authority or an
//! identity.

mod approved;
pub(super) mod hash;
mod parts;
#[cfg(test)]
mod tests;
pub(super) mod tree;

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    api::{Problem, Reason},
    model::{CleanPath, Digest, File, Manifest},
    trust::{Anchor, Authority, Bundle, Contents, Identity, Kind, MAX_PEM, Pattern, PublicKey, Roots, TrustRoot, Wanted},
    weights::WebManifest,
};
use tree::{Beside, Tree};

/// Check that the files in a directory are the ones that a key, a certificate's owner or an identity signed (OpenSSF Model Signing
/// v1.0)
///
/// Every file in DIR must be signed and every signed file must be there, with the signed content. Nothing is passed over
/// silently: what git and download tools leave behind counts as unsigned unless --ignore names it. Only a bonafide.json that is
/// there, as `bonafide manifest` writes it, is no part of the model, signed or not. Nothing is asked of the network.
///
/// Say in one of three ways whose signature you want: a public key (--key), a name that an authority of certificates gives
/// (--certificate-chain with --subject or --san), or an identity that Sigstore attests (--issuer with --identity or
/// --identity-regex), for models that were signed without a key of their own ("keyless").
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  verified
  1  not genuine: no signature, a signature that does not hold or cannot be used, another signer,
     a file that is missing, unsigned, or not as it was signed
  2  the answer is not known: wrong usage, or a file that could not be read

Examples:
  bonafide verify ./SmolLM2-135M --key platform.pub
  bonafide verify ./SmolLM2-135M --key platform.pub --ignore .git --ignore .gitattributes
  bonafide verify ./SmolLM2-135M --certificate-chain acme-ca.pem --subject 'CN=Models,O=Acme'
  bonafide verify ./SmolLM2-135M --certificate-chain acme-ca.pem --san email:models@acme.example
  bonafide verify ./SmolLM2-135M --key bob.pub --signature bob.sig   # an approval: bonafide approve -o bundle
  bonafide verify ./SmolLM2-135M --issuer https://accounts.google.com --identity models@acme.example
  bonafide verify ./SmolLM2-135M --issuer https://token.actions.githubusercontent.com \\
    --identity-regex 'https://github[.]com/acme/models/[.]github/workflows/sign[.]yaml@refs/tags/v[0-9.]+'")]
#[command(group(clap::ArgGroup::new("method").required(true).args(["key", "certificate_chain", "issuer"])))]
#[command(group(clap::ArgGroup::new("named").multiple(true).args(["subject", "san"])))]
#[command(group(clap::ArgGroup::new("identified").args(["identity", "identity_regex"])))]
pub struct VerifyArgs {
    /// The model's directory, or its only file
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The signer's public key: EC P-256, P-384 or P-521, PEM
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The certificates of the authority that issues the signer's certificate, PEM; needs --subject or --san
    ///
    /// The signer's certificate must be for code signing and valid now. The way from it to the authority comes with the signature.
    #[arg(long, alias = "certificate_chain", value_name = "FILE", requires = "named")]
    pub certificate_chain: Option<PathBuf>,
    /// The subject of the signer's certificate, as RFC 4514 writes it: openssl x509 -noout -subject -nameopt RFC2253 -in FILE
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key", "issuer"])]
    pub subject: Option<String>,
    /// A name beside the subject (subjectAltName): email:NAME, URI:NAME or DNS:NAME
    #[arg(long, value_name = "KIND:NAME", conflicts_with_all = ["key", "issuer"])]
    pub san: Option<String>,
    /// The issuer of identities that knows the signer, as a URL; needs --identity or --identity-regex
    ///
    /// It must be the one in the signer's certificate to the letter: no slash more at its end, and none less.
    #[arg(long, value_name = "URL", requires = "identified")]
    pub issuer: Option<String>,
    /// The signer's identity: a mail address, or the URI of a workflow
    #[arg(long, value_name = "ID", requires = "issuer", conflicts_with_all = ["key", "certificate_chain"])]
    pub identity: Option<String>,
    /// An expression that must fit the whole of the signer's identity, from its first character to its last
    #[arg(long, value_name = "PATTERN", requires = "issuer", conflicts_with_all = ["key", "certificate_chain"])]
    pub identity_regex: Option<String>,
    /// The trusted_root.json of a Sigstore instance of your own [default: the public instance, as this program knows it]
    #[arg(long, value_name = "FILE", requires = "issuer", conflicts_with_all = ["key", "certificate_chain"])]
    pub trusted_root: Option<PathBuf>,
    /// The signature [default: model.sig, else *.oms.sig, else *.sig in DIR]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// A file or directory, relative to DIR, that is no part of the model; may be given several times
    #[arg(long, value_name = "PATH")]
    pub ignore: Vec<String>,
    /// Accept files that are not signed; the signed ones are checked all the same
    #[arg(long)]
    pub ignore_unsigned: bool,
    /// Check the signature and which files there are, but read none of them: quick, and says nothing of their contents
    ///
    /// Exit code 0 then means only that the signature holds and that the names in DIR are the signed ones; `verified` stays
    /// false in the JSON output.
    #[arg(long)]
    pub signature_only: bool,
    /// How to write the result
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on stdout.
    Json,
}

/// What was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The hint of the key, or whom the certificate is for.
    pub signer: String,
    /// What that names, in words.
    pub kind: &'static str,
    /// How many files were signed.
    pub files: usize,
    /// Whether the manifest for a server of files lies beside them, which is no part of the model.
    pub manifest: bool,
    /// What reading them showed; none with `--signature-only`.
    pub contents: Option<Hashed>,
}

/// Files that were read and are as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Their bytes together.
    pub bytes: u64,
    /// The content digest that a ModelDeployment would have in its status if it served exactly these files; none for more
    /// files than it can serve.
    pub digest: Option<Digest>,
}

/// Why nothing was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The model is not what the key's owner signed.
    NotGenuine(Problem),
    /// The question could not be answered: usage, or an input that could not be read.
    Unknown(String),
}

/// Runs the command: writes the result and answers with the exit code.
pub fn run(args: &VerifyArgs) -> ExitCode {
    let result = verify(args, io::stderr().is_terminal());
    // A reader that has gone away changes neither the result nor the exit code.
    let _ = match args.output {
        Output::Json => writeln!(io::stdout().lock(), "{}", as_json(&result)),
        Output::Text => match &result {
            Ok(verified) => writeln!(io::stdout().lock(), "{}", in_words(verified)),
            Err(Failure::NotGenuine(problem)) => {
                writeln!(io::stderr().lock(), "{} is not genuine. {problem}", args.dir.display())
            }
            Err(Failure::Unknown(message)) => writeln!(io::stderr().lock(), "error: {message}"),
        },
    };
    ExitCode::from(code(&result))
}

/// What the shell is told.
const fn code(result: &Result<Verified, Failure>) -> u8 {
    match result {
        Ok(_) => 0,
        Err(Failure::NotGenuine(_)) => 1,
        Err(Failure::Unknown(_)) => 2,
    }
}

fn in_words(verified: &Verified) -> String {
    let Verified { signer, kind, files, manifest, contents } = verified;
    let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let mut words = match contents {
        None => {
            format!("The signature of {kind} {signer} holds, and the {files} it lists are there. Their contents were not read.")
        }
        Some(Hashed { bytes, digest }) => {
            let digest = digest.map(|digest| format!("\nContent digest of these files: {digest} (a deployment that serves fewer of them has another: status.model.digest)")).unwrap_or_default();
            format!("Verified: {files}, {bytes} bytes, signed by {kind} {signer}.{digest}")
        }
    };
    if *manifest {
        let file = WebManifest::FILE;
        words.push_str(&format!("\n{file} lists the files for a server: it is no part of the model, and it was not checked."));
    }
    words
}

fn as_json(result: &Result<Verified, Failure>) -> serde_json::Value {
    match result {
        Ok(verified) => json!({
            "verified": verified.contents.is_some(),
            "reason": if verified.contents.is_some() { Reason::Verified.as_str() } else { Reason::Signed.as_str() },
            "message": in_words(verified),
            "signer": verified.signer,
            "digest": verified.contents.as_ref().and_then(|contents| contents.digest),
            "files": verified.files,
            "bytes": verified.contents.as_ref().map(|contents| contents.bytes),
        }),
        Err(failure) => {
            let (reason, message) = match failure {
                Failure::NotGenuine(problem) => (problem.reason.as_str(), &problem.message),
                Failure::Unknown(message) => ("Unreadable", message),
            };
            json!({"verified": false, "reason": reason, "message": message, "signer": null, "digest": null, "files": null, "bytes": null})
        }
    }
}

/// Checks the model; `progress` says whether somebody watches stderr.
///
/// # Errors
/// See [`Failure`]; the first thing that is wrong, the cheap checks before the long ones.
pub fn verify(args: &VerifyArgs, progress: bool) -> Result<Verified, Failure> {
    args.ignore.iter().try_for_each(|path| ignored(path).map(drop))?;
    verify_by(args, &anchor(args)?, progress)
}

/// The same, by an anchor that is known already.
pub(super) fn verify_by(args: &VerifyArgs, anchor: &Anchor, progress: bool) -> Result<Verified, Failure> {
    let ignored = args.ignore.iter().map(|path| ignored(path)).collect::<Result<Vec<_>, _>>()?;
    let tree = Tree::at(&args.dir)?;
    let signature = match &args.signature {
        Some(path) => path.clone(),
        None => tree.find_signature()?,
    };
    let bundle = read(&signature, Bundle::MAX_FILE)?;
    let doubted = |rejected: crate::trust::Rejected| not_genuine(rejected.reason, format!("{} {rejected}.", signature.display()));
    let bundle = Bundle::parse_any(&bundle, Bundle::MAX_FILE).map_err(doubted)?;
    let (attested, signed_by) = bundle.verify_as(anchor, Timestamp::now(), &mut Vec::new()).map_err(doubted)?;
    let (kind, signer) = match anchor {
        Anchor::Key(key) => ("key", key.hint().to_string()),
        Anchor::Certificate(authority) => ("the owner of a certificate for", authority.wanted().to_string()),
        Anchor::Keyless(identity) => {
            let names = signed_by.names().collect::<Vec<_>>().join(", ");
            ("the identity", format!("{names} (issuer {})", identity.issuer()))
        }
    };

    let beside = tree.beside()?;
    let question = Question { tree: &tree, signature: &signature, beside, ignored: &ignored, args, progress };
    let (files, contents) = match attested.contents() {
        Contents::Tree(files) => question.files(files)?,
        Contents::Nameless(digest) => question.files(&[(tree.only_file(&signature, beside)?, *digest)])?,
        Contents::Whole(digest) => approved::check(&question, *digest)?,
        Contents::Parts(parts) => parts::check(&question, parts)?,
    };
    Ok(Verified { signer, kind, files, manifest: beside == Beside::Manifest, contents })
}

/// A signature that holds, and the tree that it is to be held against.
struct Question<'a> {
    tree: &'a Tree,
    signature: &'a Path,
    beside: Beside,
    ignored: &'a [CleanPath],
    args: &'a VerifyArgs,
    progress: bool,
}

impl Question<'_> {
    fn files(&self, signed: &[(CleanPath, Digest)]) -> Result<(usize, Option<Hashed>), Failure> {
        // Signed when it lay there, and written anew since.
        let signed: Vec<_> = signed.iter().filter(|(path, _)| !self.beside.is(path.as_str())).cloned().collect();
        self.names(&signed.iter().map(|(path, _)| path).collect::<Vec<_>>())?;
        let contents = match self.args.signature_only {
            true => None,
            false => Some(contents(self.tree.root(), &signed, self.progress)?),
        };
        Ok((signed.len(), contents))
    }

    /// Whether these are the files that are there, leaving their contents aside.
    fn names(&self, signed: &[&CleanPath]) -> Result<(), Failure> {
        let found = self.tree.compare(signed, self.signature, self.beside)?;
        found.check(self.ignored, self.args.ignore_unsigned)
    }
}

/// Whose signature is wanted.
fn anchor(args: &VerifyArgs) -> Result<Anchor, Failure> {
    let text = |path: &Path, max| Ok(String::from_utf8_lossy(&read(path, max)?).into_owned());
    let unusable = |path: &Path, why: String| Failure::Unknown(format!("{}: {why}.", path.display()));
    if let Some(path) = &args.key {
        let key = PublicKey::from_pem(&text(path, PublicKey::MAX_PEM)?);
        return key.map(Anchor::Key).map_err(|error| unusable(path, error.to_string()));
    }
    let wrong = |option: &str, why: String| Failure::Unknown(format!("--{option}: {why}."));
    if let Some(issuer) = &args.issuer {
        let (option, name) = match (&args.identity, &args.identity_regex) {
            (Some(name), None) => ("identity", Pattern::exact(name)),
            (None, Some(pattern)) => ("identity-regex", Pattern::regex(pattern)),
            _ => ("issuer", Err("one of --identity and --identity-regex is needed with it".to_owned())),
        };
        let name = name.map_err(|why| wrong(option, why))?;
        let root = match &args.trusted_root {
            Some(path) => TrustRoot::from_json(&text(path, TrustRoot::MAX_JSON)?).map_err(|why| unusable(path, why))?,
            None => TrustRoot::public().map_err(Failure::Unknown)?,
        };
        return Identity::new(issuer, name, root).map(Anchor::Keyless).map_err(|why| wrong("issuer", why));
    }
    let Some(path) = &args.certificate_chain else {
        return Err(Failure::Unknown("--key, --certificate-chain or --issuer is needed.".to_owned()));
    };
    let roots = Roots::from_pem(&text(path, MAX_PEM)?).map_err(|why| unusable(path, why))?;
    let san = args.san.as_deref().map(san).transpose()?;
    let wanted = Wanted::new(args.subject.as_deref().map(Pattern::exact), san).map_err(|(field, why)| wrong(field, why))?;
    Ok(Anchor::Certificate(Authority::new(roots, wanted)))
}

/// `email:ann@acme.example`, as openssl writes it.
fn san(text: &str) -> Result<(Kind, Result<Pattern, String>), Failure> {
    let (kind, name) = text.split_once(':').unwrap_or(("", text));
    let kind = match kind.to_ascii_lowercase().as_str() {
        "email" => Kind::Email,
        "uri" => Kind::Uri,
        "dns" => Kind::Dns,
        _ => return Err(Failure::Unknown(format!("--san: {text:?} is not email:NAME, URI:NAME or DNS:NAME."))),
    };
    Ok((kind, Pattern::exact(name)))
}

/// Reads every signed file and compares.
fn contents(root: &Path, signed: &[(CleanPath, Digest)], progress: bool) -> Result<Hashed, Failure> {
    let mut files = Vec::with_capacity(signed.len());
    let mut different = Vec::new();
    let paths: Vec<_> = signed.iter().map(|(path, _)| path).collect();
    for ((path, wanted), (size, sha256)) in signed.iter().zip(hash::all(root, &paths, progress)?) {
        if sha256 != *wanted {
            different.push((path, wanted, sha256));
        }
        files.push(File { path: path.clone(), size, sha256 });
    }
    if let Some((path, wanted, found)) = different.first() {
        let more = match different.len() - 1 {
            0 => String::new(),
            1 => " One more file differs.".to_owned(),
            more => format!(" {more} more files differ."),
        };
        let next = if tree::is_signature(path.as_str()) {
            format!(
                "It is another signature, and was made anew after this one: have the model signed again without it (bonafide sign leaves signatures out; model_signing sign needs --ignore-paths {}).",
                root.join(path.as_str()).display()
            )
        } else {
            "It was damaged or replaced after it was signed: fetch it again, and do not use it as it is.".to_owned()
        };
        let message = format!("{path}: signed as sha256 {}, found {}.{more} {next}", wanted.hex(), found.hex());
        return Err(not_genuine(Reason::DigestMismatch, message));
    }
    let bytes = files.iter().map(|file| file.size).sum();
    Ok(Hashed { bytes, digest: Manifest::new(files).ok().map(|manifest| manifest.digest()) })
}

pub(super) fn ignored(path: &str) -> Result<CleanPath, Failure> {
    path.trim_end_matches('/').parse().map_err(|error| Failure::Unknown(format!("--ignore: {error}.")))
}

/// A whole file of at most `max` bytes.
pub(super) fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(limit).read_to_end(&mut content).map_err(|error| unreadable(path, &error))?;
    if content.len() > max {
        return Err(Failure::Unknown(format!("{} is longer than {max} bytes, the most that is read here.", path.display())));
    }
    Ok(content)
}

fn not_genuine(reason: Reason, message: String) -> Failure {
    Failure::NotGenuine(Problem::new(reason, message))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Unknown(format!("{} cannot be read: {error}.", path.display()))
}
