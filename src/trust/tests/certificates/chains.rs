use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};

use super::{
    super::{
        authority::{Acme, Made, authority, made, params, signer},
        fixtures::data,
        verdicts::FILES,
    },
    MODELS, anchor, at, verify, verify_at,
};
use crate::{
    api::Reason,
    trust::{Anchor, Authority, Kind, Pattern, PublicKey, Roots, Wanted},
};

#[test]
fn what_the_reference_client_signs_with_a_certificate_holds() {
    let root = data("acme-root.pem");
    let now = at("2027-01-01T00:00:00Z");
    for file in ["acme.sig", "acme-p521.sig"] {
        let signer = verify_at(&data(file), &anchor(&root, "CN=Models,O=Acme,C=NL"), now);
        assert!(signer.is_ok(), "an RSA root, a P-384 authority: {signer:?}");
    }
    let large = verify_at(&data("acme-p521-root.sig"), &anchor(&data("acme-p521-root.pem"), "CN=Models,O=Acme"), now);
    assert!(large.is_ok(), "a P-521 authority that hashes with SHA-256, as openssl does by itself: {large:?}");
    let san = |kind, name: &str| {
        let wanted = Wanted::new(None, Some((kind, Pattern::exact(name)))).unwrap();
        verify_at(&data("acme.sig"), &Anchor::Certificate(Authority::new(Roots::from_pem(&root).unwrap(), wanted)), now)
    };
    assert!(san(Kind::Email, "models@acme.example").is_ok());
    assert!(san(Kind::Uri, "spiffe://acme.example/models").is_ok());
    assert_eq!(san(Kind::Dns, "models@acme.example").unwrap_err().reason, Reason::WrongSigner, "a name of another kind");
    assert_eq!(san(Kind::Email, "Models@acme.example").unwrap_err().reason, Reason::WrongSigner);
}

#[test]
fn what_the_reference_client_accepts_and_should_not_is_refused() {
    let root = data("acme-root.pem");
    let now = at("2027-01-01T00:00:00Z");
    let tls = verify_at(&data("acme-tls.sig"), &anchor(&root, "CN=www.acme.example,O=Acme,C=NL"), now).unwrap_err();
    assert_eq!(tls.reason, Reason::CertificateUnfit);
    assert!(
        tls.message.contains("that is a TLS server's (extendedKeyUsage serverAuth), and signing a model needs codeSigning"),
        "{tls}"
    );
    let expired = verify_at(&data("acme-expired.sig"), &anchor(&root, "CN=Models,O=Acme,C=NL"), now).unwrap_err();
    assert_eq!(expired.reason, Reason::CertificateExpired);
    assert!(
        expired.message.contains("CN=Models,O=Acme,C=NL, which has expired: it was valid until 2025-01-02T00:00:00Z"),
        "{expired}"
    );
    let other = verify_at(&data("acme.sig"), &anchor(&root, "CN=Somebody,O=Acme,C=NL"), now).unwrap_err();
    assert_eq!(other.reason, Reason::WrongSigner);
    assert!(other.message.contains("a certificate for CN=Models,O=Acme,C=NL, and wanted is CN=Somebody,O=Acme,C=NL"), "{other}");
    let reversed = verify_at(&data("acme.sig"), &anchor(&root, "C=NL, O=Acme, CN=Models"), now).unwrap_err();
    assert!(reversed.message.contains("in the other order"), "{reversed}");
}

/// Name, the bundle, the root, the wanted subject, when, the reason, and what the message says.
type Row = (&'static str, String, String, &'static str, &'static str, Reason, &'static str);

