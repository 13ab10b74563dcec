//! Writing a signature: whole or not at all, and over another one only when that is asked for.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Refuses when something stands where the signature is to be written. Asked before the long work, and once more after it.
pub(super) fn refuse_existing(path: &Path, force: bool) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Err(format!("{} is a directory: name a file with --signature.", path.display())),
        Ok(_) if !force => Err(format!(
            "{} is there already: --force writes it anew, --signature OTHER.sig writes another one beside it.",
            path.display()
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = parent(path);
            if directory.is_dir() { Ok(()) } else { Err(format!("{} is no directory to write into.", directory.display())) }
        }
        Err(error) => Err(unwritable(path, &error)),
    }
}

/// Writes `text` beside `path` and moves it there, so that nobody sees half of it.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = parent(path).join(format!(".{name}.{}.part", std::process::id()));
    let result = put(&draft, text).and_then(|()| {
        refuse_existing(path, force)?;
        fs::rename(&draft, path).map_err(|error| unwritable(path, &error))
    });
    if result.is_err() {
        // Nothing is left behind; that it could not be removed says less than why it could not be written.
        let _ = fs::remove_file(&draft);
    }
    result
}

fn put(draft: &Path, text: &str) -> Result<(), String> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|error| unwritable(draft, &error))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {error}.", path.display())
}
