//! Signatures by a name instead of a key.

mod proofs;
mod roots;
mod verdicts;

use jiff::Timestamp;

use super::{
    authority::NOW,
    sigstore::{ISSUER, Sigstore},
    verdicts::FILES,
};
use crate::trust::{Anchor, Bundle, Identity, Pattern, Rejected, SignerId, TrustRoot};

pub(super) const MODELS: &str = "models@acme.example";

pub(super) fn root(sigstore: &Sigstore) -> TrustRoot {
    TrustRoot::from_json(&sigstore.trusted_root().to_string()).unwrap()
}

/// `MODELS` at `ISSUER`, as `sigstore` attests it.
pub(super) fn models(sigstore: &Sigstore) -> Anchor {
    wanted(sigstore, ISSUER, Pattern::exact(MODELS).unwrap())
}

pub(super) fn wanted(sigstore: &Sigstore, issuer: &str, name: Pattern) -> Anchor {
    Anchor::Keyless(Identity::new(issuer, name, root(sigstore)).unwrap())
}

pub(super) fn verify_at(bundle: &str, anchor: &Anchor, now: Timestamp) -> Result<SignerId, Rejected> {
    let bundle = Bundle::parse(bundle.as_bytes(), Bundle::MAX_RECORDED)?;
    bundle.verify_as(anchor, now, &mut Vec::new()).map(|(_, signer)| signer)
}

pub(super) fn verify(bundle: &str, anchor: &Anchor) -> Result<SignerId, Rejected> {
    verify_at(bundle, anchor, NOW)
}

#[test]
#[ignore = "measures: cargo test --release --lib keyless -- --ignored --nocapture"]
fn a_keyless_signature_takes_milliseconds() {
    let sigstore = Sigstore::new();
    let (anchor, bundle) = (models(&sigstore), sigstore.signs(MODELS, &FILES).text());
    let json = sigstore.trusted_root().to_string();
    let times = 200;
    let each = |what: &str, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        (0..times).for_each(|_| work());
        let each = start.elapsed() / times;
        println!("{what}: {each:?}");
        assert!(each < std::time::Duration::from_millis(30));
    };
    each("the root read", &|| drop(TrustRoot::from_json(&json).unwrap()));
    each("the public root read", &|| drop(TrustRoot::public().unwrap()));
    each("a bundle read and verified", &|| drop(verify(&bundle, &anchor).unwrap()));
}
