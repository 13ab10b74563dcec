//! A timestamp authority (RFC 3161), made for tests.

use jiff::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SigningKey as _};
use x509_cert::der::{Decode as _, Encode as _, oid::ObjectIdentifier};

use super::authority::{Made, authority, made, params};
use crate::model::Digest;

pub struct Stamps {
    root: Made,
    leaf: Made,
}

impl Stamps {
    pub fn new() -> Self {
        let root = made(None, authority("stamps"));
        let mut says = params("stamp");
        (says.not_before, says.not_after) = (root.params().not_before, root.params().not_after);
        says.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        says.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
        Self { leaf: made(Some(&root), says), root }
    }

    /// The signer's certificate first.
    pub fn chain(&self) -> [&[u8]; 2] {
        [&self.leaf.der, &self.root.der]
    }

    /// The token that says that `signature` was there at `second`.
    pub fn stamp(&self, signature: &[u8], second: i64) -> Vec<u8> {
        const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
        const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
        let sha256 = sequence(&[&oid("2.16.840.1.101.3.4.2.1")]);
        let digest = |bytes: &[u8]| tlv(4, &[Digest::of(bytes).as_bytes()]);
        let time = Timestamp::from_second(second).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
        let info = sequence(&[
            &[2, 1, 1],
            &oid("1.3.6.1.4.1.32473.2"),
            &sequence(&[&sha256, &digest(signature)]),
            &[2, 1, 7],
            &tlv(0x18, &[time.as_bytes()]),
        ]);
        let attributes = [
            sequence(&[&oid("1.2.840.113549.1.9.3"), &tlv(0x31, &[&oid(TST_INFO)])]),
            sequence(&[&oid("1.2.840.113549.1.9.4"), &tlv(0x31, &[&digest(&info)])]),
        ]
        .concat();
        let leaf = x509_cert::Certificate::from_der(&self.leaf.der).unwrap();
        let (issuer, serial) = (leaf.tbs_certificate().issuer().to_der(), leaf.tbs_certificate().serial_number().to_der());
        let signer = sequence(&[
            &[2, 1, 1],
            &sequence(&[&issuer.unwrap(), &serial.unwrap()]),
            &sha256,
            &tlv(0xa0, &[&attributes]),
            &sequence(&[&oid("1.2.840.10045.4.3.2")]),
            &tlv(4, &[&self.leaf.key.sign(&tlv(0x31, &[&attributes])).unwrap()]),
        ]);
        let signed = sequence(&[
            &[2, 1, 3],
            &tlv(0x31, &[&sha256]),
            &sequence(&[&oid(TST_INFO), &tlv(0xa0, &[&tlv(4, &[&info])])]),
            &tlv(0x31, &[&signer]),
        ]);
        sequence(&[&oid(SIGNED_DATA), &tlv(0xa0, &[&signed])])
    }
}

fn oid(text: &str) -> Vec<u8> {
    ObjectIdentifier::new_unwrap(text).to_der().unwrap()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// DER of a tag and its contents.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..128 => vec![tag, low],
        128..256 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}
