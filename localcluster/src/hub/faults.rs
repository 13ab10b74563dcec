//! Faults to switch on: what real servers, networks and liars do.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

/// What goes wrong. `ROOT/.faults.json` holds the same as JSON; writing it replaces all faults, removing it ends them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// Files, `OWNER/NAME/PATH`, that are sent with one bit flipped while the listing keeps the old digest.
    pub lie: Vec<String>,
    /// Files that are sent with one byte more than the listing says.
    pub grow: Vec<String>,
    /// Cuts the connection after this many bytes of a file.
    pub cut_after: Option<u64>,
    /// How many times it is cut; nothing: every time.
    pub cuts: Option<u32>,
    /// Answers with an error instead.
    pub fail: Option<Fail>,
    /// The most bytes of a file that are sent in a second, on each connection.
    pub bytes_per_second: Option<u64>,
    /// Sends the whole file whatever range was asked for.
    pub ignore_range: bool,
    /// Stops sending after this many bytes of a file, and keeps the connection open.
    pub stall_after: Option<u64>,
    /// Only requests with a good token are answered.
    pub token_required: bool,
    /// These repositories are gated, besides those of the options.
    pub gated: Vec<String>,
    /// Redirects requests for files to this URL, followed by the path, instead of serving them.
    pub redirect: Option<String>,
    /// Further entries of every listing, for paths that no directory can hold.
    pub extra_paths: Vec<String>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fail {
    /// The status, for example 429, 500 or 503.
    pub status: u16,
    /// For how many requests; nothing: for all.
    pub times: Option<u32>,
    /// The `Retry-After` that goes with it.
    pub retry_after: Option<String>,
    /// For which requests.
    #[serde(default)]
    pub on: Which,
}

/// Which requests a fault is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Which {
    /// All of them.
    #[default]
    All,
    /// Those below `/api/`.
    Api,
    /// Those for files.
    Files,
}

/// The faults of now, and the file that changes them.
pub(super) struct Switchboard {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    read: Option<SystemTime>,
}

impl Switchboard {
    pub fn new(file: PathBuf) -> Self {
        Self { file, state: Mutex::default() }
    }

    pub fn set(&self, faults: Faults) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults = faults;
    }

    /// The faults of now; the file is read again when it changed.
    pub fn now(&self) -> Faults {
        self.with(|faults| faults.clone())
    }

    /// Whether this request fails; counts it if so.
    pub fn fail(&self, which: Which) -> Option<Fail> {
        self.with(|faults| {
            let fail = faults.fail.as_mut().filter(|fail| fail.on == Which::All || fail.on == which)?;
            count(&mut fail.times).then(|| fail.clone())
        })
    }

    /// After how many bytes this connection is cut, if at all; counts it if so.
    pub fn cut(&self, length: u64) -> Option<u64> {
        self.with(|faults| {
            let after = faults.cut_after.filter(|after| *after < length)?;
            count(&mut faults.cuts).then_some(after)
        })
    }

    fn with<T>(&self, use_them: impl FnOnce(&mut Faults) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        if changed != state.read {
            state.read = changed;
            state.faults = match fs::read(&self.file).map(|text| serde_json::from_slice(&text)) {
                Ok(Ok(faults)) => faults,
                Ok(Err(error)) => {
                    eprintln!("{}: {error}; no faults are on", self.file.display());
                    Faults::default()
                }
                Err(_) => Faults::default(),
            };
        }
        use_them(&mut state.faults)
    }
}

/// Takes one of the times that are left.
fn count(times: &mut Option<u32>) -> bool {
    match times {
        None => true,
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_as_often_as_it_says_and_where_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let board = Switchboard::new(dir.path().join("faults"));
        let fail = Fail { status: 503, times: Some(2), retry_after: None, on: Which::Api };
        board.set(Faults { fail: Some(fail), cut_after: Some(10), cuts: Some(1), ..Faults::default() });
        assert!(board.fail(Which::Files).is_none());
        assert!(board.fail(Which::Api).is_some() && board.fail(Which::Api).is_some());
        assert!(board.fail(Which::Api).is_none());
        assert_eq!((board.cut(10), board.cut(11), board.cut(11)), (None, Some(10), None));
    }

    #[test]
    fn the_file_replaces_the_faults_and_its_removal_ends_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults");
        let board = Switchboard::new(file.clone());
        fs::write(&file, r#"{"lie": ["a/b/c"], "fail": {"status": 429, "retryAfter": "1"}}"#).unwrap();
        assert_eq!(board.now().lie, ["a/b/c"]);
        assert!(board.fail(Which::Files).is_some());
        fs::remove_file(&file).unwrap();
        assert_eq!(board.now(), Faults::default());
    }
}
