//! `bonafide sign`: writes the signature of a model, as OpenSSF Model Signing v1.0 has it.

#[cfg(test)]
mod tests;
mod write;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use jiff::Timestamp;
use p256::elliptic_curve::zeroize::Zeroizing;

use super::{
    USAGE, fail, print,
    verify::{
        Failure, hash, ignored, read,
        tree::{Listing, Tree},
    },
};
use crate::{
    model::{CleanPath, Digest, File, Manifest},
    trust::{Bundle, LEFT_OUT, MAX_PEM, PrivateKey, Signer},
};

/// Sign the files in a directory with a private key, and perhaps a certificate for it (OpenSSF Model Signing v1.0)
///
/// Every file is hashed, and the signature lists all of them by their names: a policy or `bonafide verify` then knows each
/// byte. Left out are the signature itself, other signatures beside it, what git keeps at the top (.git, .github, .gitignore,
/// .gitattributes), a bonafide.json as `bonafide manifest` writes it, and what --ignore names. A symbolic link, a device, or a
/// name that is not clean is refused: it could stand for something else tomorrow. Nothing is asked of the network, and the
/// private key is shown to nobody.
///
/// With --key alone whoever verifies needs the public key: openssl pkey -in KEY -pubout. With --certificate-chain too they need
/// the authority's certificate and the name in yours, and you can get a new key without telling them.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  signed
  2  not signed: a file that cannot be read or be part of a model, a key or certificate of no use,
     or a signature that is there already

Examples:
  openssl ecparam -name prime256v1 -genkey -noout -out ann.key     # once; keep it to yourself
  openssl pkey -in ann.key -pubout -out ann.pem                    # once; give it to whoever verifies
  bonafide sign ./SmolLM2-135M --key ann.key
  bonafide sign ./SmolLM2-135M --key ann.key --signature ann.sig   # beside the publisher's
  bonafide sign ./SmolLM2-135M --key ann.key --certificate-chain ann-chain.pem
  bonafide verify ./SmolLM2-135M --key ann.pem")]
pub struct SignArgs {
    /// The model's directory, or its only file
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub signer: SignerArgs,
    /// Where to write the signature [default: model.sig in DIR, or beside the file as FILE.sig]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// A file or directory, relative to DIR, that is no part of the model; may be given several times
    #[arg(long, value_name = "PATH")]
    pub ignore: Vec<String>,
    /// Write the signature anew although there is one
    #[arg(long)]
    pub force: bool,
}

/// Who signs.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Your private key: EC P-256, P-384 or P-521, PEM, not encrypted
    #[arg(long, alias = "private_key", value_name = "FILE")]
    pub key: PathBuf,
    /// Your certificate for that key and those above it, PEM, in any order; the authority's root may be left out
    ///
    /// Yours must be for code signing and valid now.
    #[arg(long, alias = "certificate_chain", value_name = "FILE")]
    pub certificate_chain: Option<PathBuf>,
}

/// What was signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Signed {
    /// Where the signature is.
    pub signature: PathBuf,
    /// How many files it lists, and their bytes together.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// Their content digest; none when they are more than a deployment can serve.
    pub digest: Option<Digest>,
    /// What lies in the directory and was left out.
    pub left_out: Vec<String>,
    /// How long the signature is.
    pub length: usize,
}

/// A model's files and what reading them showed.
pub(super) struct Model {
    pub name: String,
    pub files: Vec<File>,
    pub left_out: Vec<String>,
}

/// Runs the command.
pub fn run(args: &SignArgs) -> ExitCode {
    match signer(&args.signer).and_then(|signer| Ok((sign(args, &signer, io::stderr().is_terminal())?, signer))) {
        Ok((signed, signer)) => print(&in_words(args, &signed, &signer)),
        Err(message) => fail(USAGE, message),
    }
}

/// Signs; `progress` says whether somebody watches stderr.
///
/// # Errors
/// Why there is no signature, in sentences.
pub fn sign(args: &SignArgs, signer: &Signer, progress: bool) -> Result<Signed, String> {
    let tree = Tree::at(&args.dir).map_err(words)?;
    let signature = args.signature.clone().unwrap_or_else(|| tree.own_signature());
    write::refuse_existing(&signature, args.force)?;
    let model = model(&tree, Some(&signature), &args.ignore, progress)?;
    if model.files.len() > Bundle::MAX_RESOURCES {
        return Err(format!(
            "{} has {} files, more than the {} of a signature.",
            model.name,
            model.files.len(),
            Bundle::MAX_RESOURCES
        ));
    }
    let files: Vec<(CleanPath, Digest)> = model.files.iter().map(|file| (file.path.clone(), file.sha256)).collect();
    let ignored = args.ignore.iter().map(|path| path.trim_end_matches('/').to_owned());
    let told: Vec<String> = model.left_out.iter().cloned().chain(ignored).collect();
    let bundle = signer.signs_files(&model.name, &files, &told);
    write::write(&signature, &bundle, args.force)?;
    Ok(Signed {
        signature,
        files: model.files.len(),
        bytes: model.files.iter().map(|file| file.size).sum(),
        digest: Manifest::new(model.files).ok().map(|manifest| manifest.digest()),
        left_out: model.left_out,
        length: bundle.len(),
    })
}

