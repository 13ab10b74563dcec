//! Whether the files are of formats that a policy allows, as far as their names say. Whether their bytes are what the names say is
//! found out where the bytes are: [`Format::check`].

use super::{messages, policy::Policy, question::Candidate};
use crate::{
    api::Problem,
    model::{Format, format},
};

/// Every file is weights of an allowed format, or lies beside weights and is run by nobody.
pub(super) fn check(policy: &Policy, candidate: &Candidate<'_>) -> Result<(), Problem> {
    if policy.formats.is_empty() {
        return Ok(());
    }
    let is_allowed = |path: &str| match Format::of(path) {
        Some(format) => policy.formats.contains(&format),
        None => format::is_auxiliary(path),
    };
    let mut others = candidate.manifest.files().iter().filter(|file| !is_allowed(file.path.as_str()));
    match others.next() {
        None => Ok(()),
        Some(first) => Err(messages::format_not_allowed(policy, &first.path, others.count(), candidate)),
    }
}
