//! Files that are served where they lie: nothing is fetched, and every byte is hashed before an engine starts.

use std::{path::Path, sync::Arc};

use tokio::task::spawn_blocking;

use super::{Job, Progress, Refused, Stop, failed, sink::measure};

/// Hashes every file of the manifest below `tree/`; whoever may write to the claim can change them afterwards.
pub async fn verify(job: Job, progress: Arc<Progress>) -> Result<(), Stop> {
    progress.expect(job.manifest.size());
    spawn_blocking(move || {
        let tree = job.into.join("tree");
        job.manifest.files().iter().try_for_each(|file| {
            let path = tree.join(file.path.as_str());
            match measure(&path, file.size, &progress) {
                Ok(Some(found)) if found == file.sha256 => Ok(()),
                Ok(Some(found)) => {
                    Err(Stop::Refused(Refused::in_place(&job, &file.path, file.sha256.to_string(), found.to_string())))
                }
                Ok(None) => {
                    let expected = format!("{} bytes", file.size);
                    Err(Stop::Refused(Refused::in_place(&job, &file.path, expected, there(&path))))
                }
                Err(error) => {
                    let message = format!("{} cannot be read: {error}: it is read as user and group 65532", file.path);
                    Err(failed(message).into())
                }
            }
        })
    })
    .await
    .unwrap_or_else(|error| Err(failed(format!("the files cannot be read: {error}")).into()))
}

fn there(path: &Path) -> String {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => format!("{} bytes", found.len()),
        Ok(_) => "something that is no file".to_owned(),
        Err(_) => "no such file".to_owned(),
    }
}
