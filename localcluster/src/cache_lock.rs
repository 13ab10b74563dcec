//! One process at a time makes an entry of the cache.

use std::fs::{self, File, TryLockError};

use anyhow::{Context, Result};

use crate::paths;
use crate::progress::say;

/// Holds the right to make the cache's entry `key` until it is dropped. Waits for a process that holds it, and tells so:
/// `doing` says what that process then does ("builds etcd").
pub(crate) async fn hold(key: &str, doing: &str) -> Result<File> {
    let directory = paths::cache()?.join("lock");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join(key);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say(format_args!("waiting for another process, which {doing}")),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.context("the wait for a lock ended")?;
    locked.with_context(|| format!("cannot lock {}", path.display()))
}
