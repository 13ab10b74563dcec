//! Repositories as directories: which files a commit has, and which commits there are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// All repositories below one directory.
pub(super) struct Repositories {
    root: PathBuf,
    large: u64,
    measured: Mutex<HashMap<(PathBuf, u64, SystemTime), Arc<Measured>>>,
}

/// What a file hashes to.
struct Measured {
    sha256: String,
    blob: String,
}

/// A commit.
#[derive(Clone)]
pub(super) struct Head {
    pub commit: String,
    /// The files, by path.
    pub files: BTreeMap<String, Entry>,
}

/// One file of a commit.
#[derive(Clone)]
pub(super) struct Entry {
    pub disk: PathBuf,
    pub size: u64,
    pub sha256: String,
    /// The id of the git blob: of the content, or of the pointer that stands for a large file.
    pub oid: String,
    /// The length of that pointer; nothing for small files.
    pub pointer: Option<usize>,
}

impl Repositories {
    /// Extensions that are always stored as large files, as the hub's `.gitattributes` says.
    const LARGE: [&str; 10] = ["gguf", "safetensors", "bin", "pt", "pth", "onnx", "h5", "msgpack", "npz", "zip"];

    pub fn new(root: PathBuf, large: u64) -> Self {
        Self { root, large, measured: Mutex::default() }
    }

    /// `OWNER/NAME` of every repository.
    pub fn names(&self) -> io::Result<HashSet<String>> {
        let mut names = HashSet::new();
        for owner in directories(&self.root)? {
            for name in directories(&self.root.join(&owner))? {
                names.insert(format!("{owner}/{name}"));
            }
        }
        Ok(names)
    }

    pub fn exists(&self, repository: &str) -> bool {
        self.dir(repository).is_ok_and(|dir| dir.is_dir())
    }

    /// What lies in the directory now.
    pub fn head(&self, repository: &str) -> io::Result<Head> {
        self.read(repository, &self.dir(repository)?)
    }

    /// The commit that `revision` names: `main`, or a commit that is current or was kept.
    pub fn find(&self, repository: &str, revision: &str) -> io::Result<Option<Head>> {
        let head = self.head(repository)?;
        if matches!(revision, "main" | "HEAD" | "refs/heads/main") || revision == head.commit {
            return Ok(Some(head));
        }
        let kept = self.kept(repository, revision);
        let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
        if is_commit && kept.is_dir() { self.read(repository, &kept).map(Some) } else { Ok(None) }
    }

    /// Copies what lies there now, so that its commit stays when it changes.
    pub fn snapshot(&self, repository: &str) -> io::Result<String> {
        let head = self.head(repository)?;
        let kept = self.kept(repository, &head.commit);
        if !kept.is_dir() {
            let new = kept.with_extension("new");
            for (path, entry) in &head.files {
                let to = new.join(path);
                fs::create_dir_all(to.parent().unwrap_or(&new))?;
                fs::copy(&entry.disk, &to)?;
            }
            fs::create_dir_all(&new)?;
            fs::rename(&new, &kept)?;
        }
        Ok(head.commit)
    }

    fn kept(&self, repository: &str, commit: &str) -> PathBuf {
        self.root.join(".snapshots").join(repository).join(commit)
    }

    fn dir(&self, repository: &str) -> io::Result<PathBuf> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match repository.split_once('/') {
            Some((owner, name)) if plain(owner) && plain(name) => Ok(self.root.join(owner).join(name)),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{repository:?} is no OWNER/NAME"))),
        }
    }

    fn read(&self, repository: &str, dir: &Path) -> io::Result<Head> {
        let mut files = BTreeMap::new();
        self.walk(dir, "", &mut files)?;
        let mut hash = Sha1::new();
        hash.update(format!("commit of {repository}\n"));
        for (path, entry) in &files {
            hash.update(format!("{path}\0{}\0{}\n", entry.size, entry.sha256));
        }
        Ok(Head { commit: hex(&hash.finalize()), files })
    }

    fn walk(&self, dir: &Path, below: &str, files: &mut BTreeMap<String, Entry>) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is no text")))?;
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            // Links to large files of elsewhere are welcome here, so they are followed.
            let metadata = fs::metadata(entry.path())?;
            if metadata.is_dir() {
                self.walk(&entry.path(), &path, files)?;
            } else {
                let entry = self.entry(entry.path(), &path, &metadata)?;
                files.insert(path, entry);
            }
        }
        Ok(())
    }

    fn entry(&self, disk: PathBuf, path: &str, metadata: &fs::Metadata) -> io::Result<Entry> {
        let size = metadata.len();
        let measured = self.measure(&disk, size, metadata.modified()?)?;
        let by_name = path.rsplit_once('.').is_some_and(|(_, extension)| Self::LARGE.contains(&extension));
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n", measured.sha256);
        let large = by_name || size >= self.large;
        Ok(Entry {
            disk,
            size,
            sha256: measured.sha256.clone(),
            oid: if large { blob(pointer.len() as u64, &mut pointer.as_bytes())? } else { measured.blob.clone() },
            pointer: large.then_some(pointer.len()),
        })
    }

    fn measure(&self, disk: &Path, size: u64, modified: SystemTime) -> io::Result<Arc<Measured>> {
        let key = (disk.to_owned(), size, modified);
        if let Some(known) = self.measured.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut hash = Sha256::new();
        each_block(&mut fs::File::open(disk)?, |block| hash.update(block))?;
        let blob = if size < self.large { blob(size, &mut fs::File::open(disk)?)? } else { String::new() };
        let measured = Arc::new(Measured { sha256: hex(&hash.finalize()), blob });
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&measured));
        Ok(measured)
    }
}

/// The id that git gives a blob.
fn blob(size: u64, content: &mut dyn io::Read) -> io::Result<String> {
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0"));
    each_block(content, |block| hash.update(block))?;
    Ok(hex(&hash.finalize()))
}

fn each_block(content: &mut dyn io::Read, mut see: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; 1 << 18];
    loop {
        match content.read(&mut block)? {
            0 => return Ok(()),
            read => see(block.get(..read).unwrap_or_default()),
        }
    }
}

fn directories(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_has_the_id_that_git_gives_it() {
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(blob(6, &mut "hello\n".as_bytes()).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn a_changed_file_makes_another_commit_and_a_kept_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("acme/chat/sub");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
        let repositories = Repositories::new(root.path().to_owned(), 100);
        let first = repositories.snapshot("acme/chat").unwrap();
        assert_eq!(repositories.head("acme/chat").unwrap().commit, first);
        fs::write(dir.join("config.json"), "{\"a\": 1}").unwrap();
        let second = repositories.head("acme/chat").unwrap().commit;
        assert_ne!(first, second);
        let kept = repositories.find("acme/chat", &first).unwrap().unwrap();
        assert_eq!((kept.commit.as_str(), kept.files["sub/config.json"].size), (first.as_str(), 2));
        assert!(repositories.find("acme/chat", "v9").unwrap().is_none());
        assert_eq!(repositories.names().unwrap(), HashSet::from(["acme/chat".to_owned()]));
    }

    #[test]
    fn large_files_are_told_by_size_and_by_name() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("acme/chat");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("model.gguf"), "x").unwrap();
        fs::write(dir.join("big.json"), "x".repeat(100)).unwrap();
        fs::write(dir.join("small.json"), "x".repeat(99)).unwrap();
        let head = Repositories::new(root.path().to_owned(), 100).head("acme/chat").unwrap();
        let large = |path: &str| head.files[path].pointer.is_some();
        assert!(large("model.gguf") && large("big.json") && !large("small.json"));
    }
}