#[test]
fn each_thing_that_can_be_wrong_with_a_chain_has_its_reason() {
    let Acme { root, middle, models } = &Acme::new();
    let good = models.signs(&FILES, &[middle]);
    assert!(verify(&good, &anchor(&root.pem(), MODELS)).is_ok());

    let under = |issuer: &Made, name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = if name == "models" { signer(name) } else { authority(name) };
        change(&mut params);
        made(Some(issuer), params)
    };
    let leaf = |change: &dyn Fn(&mut CertificateParams)| under(middle, "models", change).signs(&FILES, &[middle]);
    let above = |change: &dyn Fn(&mut CertificateParams)| {
        let middle = under(root, "code", change);
        made(Some(&middle), signer("models")).signs(&FILES, &[&middle])
    };
    let other_root = made(None, authority("root"));
    let stranger = made(None, authority("stranger"));
    let second = under(middle, "second", &|_| {});
    let deep = made(Some(&second), signer("models"));
    let short = under(root, "short", &|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_short = under(&short, "below", &|_| {});
    let too_deep = made(Some(&below_short), signer("models"));
    let mut many = vec![under(root, "c0", &|_| {})];
    for index in 1..10 {
        many.push(under(&many[index - 1], &format!("c{index}"), &|_| {}));
    }
    let far = made(many.last(), signer("models")).signs(&FILES, &many.iter().collect::<Vec<_>>());
    let own = made(None, signer("models"));
    let critical = || {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![5, 0]);
        extension.set_criticality(true);
        vec![extension]
    };
    let constrained = NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::Rfc822Name("acme.example".to_owned())],
        excluded_subtrees: vec![],
    };
    assert!(verify(&deep.signs(&FILES, &[&second, middle]), &anchor(&root.pem(), MODELS)).is_ok(), "two authorities between");

    const DAY: &str = "2026-07-01T00:00:00Z";
    let rows: Vec<Row> = vec![
        (
            "another authority",
            good.clone(),
            stranger.pem(),
            MODELS,
            DAY,
            Reason::WrongSigner,
            "leads to CN=root,O=Acme, which neither",
        ),
        (
            "another of the same name",
            good.clone(),
            other_root.pem(),
            MODELS,
            DAY,
            Reason::WrongSigner,
            "its key did not issue the certificate for CN=code,O=Acme",
        ),
        (
            "no intermediate",
            models.signs(&FILES, &[]),
            root.pem(),
            MODELS,
            DAY,
            Reason::WrongSigner,
            "leads to CN=code,O=Acme, which neither",
        ),
        (
            "the root instead of it",
            models.signs(&FILES, &[root]),
            root.pem(),
            MODELS,
            DAY,
            Reason::WrongSigner,
            "leads to CN=code,O=Acme",
        ),
        (
            "the signer last",
            models.signs_with(&FILES, &[middle.der.clone(), models.der.clone()]).to_string(),
            root.pem(),
            MODELS,
            DAY,
            Reason::SignatureInvalid,
            "its key did not sign it",
        ),
        (
            "signed by itself",
            own.signs(&FILES, &[]),
            root.pem(),
            MODELS,
            DAY,
            Reason::WrongSigner,
            "nobody but itself vouches for",
        ),
        (
            "expired",
            good.clone(),
            root.pem(),
            MODELS,
            "2027-01-01T00:00:00Z",
            Reason::CertificateExpired,
            "for CN=models,O=Acme, which has expired: it was valid until 2026-12-31T00:00:00Z",
        ),
        (
            "not yet valid",
            good.clone(),
            root.pem(),
            MODELS,
            "2025-12-31T23:59:59Z",
            Reason::CertificateNotYetValid,
            "is not valid yet: it is from 2026-01-01T00:00:00Z on",
        ),
        (
            "an expired intermediate",
            above(&|it| it.not_after = date_time_ymd(2026, 6, 1)),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateExpired,
            "under one for CN=code,O=Acme, which has expired",
        ),
        (
            "an intermediate that is not valid yet",
            above(&|it| it.not_before = date_time_ymd(2026, 8, 1)),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateNotYetValid,
            "under one for CN=code,O=Acme, which is not valid yet",
        ),
        (
            "an expired root",
            good.clone(),
            root.pem(),
            "CN=models,O=Acme",
            "2041-01-01T00:00:00Z",
            Reason::CertificateExpired,
            "has expired",
        ),
        (
            "another subject",
            good.clone(),
            root.pem(),
            "CN=model,O=Acme",
            DAY,
            Reason::WrongSigner,
            "a certificate for CN=models,O=Acme, and wanted is CN=model,O=Acme",
        ),
        ("a part of the subject", good.clone(), root.pem(), "CN=models", DAY, Reason::WrongSigner, "wanted is CN=models"),
        (
            "for TLS servers",
            leaf(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "is a TLS server's",
        ),
        (
            "for everything",
            leaf(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "anyExtendedKeyUsage",
        ),
        (
            "not for signatures",
            leaf(&|it| it.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "leaves digitalSignature out",
        ),
        (
            "for nothing",
            leaf(&|it| (it.key_usages, it.extended_key_usages) = (vec![], vec![])),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "does not say that it is for signing",
        ),
        (
            "an authority's own",
            leaf(&|it| {
                it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                it.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "is an authority's own",
        ),
        (
            "an authority for anything",
            leaf(&|it| {
                it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                it.extended_key_usages = vec![];
            }),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "is an authority's own",
        ),
        (
            "something critical that is not known",
            leaf(&|it| it.custom_extensions = critical()),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "a critical extension 1.3.6.1.4.1.32473.1",
        ),
        (
            "something critical above",
            above(&|it| it.custom_extensions = critical()),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "a critical extension 1.3.6.1.4.1.32473.1",
        ),
        (
            "a signer above a signer",
            above(&|it| it.is_ca = IsCa::ExplicitNoCa),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "is no authority's",
        ),
        (
            "an authority without keyCertSign",
            above(&|it| it.key_usages = vec![KeyUsagePurpose::CrlSign]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "leaves keyCertSign out",
        ),
        (
            "an authority for TLS",
            above(&|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "leaves codeSigning out",
        ),
        (
            "constraints on names",
            above(&|it| it.name_constraints = Some(constrained.clone())),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "nameConstraints",
        ),
        (
            "a path that is longer than allowed",
            too_deep.signs(&FILES, &[&below_short, &short]),
            root.pem(),
            MODELS,
            DAY,
            Reason::CertificateUnfit,
            "allows 0 authorities between itself and a signer, and there are 1",
        ),
        ("a path of ten", far, root.pem(), MODELS, DAY, Reason::WrongSigner, "leads to"),
        (
            "bytes that are no certificate",
            models.signs_with(&FILES, &[models.der.clone(), middle.der.clone(), vec![48, 0]]).to_string(),
            root.pem(),
            MODELS,
            DAY,
            Reason::SignatureMalformed,
            "whose certificate 3 cannot be read",
        ),
        (
            "no certificate",
            models.signs_with(&FILES, &[]).to_string(),
            root.pem(),
            MODELS,
            DAY,
            Reason::SignatureMalformed,
            "0 certificates",
        ),
        (
            "seventeen",
            models.signs_with(&FILES, &vec![models.der.clone(); 17]).to_string(),
            root.pem(),
            MODELS,
            DAY,
            Reason::SignatureMalformed,
            "17 certificates",
        ),
        (
            "a certificate of 20 KB",
            models.signs_with(&FILES, &[vec![48; 20_000]]).to_string(),
            root.pem(),
            MODELS,
            DAY,
            Reason::SignatureMalformed,
            "20000 bytes long",
        ),
        ("a signature by a key", data("p256.sig"), root.pem(), MODELS, DAY, Reason::WrongSigner, "without a certificate"),
    ];
    for (case, bundle, root, subject, now, reason, fragment) in rows {
        let rejected = verify_at(&bundle, &anchor(&root, subject), at(now)).expect_err(case);
        assert_eq!(rejected.reason, reason, "{case}: {rejected}");
        assert!(rejected.message.contains(fragment), "{case}: {rejected}");
    }
}

#[test]
fn what_does_no_harm_in_a_chain_is_passed_over() {
    let Acme { root, middle, models } = &Acme::new();
    let (stranger, root_of_acme) = (made(None, authority("stranger")), anchor(&root.pem(), MODELS));
    let namesake = made(Some(&stranger), authority("code"));
    for (case, others) in [
        ("the root too", vec![middle, root]),
        ("the root first", vec![root, middle]),
        ("strangers around it", vec![&stranger, &namesake, middle, &stranger]),
        ("one certificate often", vec![middle; 15]),
        ("the signer's again", vec![models, middle]),
    ] {
        assert!(verify(&models.signs(&FILES, &others), &root_of_acme).is_ok(), "{case}");
    }
    let direct = made(Some(root), signer("models"));
    assert!(verify(&direct.signs(&FILES, &[]), &root_of_acme).is_ok(), "the root itself issued it");
    let by_middle = anchor(&middle.pem(), MODELS);
    assert!(verify(&models.signs(&FILES, &[]), &by_middle).is_ok(), "an authority that is trusted need not be a root");
    let both = anchor(&format!("old\n{}\nnew\n{}", stranger.pem(), root.pem()), MODELS);
    assert!(verify(&models.signs(&FILES, &[middle]), &both).is_ok(), "one of two");
    // What the reference client's own examples look like: CA:TRUE, and no right to issue anything.
    let mut params = signer("models");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(verify(&made(Some(middle), params).signs(&FILES, &[middle]), &root_of_acme).is_ok());
}

#[test]
fn a_key_does_not_verify_what_a_certificate_signed() {
    let acme = Acme::new();
    let bundle = acme.models.signs(&FILES, &[&acme.middle]);
    let key = PublicKey::from_pem(&acme.models.key.public_key_pem()).unwrap();
    let rejected = verify(&bundle, &Anchor::Key(key)).unwrap_err();
    assert_eq!(rejected.reason, Reason::WrongSigner);
    assert!(rejected.message.contains("was signed with an X.509 certificate, and wanted is a signature of key"), "{rejected}");
}

#[test]
fn no_altered_byte_of_a_chain_is_believed_or_makes_anything_fall_over() {
    let Acme { root, middle, models } = &Acme::new();
    let anchor = anchor(&root.pem(), MODELS);
    let chain = [models.der.clone(), middle.der.clone()];
    for which in 0..chain.len() {
        for index in 0..chain[which].len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut altered = chain.clone();
                altered[which][index] ^= flip;
                let bundle = models.signs_with(&FILES, &altered).to_string();
                assert!(verify(&bundle, &anchor).is_err(), "certificate {which}, byte {index}, ^{flip}");
            }
        }
        for length in 0..chain[which].len() {
            let mut cut = chain.clone();
            cut[which].truncate(length);
            assert!(
                verify(&models.signs_with(&FILES, &cut).to_string(), &anchor).is_err(),
                "certificate {which} cut at {length}"
            );
        }
    }
}

#[test]
fn no_altered_byte_of_what_a_certificate_signed_is_believed() {
    let Acme { root, middle, models } = &Acme::new();
    let anchor = anchor(&root.pem(), MODELS);
    let other = models.signs_with(&[("config.json", "{}"), ("model.gguf", "weightz")], &[]);
    let mut bundle = models.signs_with(&FILES, &[models.der.clone(), middle.der.clone()]);
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
    assert_eq!(verify(&bundle.to_string(), &anchor).unwrap_err().reason, Reason::SignatureInvalid, "another payload");
    let mut bundle = models.signs_with(&FILES, &[models.der.clone(), middle.der.clone()]);
    bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    assert_eq!(verify(&bundle.to_string(), &anchor).unwrap_err().reason, Reason::SignatureInvalid, "another signature");
}

#[test]
fn what_cannot_be_an_authority_is_refused_before_it_is_trusted() {
    let acme = Acme::new();
    let wrong = |text: &str| Roots::from_pem(text).unwrap_err();
    assert!(wrong("").contains("there is no certificate"));
    assert!(wrong(&acme.models.pem()).contains("certificate 1 (CN=models,O=Acme) is no authority's"));
    assert!(wrong(&format!("{}{}", acme.root.pem(), acme.models.pem())).contains("certificate 2"));
    assert!(wrong(&acme.models.key.serialize_pem()).contains("private key"));
    assert!(wrong(&acme.models.key.public_key_pem()).contains("PUBLIC KEY"));
    assert!(wrong(&acme.root.pem().replace("-----END", "")).contains("cut off"));
    assert!(wrong(&acme.root.pem().repeat(17)).contains("more than 16"));
    assert!(wrong(&"x".repeat(300_000)).contains("bytes long"));
    let plain = made(None, params("plain")); // says nothing of signing
    assert!(wrong(&plain.pem()).contains("CA:TRUE"));
}

#[test]
fn a_certificate_that_nobody_else_issued_is_trusted_for_itself_and_for_nothing_below_it() {
    let own = made(None, signer("models"));
    let trusted = anchor(&own.pem(), MODELS);
    assert!(verify(&own.signs(&FILES, &[]), &trusted).is_ok());
    let refused = |bundle: String| verify(&bundle, &trusted).unwrap_err().reason;
    assert_eq!(refused(made(None, signer("models")).signs(&FILES, &[])), Reason::WrongSigner, "another of the same name");
    assert_eq!(refused(made(Some(&own), signer("models")).signs(&FILES, &[&own])), Reason::CertificateUnfit, "one below it");
    let other = anchor(&own.pem(), "CN=others,O=Acme");
    assert_eq!(verify(&own.signs(&FILES, &[]), &other).unwrap_err().reason, Reason::WrongSigner);
    for (time, reason) in
        [("2028-01-01T00:00:00Z", Reason::CertificateExpired), ("2025-01-01T00:00:00Z", Reason::CertificateNotYetValid)]
    {
        assert_eq!(verify_at(&own.signs(&FILES, &[]), &trusted, at(time)).unwrap_err().reason, reason);
    }
    // It must be for signing all the same.
    let mut tls = signer("models");
    tls.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert!(Roots::from_pem(&made(None, tls).pem()).unwrap_err().contains("CA:TRUE"));
}
