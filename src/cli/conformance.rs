//! `bonafide conformance`: what the conformance suite of OpenSSF Model Signing calls, with that suite's arguments.
//!
//! It asks less than `bonafide verify`: the suite names no signer under an authority, and leaves out what git keeps. Nobody
//! should rely on these commands, so the help does not show them.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::{
    USAGE, fail,
    sign::{SignArgs, SignerArgs, private_key, sign, words},
    verify::{Output, VerifyArgs, read, verify_by},
};
use crate::trust::{Anchor, Authority, Identity, LEFT_OUT, MAX_PEM, Pattern, PublicKey, Roots, Signer, TrustRoot, Wanted};

/// Sign and verify as the conformance suite of OpenSSF Model Signing asks for it
#[derive(Debug, Args)]
#[command(after_help = "Example:
  bonafide conformance verify-model --method key --model-path DIR --bundle FILE --public-key FILE")]
pub struct ConformanceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a signature
    #[command(after_help = "Example:
  bonafide conformance sign-model --method key --model-path DIR --output-bundle FILE --private-key FILE")]
    SignModel(SignModel),
    /// Check a signature
    #[command(after_help = "Example:
  bonafide conformance verify-model --method certificate --model-path DIR --bundle FILE --cert-chain FILE")]
    VerifyModel(VerifyModel),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    Key,
    Certificate,
    Sigstore,
}

#[derive(Debug, Args)]
struct SignModel {
    #[arg(long)]
    method: Method,
    #[arg(long)]
    model_path: PathBuf,
    #[arg(long)]
    output_bundle: PathBuf,
    #[arg(long)]
    private_key: Option<PathBuf>,
    #[arg(long)]
    signing_cert: Option<PathBuf>,
    #[arg(long)]
    cert_chain: Vec<PathBuf>,
    #[arg(long)]
    ignore_paths: Vec<PathBuf>,
    #[arg(long)]
    identity_token: Option<String>,
    #[arg(long)]
    use_staging: bool,
}

#[derive(Debug, Args)]
struct VerifyModel {
    #[arg(long)]
    method: Method,
    #[arg(long)]
    model_path: PathBuf,
    #[arg(long)]
    bundle: PathBuf,
    #[arg(long)]
    public_key: Option<PathBuf>,
    #[arg(long)]
    cert_chain: Vec<PathBuf>,
    #[arg(long)]
    ignore_paths: Vec<PathBuf>,
    #[arg(long)]
    ignore_unsigned_files: bool,
    #[arg(long)]
    identity: Option<String>,
    #[arg(long)]
    identity_provider: Option<String>,
    #[arg(long)]
    use_staging: bool,
}

const KEYLESS: &str = "models are not signed by the method sigstore here: it needs the network. They are verified.";

/// Runs one of the two.
pub fn run(args: &ConformanceArgs) -> ExitCode {
    let done = match &args.command {
        Command::SignModel(args) => sign_model(args),
        Command::VerifyModel(args) => verify_model(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(USAGE, message),
    }
}

fn sign_model(args: &SignModel) -> Result<(), String> {
    let needed = |path: &Option<PathBuf>, name: &str| path.clone().ok_or_else(|| format!("--{name} is needed."));
    let path = needed(&args.private_key, "private-key")?;
    let key = private_key(&path)?;
    let signer = match args.method {
        Method::Key => Signer::by_key(key),
        Method::Certificate => {
            let own = needed(&args.signing_cert, "signing-cert")?;
            let pem = texts([&own].into_iter().chain(&args.cert_chain))?;
            Signer::by_certificate(key, &pem, Timestamp::now()).map_err(|why| format!("{}: {why}.", own.display()))?
        }
        Method::Sigstore => return Err(KEYLESS.to_owned()),
    };
    let args = SignArgs {
        dir: args.model_path.clone(),
        signer: SignerArgs { key: path, certificate_chain: None },
        signature: Some(args.output_bundle.clone()),
        ignore: relative(&args.model_path, &args.ignore_paths),
        force: true,
    };
    sign(&args, &signer, false).map(drop)
}

fn verify_model(args: &VerifyModel) -> Result<(), String> {
    let anchor = match args.method {
        Method::Key => {
            let path = args.public_key.as_ref().ok_or("--public-key is needed.")?;
            let key = PublicKey::from_pem(&text(path, PublicKey::MAX_PEM)?);
            Anchor::Key(key.map_err(|error| format!("{}: {error}.", path.display()))?)
        }
        Method::Certificate => {
            let roots = Roots::from_pem(&texts(args.cert_chain.iter())?).map_err(|why| format!("--cert-chain: {why}."))?;
            let anybody = Wanted::new(Some(Pattern::regex(".+")), None).map_err(|(_, why)| format!("{why}."))?;
            Anchor::Certificate(Authority::new(roots, anybody))
        }
        Method::Sigstore if args.use_staging => return Err("the staging instance of Sigstore is not built in.".to_owned()),
        Method::Sigstore => Anchor::Keyless(identity(args)?),
    };
    let verify = VerifyArgs {
        dir: args.model_path.clone(),
        key: None,
        certificate_chain: None,
        subject: None,
        san: None,
        issuer: None,
        identity: None,
        identity_regex: None,
        trusted_root: None,
        signature: Some(args.bundle.clone()),
        ignore: LEFT_OUT.map(str::to_owned).into_iter().chain(relative(&args.model_path, &args.ignore_paths)).collect(),
        ignore_unsigned: args.ignore_unsigned_files,
        signature_only: false,
        output: Output::Text,
    };
    verify_by(&verify, &anchor, std::io::stderr().is_terminal()).map(drop).map_err(words)
}

fn identity(args: &VerifyModel) -> Result<Identity, String> {
    let name = args.identity.as_deref().ok_or("--identity is needed.")?;
    let issuer = args.identity_provider.as_deref().ok_or("--identity-provider is needed.")?;
    let name = Pattern::exact(name).map_err(|why| format!("--identity: {why}."))?;
    Identity::new(issuer, name, TrustRoot::public()?).map_err(|why| format!("--identity-provider: {why}."))
}

/// The suite names whole paths; those that do not lie in the model concern nobody.
fn relative(model: &Path, paths: &[PathBuf]) -> Vec<String> {
    paths.iter().filter_map(|path| path.strip_prefix(model).ok()?.to_str().map(str::to_owned)).collect()
}

fn text(path: &Path, max: usize) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&read(path, max).map_err(words)?).into_owned())
}

fn texts<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<String, String> {
    paths.map(|path| Ok(text(path, MAX_PEM)? + "\n")).collect()
}
