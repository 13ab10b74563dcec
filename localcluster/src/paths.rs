//! Where things are kept on this machine.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The state directory of a cluster that `up` starts when no other is named.
pub const DEFAULT_STATE: &str = "/var/lib/bonafide-localcluster/default";

/// The longest state directory, in bytes: sockets live in it, and the path of a Unix socket ends at 107 bytes.
const LONGEST_STATE: usize = 72;

/// Where built programs and fetched assets are kept: `$XDG_CACHE_HOME`, else `$HOME/.cache`, and
/// `bonafide-localcluster` under it.
pub fn cache() -> Result<PathBuf> {
    let base = match absolute_from_env("XDG_CACHE_HOME") {
        Some(path) => path,
        None => absolute_from_env("HOME")
            .context("neither XDG_CACHE_HOME nor HOME is set to an absolute path: set HOME")?
            .join(".cache"),
    };
    Ok(base.join("bonafide-localcluster"))
}

/// Where the clusters of this user keep the lock they share, and the name of the one that holds the machine's node.
pub fn run() -> Result<PathBuf> {
    let path = match user()? {
        0 => PathBuf::from("/run/bonafide-localcluster"),
        user => std::env::temp_dir().join(format!("bonafide-localcluster-{user}-run")),
    };
    make_private(&path)?;
    Ok(path)
}

/// Where clusters are kept that end with the process that started them.
pub fn temporary_states() -> Result<PathBuf> {
    Ok(std::env::temp_dir().join(format!("bonafide-localcluster-{}", user()?)))
}

/// Makes a directory that only this user can use, or checks that it is one: its place is known to everybody, and
/// everybody may write beside it.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() || metadata.uid() != user()? || metadata.mode() & 0o022 != 0 {
        bail!("{} belongs to another user, or others may write there: remove it, or set TMPDIR", path.display());
    }
    Ok(())
}

/// The numeric id of the user this process runs as.
pub fn user() -> Result<u32> {
    Ok(std::fs::metadata("/proc/self").context("cannot read /proc/self: localcluster runs on Linux only")?.uid())
}

/// Checks that a path can be a state directory: absolute, short, and of characters that need no quoting anywhere.
pub fn check_state(path: &Path) -> Result<()> {
    let text = path.to_str().with_context(|| format!("the state directory {} is not UTF-8", path.display()))?;
    if !path.is_absolute() || path.parent().is_none() {
        bail!("the state directory must be an absolute path other than /, and is {text}");
    }
    if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "/._-".contains(*c))) {
        bail!("the state directory {text} holds the character {odd:?}: use only ASCII letters, digits, '.', '_', '-' and '/'");
    }
    if text.len() > LONGEST_STATE {
        bail!(
            "the state directory {text} has {} bytes; at most {LONGEST_STATE} fit, as sockets live in it: choose a shorter one (--state)",
            text.len()
        );
    }
    Ok(())
}

fn absolute_from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_place_that_others_can_prepare_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        make_private(&place).unwrap();
        make_private(&place).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&place, &link).unwrap();
        assert!(make_private(&link).is_err(), "a link");
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(make_private(&place).is_err(), "others may write");
    }

    #[test]
    fn a_state_directory_is_absolute_short_and_needs_no_quoting() {
        assert!(check_state(Path::new(DEFAULT_STATE)).is_ok());
        for refused in ["/", "relative/path", "/with space", "/quo'te", &format!("/{}", "x".repeat(LONGEST_STATE))] {
            assert!(check_state(Path::new(refused)).is_err(), "{refused} was accepted");
        }
    }
}
