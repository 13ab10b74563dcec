//! One layer of an image: a tar archive, compressed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// What a layer holds.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Files, each with its path.
    Entries(Vec<Entry>),
    /// The contents of an uncompressed tar archive.
    Tar(PathBuf),
}

/// One file of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its absolute path in the image.
    pub path: String,
    /// Its permissions: 0o755, for example. A link has none of its own.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What a file of a layer is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A directory.
    Directory,
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes of a file of this machine; links are followed.
    File(PathBuf),
    /// A symbolic link to this path.
    Link(String),
}

/// A layer that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The compressed archive.
    pub file: PathBuf,
    /// Of the compressed archive: what registries know it by, as `sha256:` and hex digits.
    pub digest: String,
    /// Of the archive before compression: what the image's configuration lists.
    pub diff_id: String,
    /// Of the compressed archive, in bytes.
    pub size: u64,
}

impl Entry {
    /// A file of this machine, or a directory with all there is in it, at `path` in the image. Whether a file can be
    /// executed is kept; owners are not.
    pub fn of_machine(source: &Path, path: &str) -> Result<Vec<Self>> {
        let metadata = fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
        if !metadata.is_dir() {
            let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            return Ok(vec![Self { path: path.to_owned(), mode, content: Content::File(source.to_owned()) }]);
        }
        let mut entries = vec![Self { path: path.to_owned(), mode: 0o755, content: Content::Directory }];
        let mut names = Vec::new();
        for entry in fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))? {
            names.push(entry.with_context(|| format!("cannot read {}", source.display()))?.file_name());
        }
        names.sort();
        for name in names {
            let text = name.to_str().with_context(|| format!("a name in {} is not UTF-8", source.display()))?;
            entries.extend(Self::of_machine(&source.join(&name), &format!("{}/{text}", path.trim_end_matches('/')))?);
        }
        Ok(entries)
    }
}

impl Layer {
    /// A short name that changes with the contents, before compression.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut sink = Hashing { hash: Sha256::new(), inner: io::sink() };
        self.contents(&mut sink)?;
        Ok(spell(sink.hash).trim_start_matches("sha256:").chars().take(12).collect())
    }

    /// Archives are large: a tenth more bytes for a third of the time.
    const fn effort(&self) -> &'static str {
        match self {
            Self::Entries(_) => "-6",
            Self::Tar(_) => "-1",
        }
    }

    fn contents(&self, sink: &mut impl Write) -> Result<()> {
        match self {
            Self::Entries(entries) => write_entries(entries, sink),
            Self::Tar(tar) => copy(tar, sink),
        }
    }

    /// Writes the layer to `file`. The same contents give the same bytes: nothing of the time or the user goes in.
    pub(super) fn write(&self, file: &Path) -> Result<Written> {
        let output = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let mut gzip = Command::new("gzip")
            .args(["--no-name", "--stdout", self.effort()])
            .stdin(Stdio::piped())
            .stdout(output)
            .spawn()
            .context("cannot run gzip, which layers are compressed with")?;
        let input = gzip.stdin.take().context("gzip has no input")?;
        let mut sink = Hashing { hash: Sha256::new(), inner: input };
        let written = self.contents(&mut sink);
        let Hashing { hash, inner } = sink;
        drop(inner);
        let status = gzip.wait().context("cannot wait for gzip")?;
        written?;
        if !status.success() {
            bail!("gzip failed ({status}) writing {}", file.display());
        }
        let (digest, size) = digest_of(file)?;
        Ok(Written { file: file.to_owned(), digest, diff_id: spell(hash), size })
    }
}

fn write_entries(entries: &[Entry], sink: &mut impl Write) -> Result<()> {
    let mut archive = tar::Builder::new(sink);
    let mut made = std::collections::BTreeSet::new();
    for entry in entries {
        let Some(path) =
            entry.path.strip_prefix('/').filter(|path| !path.is_empty() && !path.split('/').any(|part| part == ".."))
        else {
            bail!("the path {:?} in an image must be absolute, below / and without ..", entry.path);
        };
        // A layer's directories are named before what is in them.
        for (end, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..end).filter(|parent| made.insert((*parent).to_owned())) {
                append(&mut archive, parent, 0o755, &Content::Directory)?;
            }
        }
        if made.insert(path.to_owned()) {
            append(&mut archive, path, entry.mode, &entry.content)?;
        }
    }
    archive.finish().context("cannot write a layer")
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &Content) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let done = match content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())
        }
        Content::File(source) => {
            let file = File::open(source).with_context(|| format!("cannot read {}", source.display()))?;
            header.set_size(file.metadata().with_context(|| format!("cannot read {}", source.display()))?.len());
            archive.append_data(&mut header, path, file)
        }
    };
    done.with_context(|| format!("cannot write {path} into a layer"))
}

fn copy(tar: &Path, sink: &mut impl Write) -> Result<()> {
    let mut file = File::open(tar).with_context(|| format!("cannot read {}", tar.display()))?;
    io::copy(&mut file, sink).with_context(|| format!("cannot copy {} into a layer", tar.display()))?;
    Ok(())
}

/// The SHA-256 of a file as `sha256:` and hex digits, and its size in bytes.
fn digest_of(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sink = Hashing { hash: Sha256::new(), inner: io::sink() };
    let size = io::copy(&mut file, &mut sink).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((spell(sink.hash), size))
}

/// A finished SHA-256 as registries write it.
pub(super) fn spell(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

struct Hashing<W> {
    hash: Sha256,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
