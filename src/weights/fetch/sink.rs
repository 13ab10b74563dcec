//! One pass over the bytes: hash and write, off the reactor, in order.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use super::progress::Progress;
use crate::model::Digest;

/// How much is read from the disk at once.
const BLOCK: usize = 256 << 10;

/// Where the bytes of one file go: a partial file that holds a prefix of it at every moment, and the hash of that prefix.
///
/// Dropped before [`Sink::finish`], it leaves the prefix on the disk for the next attempt.
pub struct Sink {
    orders: mpsc::Sender<Order>,
    worker: JoinHandle<io::Result<Option<Digest>>>,
    at: u64,
}

enum Order {
    Write(Vec<Bytes>),
    Finish,
}

impl Sink {
    /// Opens the partial file at `path`. What it holds already is hashed and kept; when it holds more than `size` bytes it
    /// begins anew.
    pub async fn open(path: PathBuf, size: u64, progress: Arc<Progress>) -> io::Result<Self> {
        let counter = Arc::clone(&progress);
        let (file, hash, at) = spawn_blocking(move || prefix(&path, size, &counter)).await.map_err(io::Error::other)??;
        let (orders, incoming) = mpsc::channel(2);
        let worker = spawn_blocking(move || work(file, hash, incoming, &progress));
        Ok(Self { orders, worker, at })
    }

    /// How many bytes it has taken.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes; waits when the disk is slower than the network.
    pub async fn write(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        if self.orders.send(Order::Write(chunks)).await.is_err() {
            return Err(self.failure().await);
        }
        self.at += bytes as u64;
        Ok(())
    }

    /// Brings everything to the disk, read-only, and says what it hashes to.
    pub async fn finish(mut self) -> io::Result<Digest> {
        if self.orders.send(Order::Finish).await.is_err() {
            return Err(self.failure().await);
        }
        let stopped = || io::Error::other("the writer stopped");
        self.worker.await.map_err(io::Error::other)??.ok_or_else(stopped)
    }

    async fn failure(&mut self) -> io::Error {
        match (&mut self.worker).await {
            Ok(Err(error)) => error,
            _ => io::Error::other("the writer stopped"),
        }
    }
}

fn prefix(path: &Path, size: u64, progress: &Progress) -> io::Result<(File, Sha256, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
    // An attempt that ended between the last byte and the renaming left the file read-only.
    if path.symlink_metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o200 == 0) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    }
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is not a file", path.display())));
    }
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut hash = Sha256::new();
    let at = progress.verifies(|| hash_into(&mut file, &mut hash, progress))?;
    Ok((file, hash, at))
}

fn work(
    mut file: File,
    mut hash: Sha256,
    mut incoming: mpsc::Receiver<Order>,
    progress: &Progress,
) -> io::Result<Option<Digest>> {
    while let Some(order) = incoming.blocking_recv() {
        match order {
            Order::Write(chunks) => {
                // Block by block, so that what was hashed is still near when it is written; small pieces together.
                let mut pending = Vec::new();
                let mut bytes = 0;
                for block in chunks.iter().flat_map(|chunk| chunk.chunks(BLOCK)) {
                    hash.update(block);
                    pending.push(IoSlice::new(block));
                    bytes += block.len();
                    if bytes >= BLOCK {
                        write_all(&mut file, &mut pending)?;
                        bytes = 0;
                    }
                }
                write_all(&mut file, &mut pending)?;
                progress.add_hashed(chunks.iter().map(|chunk| chunk.len() as u64).sum());
            }
            Order::Finish => {
                file.set_permissions(PermissionsExt::from_mode(0o444))?;
                file.sync_all()?;
                return Ok(Some(Digest::from_bytes(hash.finalize().into())));
            }
        }
    }
    Ok(None)
}

/// Writes everything that is pending, and leaves nothing pending.
fn write_all(file: &mut File, pending: &mut Vec<IoSlice<'_>>) -> io::Result<()> {
    let mut rest = pending.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    pending.clear();
    Ok(())
}

/// The digest of the regular file at `path` if it has `size` bytes, which are then counted as hashed; nothing when there is
/// none, or another thing.
pub fn measure(path: &Path, size: u64, progress: &Progress) -> io::Result<Option<Digest>> {
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    progress.verifies(|| hash_into(&mut file, &mut hash, progress))?;
    Ok(Some(Digest::from_bytes(hash.finalize().into())))
}

/// Hashes to the end of the file and counts it as progress, or fails and counts nothing.
fn hash_into(file: &mut File, hash: &mut Sha256, progress: &Progress) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(at),
            Ok(read) => {
                hash.update(block.get(..read).unwrap_or_default());
                progress.add_hashed(read as u64);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                progress.forget(at);
                return Err(error);
            }
        }
    }
}

fn no_follow() -> i32 {
    // The flag fits: the kernel's own type for it is an int.
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_earlier_attempt_left_is_hashed_and_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.part");
        let open = || Sink::open(path.clone(), 6, Arc::new(Progress::default()));
        let mut sink = open().await.unwrap();
        sink.write(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]).await.unwrap();
        let Sink { orders, worker, .. } = sink;
        drop(orders);
        assert_eq!(worker.await.unwrap().unwrap(), None);

        let mut sink = open().await.unwrap();
        assert_eq!(sink.at(), 3);
        sink.write(vec![Bytes::from_static(b"def")]).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), Digest::of("abcdef"));
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    }

    #[tokio::test]
    async fn a_partial_that_is_too_long_begins_anew_and_a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.part");
        std::fs::write(&path, "too long").unwrap();
        assert_eq!(Sink::open(path.clone(), 3, Arc::default()).await.unwrap().at(), 0);

        let target = dir.path().join("target");
        std::fs::write(&target, "abc").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(Sink::open(path.clone(), 3, Arc::default()).await.is_err());
        assert!(measure(&path, 3, &Progress::default()).is_err());
        assert_eq!(measure(&target, 3, &Progress::default()).unwrap(), Some(Digest::of("abc")));
        assert_eq!(measure(&target, 4, &Progress::default()).unwrap(), None);
    }
}
