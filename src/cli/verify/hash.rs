//! The digests of many files: a few threads, a bounded buffer each.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use sha2::Digest as _;

use super::{Failure, unreadable};
use crate::model::{CleanPath, Digest};

const BUFFER: usize = 256 * 1024;
const MAX_THREADS: usize = 8;
/// When a person begins to wonder.
const QUIET: Duration = Duration::from_secs(2);

/// Size and digest of every file, in their order. The first one that cannot be read ends it.
pub fn all(root: &Path, files: &[&CleanPath], progress: bool) -> Result<Vec<(u64, Digest)>, Failure> {
    each(root, files, progress, &|_, path, buffer, bytes| one(path, buffer, bytes))
}

/// What `read` makes of every file, in their order, given its number, path, a buffer and where to count bytes.
pub(super) fn each<T: Clone + Send>(
    root: &Path,
    files: &[&CleanPath],
    progress: bool,
    read: &(impl Fn(usize, &Path, &mut [u8], &AtomicU64) -> io::Result<T> + Sync),
) -> Result<Vec<T>, Failure> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(files.len());
    let (next, bytes) = (&AtomicUsize::new(0), &AtomicU64::new(0));
    let (send, receive) = mpsc::channel();
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            let send = send.clone();
            scope.spawn(move || {
                let mut buffer = vec![0; BUFFER];
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    let Some(path) = files.get(index) else { break };
                    let path = root.join(path.as_str());
                    let result = read(index, &path, &mut buffer, bytes).map_err(|error| unreadable(&path, &error));
                    if send.send((index, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut results: Vec<Option<T>> = vec![None; files.len()];
        let mut done = 0_usize;
        loop {
            match receive.recv_timeout(Duration::from_millis(500)) {
                Ok((index, result)) => {
                    let result = result?;
                    done += 1;
                    if let Some(slot) = results.get_mut(index) {
                        *slot = Some(result);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) if progress && started.elapsed() > QUIET => {
                    let _ =
                        write!(io::stderr(), "\r{done} of {} files, {} MB read ", files.len(), bytes.load(Relaxed) / 1_000_000);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        if progress && started.elapsed() > QUIET {
            let _ = writeln!(io::stderr());
        }
        results
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::Unknown("not every file could be read.".to_owned()))
    })
}

/// Size and digest of one file.
pub fn file(path: &Path) -> io::Result<(u64, Digest)> {
    one(path, &mut vec![0; BUFFER], &AtomicU64::new(0))
}

fn one(path: &Path, buffer: &mut [u8], bytes: &AtomicU64) -> io::Result<(u64, Digest)> {
    let mut hash = sha2::Sha256::new();
    let size = pieces(path, buffer, bytes, &mut |piece| hash.update(piece))?;
    Ok((size, Digest::from_bytes(hash.finalize().into())))
}

/// Hands a file over piece by piece, and says how long it is.
pub(super) fn pieces(path: &Path, buffer: &mut [u8], bytes: &AtomicU64, take: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut file = open(path)?;
    let mut size = 0_u64;
    loop {
        let count = match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(buffer.get(..count).unwrap_or_default());
        let count = u64::try_from(count).unwrap_or_default();
        size += count;
        bytes.fetch_add(count, Relaxed);
    }
    Ok(size)
}

/// Opens a regular file, and fails when the name stands for a link or for another file meanwhile.
fn open(path: &Path) -> io::Result<File> {
    let named = fs::symlink_metadata(path)?;
    let changed = || io::Error::other("it was replaced while it was being checked");
    if !named.is_file() {
        return Err(changed());
    }
    let file = File::open(path)?;
    let opened = file.metadata()?;
    if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) { Ok(file) } else { Err(changed()) }
}
