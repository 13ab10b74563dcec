//! The directory of a fetch: `tree/` is what is served, `partial/` what is on its way.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File, FileType, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::model::{CleanPath, Digest, Manifest};

/// The file in which a refusal is remembered.
pub const REFUSAL: &str = "refused.json";

/// A directory that one fetch owns while it holds the lock.
#[derive(Debug, Clone)]
pub struct WorkDir {
    root: PathBuf,
}

impl WorkDir {
    /// The directory at `root`, which exists. Nothing in it is touched before [`Self::prepare`].
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes `tree/` and `partial/`, in place of anything else that has their names. Only for the holder of the lock.
    pub fn prepare(&self) -> io::Result<()> {
        [self.tree(), self.partials()].iter().try_for_each(|dir| make_dir(dir))
    }

    /// What is served.
    pub fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Where the bytes of the file with this digest arrive.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(format!("{}.part", digest.hex()))
    }

    /// Where a file of the manifest stands.
    pub fn place(&self, path: &CleanPath) -> PathBuf {
        self.tree().join(path.as_str())
    }

    /// Takes the lock if nobody has it who is in the way: several may read at once, and whoever writes is alone. A file system without
    /// locks has none to take: then there is nobody to wait for.
    pub fn try_lock(&self, to: Access) -> io::Result<Option<File>> {
        let path = self.root.join(".lock");
        // Some file systems grant a lock for reading only on a file that is open for reading.
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        // One that another user made can still be locked.
        let file = file.or_else(|_| File::open(&path))?;
        let taken = match to {
            Access::Read => file.try_lock_shared(),
            Access::Write => file.try_lock(),
        };
        match taken {
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(Some(file)),
        }
    }

    /// Removes everything from `tree/` and `partial/` that the manifest does not name: other files, links, devices, empty
    /// directories. No link is followed.
    pub fn clean(&self, manifest: &Manifest) -> io::Result<()> {
        let mut named = Named::of(self, manifest);
        named.files.extend(manifest.files().iter().map(|file| self.partial(&file.sha256)));
        named.directories.insert(self.partials());
        for dir in [self.tree(), self.partials()] {
            sweep(&dir, &|path, kind| named.has(path, kind))?;
        }
        Ok(())
    }

    /// Whether `tree/` looks as [`Self::seal`] leaves it: every file of the manifest with its size, nothing else, read-only. What the
    /// files hold is another question. Nothing is written.
    pub fn is_sealed(&self, manifest: &Manifest) -> bool {
        let named = Named::of(self, manifest);
        let sealed = |path: &Path, mode| fs::symlink_metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 == mode);
        let sized = |path: &Path, size| fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == size);
        named.directories.iter().all(|dir| sealed(dir, 0o555))
            && manifest
                .files()
                .iter()
                .all(|file| sized(&self.place(&file.path), file.size) && sealed(&self.place(&file.path), 0o444))
            && holds_only(&self.tree(), &named).unwrap_or(false)
    }

    /// Moves a complete partial to `paths`: the first by renaming, the others as links to it, or copies where links cannot be.
    pub fn publish(&self, digest: &Digest, paths: &[CleanPath]) -> io::Result<()> {
        let Some((first, others)) = paths.split_first() else { return Ok(()) };
        self.make_room(first)?;
        fs::rename(self.partial(digest), self.place(first))?;
        self.repeat(first, others)
    }

    /// Puts the file at `first` to `others` as well.
    pub fn repeat(&self, first: &CleanPath, others: &[CleanPath]) -> io::Result<()> {
        for other in others {
            self.make_room(other)?;
            let (from, to) = (self.place(first), self.place(other));
            fs::hard_link(&from, &to).or_else(|_| {
                fs::copy(&from, &to)?;
                File::open(&to)?.sync_all()
            })?;
        }
        Ok(())
    }

    /// Makes the directories of `path` and removes what stands in its place.
    fn make_room(&self, path: &CleanPath) -> io::Result<()> {
        let mut dir = self.tree();
        let mut segments = path.as_str().split('/').peekable();
        while let Some(segment) = segments.next() {
            loosen(&dir);
            dir.push(segment);
            if segments.peek().is_some() {
                make_dir(&dir)?;
            }
        }
        match fs::symlink_metadata(&dir) {
            Ok(found) => remove(&dir, found.file_type()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the tree read-only and brings its directories to the disk; what was on its way is not needed any more.
    pub fn seal(&self, manifest: &Manifest) -> io::Result<()> {
        sweep(&self.partials(), &|_, _| false)?;
        let named = Named::of(self, manifest);
        for file in &named.files {
            set_mode(file, 0o444)?;
        }
        // What lies deeper first.
        for dir in BTreeSet::from_iter(&named.directories).into_iter().rev() {
            File::open(dir)?.sync_all()?;
            set_mode(dir, 0o555)?;
        }
        Ok(())
    }

    /// The bytes that this file system still takes from a process that is not root.
    pub fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What one wants to do with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Look whether everything is there.
    Read,
    /// Bring what is missing.
    Write,
}

/// The files that may stand there, and the directories that they need.
struct Named {
    files: HashSet<PathBuf>,
    directories: HashSet<PathBuf>,
}

impl Named {
    /// Those of the tree of a manifest.
    fn of(work: &WorkDir, manifest: &Manifest) -> Self {
        let tree = work.tree();
        let (mut files, mut directories) = (HashSet::new(), HashSet::from([tree.clone()]));
        for file in manifest.files() {
            let place = work.place(&file.path);
            directories.extend(place.ancestors().skip(1).take_while(|dir| dir.starts_with(&tree)).map(Path::to_owned));
            files.insert(place);
        }
        Self { files, directories }
    }

    fn has(&self, path: &Path, kind: FileType) -> bool {
        if kind.is_dir() { self.directories.contains(path) } else { kind.is_file() && self.files.contains(path) }
    }
}

fn holds_only(dir: &Path, named: &Named) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if !named.has(&path, kind) || (kind.is_dir() && !holds_only(&path, named)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a directory, in place of anything else that has its name.
fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(found) => remove(dir, found.file_type())?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(dir)
}

/// Removes everything below `dir` that is not to be kept.
fn sweep(dir: &Path, keep: &dyn Fn(&Path, FileType) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if !keep(&path, kind) {
            loosen(dir);
            remove(&path, kind)?;
        } else if kind.is_dir() {
            sweep(&path, keep)?;
        }
    }
    Ok(())
}

fn remove(path: &Path, kind: FileType) -> io::Result<()> {
    if !kind.is_dir() {
        return fs::remove_file(path);
    }
    sweep(path, &|_, _| false)?;
    fs::remove_dir(path)
}

/// Makes a sealed directory writable again. What cannot be changed shows itself when it is written to.
fn loosen(dir: &Path) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o755));
}