/// Reads a key, and the certificates for it.
pub(super) fn signer(args: &SignerArgs) -> Result<Signer, String> {
    let key = private_key(&args.key)?;
    let Some(path) = &args.certificate_chain else { return Ok(Signer::by_key(key)) };
    let pem = read(path, MAX_PEM).map_err(words)?;
    let signer = Signer::by_certificate(key, &String::from_utf8_lossy(&pem), Timestamp::now());
    signer.map_err(|why| format!("{}: {why}.", path.display()))
}

/// Reads a private key. What was read is wiped from memory.
pub(super) fn private_key(path: &Path) -> Result<PrivateKey, String> {
    let pem = Zeroizing::new(read(path, PrivateKey::MAX_PEM).map_err(words)?);
    let text = std::str::from_utf8(&pem).map_err(|_| format!("{}: it is no text, and so no PEM.", path.display()))?;
    PrivateKey::from_pem(text).map_err(|error| format!("{}: {error}.", path.display()))
}

/// Lists and hashes what makes up a model.
pub(super) fn model(tree: &Tree, signature: Option<&Path>, ignore: &[String], progress: bool) -> Result<Model, String> {
    let ignore = ignore.iter().map(|path| ignored(path)).collect::<Result<Vec<_>, _>>().map_err(words)?;
    let Listing { files, left_out } = tree.model(signature, tree.beside().map_err(words)?, &ignore).map_err(words)?;
    let hashed = hash::all(tree.root(), &files.iter().collect::<Vec<_>>(), progress).map_err(words)?;
    let files = files.into_iter().zip(hashed).map(|(path, (size, sha256))| File { path, size, sha256 }).collect();
    Ok(Model { name: tree.name(), files, left_out })
}

/// What went wrong, in words.
pub(super) fn words(failure: Failure) -> String {
    match failure {
        Failure::NotGenuine(problem) => problem.message,
        Failure::Unknown(message) => message,
    }
}

/// By whom: the key, or whom the certificate is for.
pub(super) fn whose(signer: &Signer) -> String {
    match signer.subject() {
        Some(subject) => format!("the owner of a certificate for {subject}"),
        None => format!("key {}", signer.key().hint()),
    }
}

fn in_words(args: &SignArgs, signed: &Signed, signer: &Signer) -> String {
    let Signed { signature, files, bytes, digest, left_out, length } = signed;
    let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let mut words = format!("Signed: {files}, {bytes} bytes, by {}: {}\n", whose(signer), signature.display());
    if let Some(digest) = digest {
        words.push_str(&format!("Content digest of these files: {digest}\n"));
    }
    let of_git: Vec<&str> = left_out.iter().map(String::as_str).filter(|path| LEFT_OUT.contains(path)).collect();
    let others: Vec<&str> = left_out.iter().map(String::as_str).filter(|path| !LEFT_OUT.contains(path)).collect();
    for (paths, what) in [(of_git, "git's"), (others, "another signature")] {
        if !paths.is_empty() {
            words.push_str(&format!("Left out, {what}: {}\n", paths.join(", ")));
        }
    }
    if *length > Bundle::MAX_RECORDED {
        let max = Bundle::MAX_RECORDED;
        words.push_str(&format!(
            "It is {length} bytes long, and a cluster reads at most {max}: bonafide verify can check it, a policy cannot.\n"
        ));
    }
    let ignored: Vec<_> = left_out.iter().chain(&args.ignore).map(|path| format!(" --ignore {path}")).collect();
    let with = match signer.subject() {
        Some(subject) => format!("--certificate-chain AUTHORITY.pem --subject '{subject}'"),
        None => "--key PUBLIC.pem".to_owned(),
    };
    let elsewhere = args.signature.as_ref().map(|path| format!(" --signature {}", path.display())).unwrap_or_default();
    words.push_str(&format!("To check it: bonafide verify {} {with}{elsewhere}{}\n", args.dir.display(), ignored.concat()));
    words
}
