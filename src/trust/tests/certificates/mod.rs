//! Signatures by the owners of certificates.

mod chains;
mod names;
mod verdicts;

use jiff::Timestamp;

use super::authority::NOW;
use crate::trust::{Anchor, Authority, Bundle, Pattern, Rejected, Roots, SignerId, Wanted};

pub(super) const MODELS: &str = "CN=models,O=Acme";

pub(super) fn anchor(pem: &str, subject: &str) -> Anchor {
    let wanted = Wanted::new(Some(Pattern::exact(subject)), None).unwrap();
    Anchor::Certificate(Authority::new(Roots::from_pem(pem).unwrap(), wanted))
}

pub(super) fn verify_at(bundle: &str, anchor: &Anchor, now: Timestamp) -> Result<SignerId, Rejected> {
    let bundle = Bundle::parse(bundle.as_bytes(), Bundle::MAX_RECORDED)?;
    bundle.verify_as(anchor, now, &mut Vec::new()).map(|(_, signer)| signer)
}

pub(super) fn verify(bundle: &str, anchor: &Anchor) -> Result<SignerId, Rejected> {
    verify_at(bundle, anchor, NOW)
}

pub(super) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}
