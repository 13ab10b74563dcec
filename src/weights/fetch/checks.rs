//! What policies want to be looked at beside digests, in files that are complete and lie in the tree.

use std::{fs::File, io, path::PathBuf};

use tokio::task::spawn_blocking;

use super::{Job, Refused, Stop, failed};
use crate::{
    api::Reason,
    model::{Checks, CleanPath, Format, Manifest, RemoteCode, Source, code, format::Unfit},
};

/// A look to be taken.
pub(super) struct Look {
    checks: Checks,
    tree: PathBuf,
    manifest: Manifest,
    source: Source,
}

/// Why a file does not pass.
enum Bad {
    Unfit(Reason, String),
    Unread(io::Error),
}

impl Look {
    /// At the files of `job`.
    pub fn of(job: &Job) -> Self {
        let manifest = job.manifest.clone();
        Self { checks: job.checks.within(&manifest), tree: job.into.join("tree"), manifest, source: job.source.clone() }
    }

    /// Takes it.
    pub async fn run(self) -> Result<(), Stop> {
        if self.checks.is_empty() {
            return Ok(());
        }
        let looked = spawn_blocking(move || self.manifest.files().iter().try_for_each(|file| self.one(&file.path, file.size)));
        looked.await.unwrap_or_else(|error| Err(failed(format!("the files cannot be read again: {error}")).into()))
    }

    fn one(&self, path: &CleanPath, size: u64) -> Result<(), Stop> {
        self.format(path, size).and_then(|()| self.code(path)).map_err(|bad| match bad {
            Bad::Unfit(reason, why) => Stop::Unfit(reason, Refused::unfit(&self.source, path, &why, reason)),
            Bad::Unread(error) => failed(format!("{path} cannot be read again: {error}")).into(),
        })
    }

    fn open(&self, path: &CleanPath) -> Result<File, Bad> {
        File::open(self.tree.join(path.as_str())).map_err(Bad::Unread)
    }

    fn format(&self, path: &CleanPath, size: u64) -> Result<(), Bad> {
        let Some(format) = Format::of(path.as_str()).filter(|_| self.checks.formats) else { return Ok(()) };
        format.check(&mut self.open(path)?, size).map_err(|unfit| match unfit {
            Unfit::Malformed(why) => Bad::Unfit(
                Reason::FormatMismatch,
                format!("{why}, and a policy wants weights to be what their names say (formats)"),
            ),
            Unfit::Unread(error) => Bad::Unread(error),
        })
    }

    fn code(&self, path: &CleanPath) -> Result<(), Bad> {
        let Some(allowed) = self.checks.remote_code.filter(|_| code::may_name_code(path.as_str())) else { return Ok(()) };
        let denied = |why: String| Err(Bad::Unfit(Reason::RemoteCodeDenied, why));
        match code::named(path.as_str(), self.open(path)?) {
            Ok(None) => Ok(()),
            Ok(Some(found)) if found.is_elsewhere => denied(format!(
                "names code in another repository ({}: {}), which no signature covers, and a policy denies that (remoteCode)",
                found.key, found.name
            )),
            Ok(Some(_)) if allowed == RemoteCode::AllowIfSigned => Ok(()),
            Ok(Some(found)) => denied(format!(
                "names code that a loader would run ({}: {}), and a policy denies that (remoteCode)",
                found.key, found.name
            )),
            Err(error) if error.is_io() => Err(Bad::Unread(error.into())),
            Err(error) => denied(format!(
                "cannot be read ({error}), so that nobody can say whether it names code, which a policy denies (remoteCode)"
            )),
        }
    }
}
