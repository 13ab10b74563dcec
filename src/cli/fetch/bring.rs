//! The helper program, brought to where the engine's container finds it.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use crate::api::{Problem, Reason};

/// Its name, in our image and where it is brought to.
pub const HELPER: &str = "bonafide-helper";

/// Copies the helper that stands beside this program into the directory `into`: anybody may run it there.
///
/// # Errors
/// `InvalidSpec` when there is no such directory, or no helper: then this image is not whole.
pub fn bring(into: &Path) -> Result<(), Problem> {
    let own = std::env::current_exe().map_err(|error| wrong(Path::new("/proc/self/exe"), &error))?;
    copy(&own.with_file_name(HELPER), into)
}

fn copy(helper: &Path, into: &Path) -> Result<(), Problem> {
    let (half, whole) = (into.join(format!(".{HELPER}")), into.join(HELPER));
    // What an earlier attempt left may be write-protected.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(&half, &error)),
        _ => {}
    }
    fs::copy(helper, &half).map_err(|error| wrong(helper, &error))?;
    fs::set_permissions(&half, fs::Permissions::from_mode(0o555)).map_err(|error| wrong(&half, &error))?;
    fs::rename(&half, &whole).map_err(|error| wrong(&whole, &error))
}

fn wrong(path: &Path, error: &io::Error) -> Problem {
    let message = format!(
        "--bring: {} cannot be used: {error}. The helper stands beside the program in Bonafide's image, and the directory is a volume of the pod.",
        path.display()
    );
    Problem::new(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_is_brought_whole_and_again_over_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (helper, into) = (dir.path().join("program"), dir.path().join("bin"));
        fs::create_dir(&into).unwrap();
        for text in ["one", "two"] {
            fs::write(&helper, text).unwrap();
            copy(&helper, &into).unwrap();
            assert_eq!(fs::read_to_string(into.join(HELPER)).unwrap(), text);
        }
        assert_eq!(fs::metadata(into.join(HELPER)).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
        let missing = copy(&dir.path().join("nowhere"), &into).unwrap_err();
        assert!(missing.reason == Reason::InvalidSpec && missing.message.contains("nowhere"), "{missing}");
    }
}
