use serde_json::{Value, json};

use super::super::sigstore::Sigstore;
use crate::trust::{Identity, Pattern, TrustRoot};

#[test]
fn the_public_instance_that_is_built_in_can_be_used() {
    let root = TrustRoot::public().unwrap();
    assert_eq!(root.to_string(), "Sigstore's public instance");
    assert!(!format!("{root:?}").contains("BEGIN"), "named, not written out");
}

#[test]
fn a_root_that_cannot_be_used_says_why() {
    let sigstore = Sigstore::new();
    let good = sigstore.trusted_root();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut root = good.clone();
        change(&mut root);
        TrustRoot::from_json(&root.to_string()).map(drop)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(
        with(&|it| it["mediaType"] = json!("application/vnd.dev.sigstore.trustedroot.v0.2+json")),
        Ok(()),
        "as newer tools write it"
    );
    let client = json!({
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": good,
        "signingConfig": {},
    });
    assert_eq!(TrustRoot::from_json(&client.to_string()).map(drop), Ok(()), "what model_signing --trust_config reads");
    let why = |text: &str| TrustRoot::from_json(text).map(drop).unwrap_err();
    for (text, fragment) in [
        (String::new(), "it cannot be read"),
        ("-----BEGIN CERTIFICATE-----".to_owned(), "it cannot be read"),
        ("{}".to_owned(), "its mediaType is \"\""),
        (json!({"mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"}).to_string(), "no trustedRoot"),
        (json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}).to_string(), "its mediaType is \"application"),
        (good.to_string().replacen('{', "{\"tlogs\": [],", 1), "duplicate field `tlogs`"),
        (" ".repeat(300_000), "300000 bytes long"),
    ] {
        let why = why(&text);
        assert!(why.contains(fragment) && why.ends_with("trusted_root.json of a Sigstore instance"), "{fragment}: {why}");
    }
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 7] = [
        (|it| it["certificateAuthorities"] = json!([]), "certificateAuthorities is empty"),
        (|it| it["tlogs"] = json!([]), "tlogs is empty"),
        (|it| it["ctlogs"] = json!([]), "ctlogs is empty"),
        (|it| it["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]), "empty certificate chain"),
        (|it| it["tlogs"][0]["publicKey"]["rawBytes"] = json!("AAAA"), "it cannot be used"),
        (|it| it["tlogs"][0]["publicKey"]["validFor"]["end"] = json!("2020-01-01T00:00:00Z"), "ends before it starts"),
        (
            |it| {
                let twice = it["tlogs"][0].clone();
                it["tlogs"].as_array_mut().unwrap().push(twice);
            },
            "duplicate",
        ),
    ];
    for (change, fragment) in changes {
        let why = with(&change).unwrap_err();
        assert!(why.contains(fragment), "{fragment}: {why}");
    }
}

#[test]
fn an_issuer_is_a_url() {
    let root = TrustRoot::public().unwrap();
    let issuer = |text: &str| Identity::new(text, Pattern::exact("a").unwrap(), root.clone()).map(drop);
    assert_eq!(issuer("https://accounts.google.com"), Ok(()));
    assert_eq!(issuer("http://keycloak.acme.example/realms/models"), Ok(()));
    for wrong in ["", "accounts.google.com", "https://", "https://a b", " https://a", "https://a\n"] {
        assert!(issuer(wrong).unwrap_err().contains("is no URL"), "{wrong}");
    }
    assert!(issuer(&format!("https://{}", "a".repeat(512))).unwrap_err().contains("520 bytes long"));
}
