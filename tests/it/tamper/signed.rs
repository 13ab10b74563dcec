//! Models that `bonafide sign` signs for the reference client, with keys and certificates as OpenSSL makes them.

use std::{ffi::OsString, fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::support::path;

/// One case: its name, the arguments that sign, and those that verify by the reference client.
pub type Case = (String, Vec<OsString>, Vec<OsString>);

/// Keys on every curve, and certificates for them under an authority with one between.
pub fn people() -> TempDir {
    let people = TempDir::new().unwrap();
    let script = r#"
set -e
cat >ca.cnf <<'END'
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[middle]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign
[leaf]
keyUsage = critical,digitalSignature
extendedKeyUsage = codeSigning
END
issue() { # NAME SUBJECT SECTION ISSUER
    openssl req -new -key "$1.key" -subj "$2" -config ca.cnf -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$4.crt" -CAkey "$4.key" -CAcreateserial -days 3650 -sha384 -extfile ca.cnf -extensions "$3" -out "$1.crt"
}
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out root.key
openssl req -x509 -new -key root.key -subj /O=Acme/CN=Root -days 3650 -config ca.cnf -extensions root -out root.crt
openssl ecparam -name secp384r1 -genkey -noout -out middle.key
issue middle /O=Acme/CN=Code middle root
for curve in prime256v1 secp384r1 secp521r1; do
    openssl ecparam -name $curve -genkey -noout -out $curve.key
    openssl pkey -in $curve.key -pubout -out $curve.pub
    issue $curve /O=Acme/CN=Models leaf middle
    cat root.crt $curve.crt middle.crt >$curve.chain
done
"#;
    let made = Command::new("bash").args(["-c", script]).current_dir(people.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    people
}

/// Every curve, both methods.
pub fn cases(people: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        let file = |kind: &str| people.join(format!("{curve}.{kind}")).into_os_string();
        let key = || vec!["--key".into(), file("key")];
        cases.push((format!("{curve}-by-key"), key(), vec!["key".into(), "--public_key".into(), file("pub")]));
        let chain = [key(), vec!["--certificate-chain".into(), file("chain")]].concat();
        let trusted = vec!["certificate".into(), "--certificate_chain".into(), people.join("root.crt").into_os_string()];
        cases.push((format!("{curve}-by-certificate"), chain, trusted));
    }
    cases
}

/// A model with names that are hard, and with what git leaves behind.
pub fn model(at: &Path) {
    for name in ["config.json", "model.safetensors", "original/params.json"] {
        let to = at.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path("tests/data/oms/model").join(name), to).unwrap();
    }
    for (name, content) in [
        ("a.b", "one"),
        ("a/b", "two"),
        ("file (copy).bin", "three"),
        ("\u{6a21}\u{578b}.bin", "four"),
        ("\u{1f600}", "five"),
        ("\u{ff5e}", "six"),
        ("empty", ""),
        (".hidden/config", "seven"),
        (".git/HEAD", "git"),
        (".gitattributes", "git"),
        ("a/.gitignore", "eight"),
    ] {
        fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
        fs::write(at.join(name), content).unwrap();
    }
}
