//! The Sigstore instances that can be trusted: whose authority gives certificates, and whose logs show when they were used.

use std::{collections::BTreeSet, fmt, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use sigstore_verify::{
    Verifier,
    trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot},
    types::TimeRange,
};

use super::{certificate::Certificate, chain, primitives};
use crate::{model::Digest, trust::rejected::shown};

/// An instance of Sigstore: the keys and certificates of its authority, its logs and its timestamp authorities.
#[derive(Clone)]
pub struct TrustRoot {
    verifier: Arc<Verifier>,
    logs: Arc<BTreeSet<Vec<u8>>>,
    /// The certificates of its authority, as far as they can be read here: they help to say what is wrong, and decide nothing.
    authorities: Arc<[Certificate]>,
    /// When each of its keys begins to count.
    starts: Arc<[Timestamp]>,
    is_public: bool,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind<'a> {
    #[serde(default)]
    media_type: String,
    #[serde(borrow)]
    trusted_root: Option<&'a RawValue>,
}

impl TrustRoot {
    /// The longest `trusted_root.json` that is read, in bytes.
    pub const MAX_JSON: usize = 256 * 1024;

    /// Sigstore's public instance, as it was when this program was built.
    ///
    /// # Errors
    /// None that a build with a passing test suite has.
    pub fn public() -> Result<Self, String> {
        Ok(Self { is_public: true, ..Self::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT)? })
    }

    /// Reads a `trusted_root.json`, or the one in a `ClientTrustConfig`, which is what `model_signing --trust_config` reads.
    ///
    /// # Errors
    /// What is wrong, in a sentence without its full stop.
    pub fn from_json(text: &str) -> Result<Self, String> {
        const NEEDED: &str = "needed is the trusted_root.json of a Sigstore instance";
        if text.len() > Self::MAX_JSON {
            return Err(format!("it is {} bytes long, more than {}; {NEEDED}", text.len(), Self::MAX_JSON));
        }
        let unreadable = |error: &dyn fmt::Display| format!("it cannot be read ({error}); {NEEDED}");
        let kind: Kind<'_> = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
        let json = match kind.media_type.as_str() {
            kind if kind.starts_with("application/vnd.dev.sigstore.trustedroot") => text,
            kind if kind.starts_with("application/vnd.dev.sigstore.clienttrustconfig") => "",
            other => return Err(format!("its mediaType is {}; {NEEDED}", shown(other))),
        };
        let json = match kind.trusted_root {
            Some(inner) if json.is_empty() => inner.get(),
            None if json.is_empty() => return Err(format!("it has no trustedRoot; {NEEDED}")),
            _ => json,
        };
        let root = TrustedRoot::from_json(json).map_err(|error| unreadable(&error))?;
        for (field, is_empty, without) in [
            ("certificateAuthorities", root.certificate_authorities.is_empty(), "certificate"),
            ("tlogs", root.tlogs.is_empty(), "entry in a log"),
            ("ctlogs", root.ctlogs.is_empty(), "certificate's entry in a log"),
        ] {
            if is_empty {
                return Err(format!("its {field} is empty, so that no {without} could be checked; {NEEDED}"));
            }
        }
        primitives::install();
        let verifier = Verifier::new(&root).map_err(|error| format!("it cannot be used ({error}); {NEEDED}"))?;
        let windows = root.tlogs.iter().map(|log| log.public_key.valid_for);
        let windows = windows.chain(root.timestamp_authorities.iter().map(|authority| authority.valid_for));
        let authorities = root.certificate_authorities.iter().flat_map(|authority| &authority.cert_chain.certificates);
        Ok(Self {
            authorities: authorities.filter_map(|one| Certificate::parse(one.raw_bytes.as_bytes()).ok()).collect(),
            verifier: Arc::new(verifier),
            logs: Arc::new(root.tlogs.iter().map(|log| log.log_id.key_id.as_bytes().to_vec()).collect()),
            starts: windows.flatten().map(|TimeRange { start, .. }| start).collect(),
            is_public: false,
            digest: Digest::of(json),
        })
    }

    /// Two with one digest are the same.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it has a log of that ID.
    pub(super) fn has_log(&self, id: &[u8]) -> bool {
        self.logs.contains(id)
    }

    /// Whether its authority issued the certificate, whenever that was.
    pub(super) fn issued(&self, certificate: &Certificate) -> bool {
        let is_issuer = |one: &&Certificate| one.subject_der == certificate.issuer_der;
        self.authorities.iter().filter(is_issuer).any(|one| chain::signed(one, certificate))
    }

    /// When a key of it begins to count, after `now`.
    pub(super) fn starts_after(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.starts.iter().copied().filter(move |start| *start > now)
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

impl fmt::Display for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_public { "Sigstore's public instance" } else { "the Sigstore instance that is trusted" })
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.digest)
    }
}
