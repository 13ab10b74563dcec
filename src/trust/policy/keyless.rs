//! Signers without a key of their own, as a policy writes them.

use super::{Secret, pattern, text};
use crate::{
    api::{KeylessSigner, Problem, Reason},
    trust::method::{keyless::Identity, roots::TrustRoot},
};

/// Whom `signer`, which stands at `at`, means.
pub(super) fn identity(at: &str, signer: &KeylessSigner, secret: Secret<'_>) -> Result<Identity, Problem> {
    let wrong = |field: &str, why: &str| Problem::new(Reason::InvalidPattern, format!("{at}.{field}: {why}."));
    let root = match &signer.trusted_root {
        None => TrustRoot::public().map_err(|why| Problem::new(Reason::InvalidKey, format!("{at}.trustedRoot: {why}.")))?,
        Some(source) => {
            let inline = ("json", source.json.as_deref());
            text(&format!("{at}.trustedRoot"), inline, source.secret_key_ref.as_ref(), secret, TrustRoot::from_json)?
        }
    };
    let name = pattern(&signer.identity).map_err(|why| wrong("identity", &why))?;
    Identity::new(&signer.issuer, name, root).map_err(|why| wrong("issuer", &why))
}
