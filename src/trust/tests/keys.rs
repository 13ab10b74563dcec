use super::fixtures::{Person, data};
use crate::trust::{Curve, PublicKey};

#[test]
fn keys_of_the_three_curves_are_read_and_named_as_the_reference_client_names_them() {
    for (name, curve) in [("p256", Curve::P256), ("p384", Curve::P384), ("p521", Curve::P521)] {
        let key = PublicKey::from_pem(&data(&format!("{name}.pub"))).unwrap();
        assert_eq!(key.curve(), curve);
        assert!(data(&format!("{name}.sig")).contains(key.hint().as_str()), "{name}");
    }
}

#[test]
fn one_key_has_one_hint_however_it_is_written() {
    let key = PublicKey::from_pem(&data("p256.pub")).unwrap();
    let with_preamble = format!("Public Key Information:\n\tCurve: SECP256R1\n\n{}\ntrailing text", data("p256.pub"));
    let windows = data("p256.pub").replace('\n', "\r\n");
    let one_line = data("p256.pub").replace('\n', "").replace("KEY-----M", "KEY-----\nM").replace("-----END", "\n-----END");
    for other in [data("p256-compressed.pub"), with_preamble, windows, one_line] {
        assert_eq!(PublicKey::from_pem(&other).unwrap().hint(), key.hint(), "{other}");
    }
}

#[test]
fn what_is_no_key_of_ours_is_refused_by_its_name() {
    let cut = data("p256.pub").replace("-----END", "----END");
    let off_curve = data("p256.pub").replace("xUlcnIbfv0", "xUlcnIbfv1");
    let two = format!("{}{}", data("p256.pub"), data("p384.pub"));
    let private = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n";
    let long = "x".repeat(PublicKey::MAX_PEM + 1);
    for (text, found) in [
        (data("rsa.pub").as_str(), "an RSA key"),
        (&data("ed25519.pub"), "an Ed25519 key"),
        (&data("secp256k1.pub"), "an EC key on secp256k1"),
        ("-----BEGIN RSA PUBLIC KEY-----\nMA==\n-----END RSA PUBLIC KEY-----", "an RSA key"),
        ("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----", "a certificate"),
        ("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----", "a private key"),
        (private, "a private key"),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----", "not base64"),
        ("-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----", "no public key"),
        ("ecdsa-sha2-nistp256 AAAA me@host", "an OpenSSH key"),
        ("", "nothing"),
        ("hello", "no PEM block"),
        (&cut, "cut off"),
        (&off_curve, "not on its curve"),
        (&two, "more than one"),
        (&long, "bytes long"),
    ] {
        let message = PublicKey::from_pem(text).unwrap_err().to_string();
        assert!(message.contains(found), "{message}");
        assert!(message.contains("needed is an EC public key on P-256, P-384 or P-521"), "{message}");
    }
}

#[test]
fn a_refusal_repeats_nothing_of_a_private_key() {
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";
    let message =
        PublicKey::from_pem(&format!("-----BEGIN EC PRIVATE KEY-----\n{secret}\n-----END EC PRIVATE KEY-----")).unwrap_err();
    assert!(!format!("{message} {message:?}").contains(secret));
}

#[test]
fn different_people_have_different_hints() {
    assert_ne!(Person::new(1).key().hint(), Person::new(2).key().hint());
}