/// Sets the mode unless it is that already: a tree of another user can be checked, not changed.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if fs::symlink_metadata(path)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model;

    fn manifest(files: &[(&str, &str)]) -> Manifest {
        let file = |(path, content): &(&str, &str)| model::File {
            path: path.parse().unwrap(),
            size: content.len() as u64,
            sha256: Digest::of(content),
        };
        Manifest::new(files.iter().map(file).collect()).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_the_manifest_names_stays_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "x").unwrap();
        let work = WorkDir::at(dir.path());
        work.prepare().unwrap();
        let manifest = manifest(&[("a/model", "1"), ("b", "2")]);
        fs::create_dir_all(work.tree().join("a/deep/er")).unwrap();
        fs::create_dir_all(work.tree().join("b")).unwrap();
        fs::write(work.tree().join("a/model"), "1").unwrap();
        fs::write(work.tree().join("a/code.py"), "evil").unwrap();
        fs::write(work.tree().join("a/deep/er/x"), "evil").unwrap();
        symlink(outside.path(), work.tree().join("link")).unwrap();
        fs::write(work.partials().join("foreign"), "x").unwrap();
        for sealed in ["a/deep/er", "a/deep", "a", ""] {
            set_mode(&work.tree().join(sealed), 0o555).unwrap();
        }

        work.clean(&manifest).unwrap();

        assert_eq!(names(&work.tree()), ["a"]);
        assert_eq!(names(&work.tree().join("a")), ["model"]);
        assert_eq!(names(&work.partials()), Vec::<String>::new());
        assert_eq!(names(outside.path()), ["precious"]);
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_replaced_and_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("tree")).unwrap();
        let work = WorkDir::at(dir.path());
        work.prepare().unwrap();
        symlink(outside.path(), work.tree().join("a")).unwrap();
        let content = manifest(&[("a/one", "1"), ("two", "1")]);
        fs::write(work.partial(&Digest::of("1")), "1").unwrap();
        work.publish(&Digest::of("1"), &["a/one".parse().unwrap(), "two".parse().unwrap()]).unwrap();
        assert!(!work.is_sealed(&content), "it is not read-only yet");
        work.seal(&content).unwrap();
        assert!(work.is_sealed(&content));
        assert_eq!(names(outside.path()), Vec::<String>::new());
        assert_eq!(fs::read(work.tree().join("a/one")).unwrap(), b"1");
        assert_eq!(fs::read(work.tree().join("two")).unwrap(), b"1");
        let mode = |path: &str| fs::metadata(work.tree().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(""), mode("a"), mode("a/one"), mode("two")], [0o555, 0o555, 0o444, 0o444]);

        let without = |change: &dyn Fn(&Path), back: &dyn Fn(&Path)| {
            loosen(&work.tree());
            change(&work.tree());
            set_mode(&work.tree(), 0o555).unwrap();
            assert!(!work.is_sealed(&content));
            loosen(&work.tree());
            back(&work.tree());
            set_mode(&work.tree(), 0o555).unwrap();
            assert!(work.is_sealed(&content));
        };
        without(&|tree| fs::write(tree.join("code.py"), "").unwrap(), &|tree| fs::remove_file(tree.join("code.py")).unwrap());
        without(&|tree| symlink("a", tree.join("b")).unwrap(), &|tree| fs::remove_file(tree.join("b")).unwrap());
        without(&|tree| fs::rename(tree.join("two"), tree.join("a.two")).unwrap(), &|tree| {
            fs::rename(tree.join("a.two"), tree.join("two")).unwrap();
        });
    }
}
