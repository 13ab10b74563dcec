//! `bonafide manifest`: the manifest file that makes a directory on a server of files an `https://` source.

use std::{
    fmt, fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    USAGE, fail, print,
    verify::{Failure, hash},
};
use crate::{
    model::CleanPath,
    weights::{Listed, WebManifest},
};

/// Print the manifest of a directory, which makes it a source https://HOST/PATH/bonafide.json
///
/// Lists every file with its size and SHA-256, the signature (model.sig) too. Left out are .git, .cache and bonafide.json itself. Put the
/// manifest into the directory and the directory on any server that serves files; write it anew whenever a file changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  done
  2  a file could not be read, or cannot be part of a model

Example:
  bonafide manifest ./llama > ./llama/bonafide.json")]
pub struct ManifestArgs {
    /// The model's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Prints.
pub fn run(args: &ManifestArgs) -> ExitCode {
    match manifest(&args.dir) {
        Ok(text) => print(&text),
        Err(message) => fail(USAGE, message),
    }
}

fn manifest(dir: &Path) -> Result<String, String> {
    let mut paths = list(dir)?;
    paths.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    if paths.is_empty() {
        return Err(format!("{} has no file", dir.display()));
    }
    let progress = std::io::stderr().is_terminal();
    let hashes = hash::all(dir, &paths.iter().collect::<Vec<_>>(), progress).map_err(|failure| match failure {
        Failure::NotGenuine(problem) => problem.message,
        Failure::Unknown(message) => message,
    })?;
    let files: Vec<_> = paths
        .iter()
        .zip(hashes)
        .map(|(path, (size, sha256))| Listed { path: path.to_string(), size, sha256: sha256.hex() })
        .collect();
    // One line for each file, so that two manifests can be compared by eye.
    let lines = files.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok(format!("{{\"version\": {}, \"files\": [\n{}\n]}}\n", WebManifest::VERSION, lines.join(",\n")))
}

/// The files of the directory. Links and devices are refused: a server may send something else in their place, or nothing.
fn list(dir: &Path) -> Result<Vec<CleanPath>, String> {
    let unreadable = |path: &Path, error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).map_err(|error| unreadable(&directory, &error))? {
            let entry = entry.map_err(|error| unreadable(&directory, &error))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
            let root = directory == dir;
            if (kind.is_dir() && (name == ".git" || name == ".cache")) || (root && name == WebManifest::FILE) {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let relative = path.strip_prefix(dir).ok().and_then(Path::to_str).ok_or("its name is not UTF-8");
                let relative = relative.map_err(|error| unreadable(&path, &error))?;
                found.push(relative.parse().map_err(|error| unreadable(&path, &error))?);
            } else {
                let what = "it is a link or no file; put the file itself there (hf download --local-dir does)";
                return Err(unreadable(&path, &what));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::Digest;

    #[test]
    fn a_manifest_lists_every_file_of_the_model_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("model.gguf", "GGUF"),
            ("a/b.json", "{}"),
            ("model.sig", "{}"),
            (".git/HEAD", "x"),
            ("bonafide.json", ""),
            ("a/bonafide.json", ""),
        ] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), content).unwrap();
        }
        let text = manifest(dir.path()).unwrap();
        let read: WebManifest = serde_json::from_str(&text).unwrap();
        let paths: Vec<_> = read.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/b.json", "a/bonafide.json", "model.gguf", "model.sig"]);
        assert_eq!((read.files[2].size, &read.files[2].sha256), (4, &Digest::of("GGUF").hex()));
        assert_eq!(text.lines().count(), 6, "{text}");

        symlink("model.gguf", dir.path().join("link")).unwrap();
        assert!(manifest(dir.path()).unwrap_err().contains("link"));
        let empty = tempfile::tempdir().unwrap();
        assert!(manifest(empty.path()).unwrap_err().contains("no file"));
    }
}
