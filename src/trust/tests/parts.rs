use serde_json::{Value, json};

use super::fixtures::{Person, data};
use crate::{
    api::Reason,
    model::Digest,
    trust::{Bundle, Contents, Hash, Part, Parts, PublicKey, Rejected},
};

/// A statement over parts: names with contents.
fn shards(size: Value, parts: &[(&str, &str)]) -> Value {
    let resource =
        |(name, content): &(&str, &str)| json!({"name": name, "algorithm": "sha256", "digest": Digest::of(content).hex()});
    let root: Vec<u8> = parts.iter().flat_map(|(_, content)| *Digest::of(content).as_bytes()).collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": Digest::of(root).hex()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": parts.iter().map(resource).collect::<Vec<_>>(),
            "serialization": {"method": "shards", "hash_type": "sha256", "shard_size": size, "allow_symlinks": false},
        },
    })
}

fn read(statement: &Value) -> Result<Parts, Rejected> {
    let ann = Person::new(1);
    let json = ann.signs_statement(statement);
    let bundle = Bundle::parse_any(json.as_bytes(), Bundle::MAX_FILE)?;
    match bundle.verify(&ann.key()).unwrap().contents() {
        Contents::Parts(parts) => Ok(parts.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_reference_client_signs_by_parts_and_by_blake3_is_read_where_the_files_are() {
    let key = PublicKey::from_pem(&data("p256.pub")).unwrap();
    for (name, hash, parts) in [("shards.sig", Hash::Sha256, 5), ("blake3.sig", Hash::Blake3, 1)] {
        let bundle = Bundle::parse_any(data(name).as_bytes(), Bundle::MAX_FILE).unwrap();
        let attested = bundle.verify(&key).unwrap();
        let Contents::Parts(read) = attested.contents() else { panic!("{name}") };
        let paths: Vec<_> = read.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["config.json", "model.safetensors", "original/params.json"], "{name}");
        assert_eq!((read.hash, read.files[0].parts.len()), (hash, parts), "{name}");
    }
}

#[test]
fn where_only_digests_of_files_are_known_they_are_refused_saying_what_works() {
    for name in ["shards.sig", "blake3.sig"] {
        let rejected = Bundle::parse(data(name).as_bytes(), Bundle::MAX_RECORDED).unwrap_err();
        assert_eq!(rejected.reason, Reason::SignatureUnsupported);
        assert!(rejected.message.contains("bonafide sign"), "{rejected}");
    }
}

#[test]
fn parts_are_put_in_order_and_may_stand_in_any() {
    let read = read(&shards(json!(10), &[("a:10:13", "two"), ("b:c:0:2", "x"), ("a:0:10", "one")])).unwrap();
    let part = |end, content| Part { end: Some(end), digest: Digest::of(content).as_bytes().to_vec() };
    assert_eq!(read.files[0].parts, [part(10, "one"), part(13, "two")]);
    assert_eq!((read.files[1].path.as_str(), &read.files[1].parts), ("b:c", &vec![part(2, "x")]), "a name with a colon");
}

#[test]
fn the_size_of_parts_is_a_whole_number_however_it_is_written() {
    for size in [json!(10), json!(10.0), json!(1e1)] {
        assert!(read(&shards(size, &[("a:0:10", "one")])).is_ok());
    }
    for size in [json!(0), json!(0.0), json!(-10), json!(10.5), json!(1e300), json!(null)] {
        let rejected = read(&shards(size.clone(), &[("a:0:10", "one")])).unwrap_err();
        assert_eq!(rejected.reason, Reason::SignatureMalformed, "{size}");
        assert!(rejected.message.contains("shard_size"), "{rejected}");
    }
}

#[test]
fn parts_that_do_not_make_whole_files_are_refused() {
    for (parts, fragment) in [
        (vec![("a:10:20", "x")], "from 10 on where those from 0 on are due"),
        (vec![("a:0:10", "x"), ("a:20:30", "y")], "from 20 on where those from 10 on are due"),
        (vec![("a:0:10", "x"), ("a:0:10", "y")], "from 0 on where those from 10 on are due"),
        (vec![("a:0:10", "x"), ("a:5:15", "y")], "from 5 on where those from 10 on are due"),
        (vec![("a:0:5", "x"), ("a:5:10", "y")], "says that every part has 10"),
        (vec![("a:0:11", "x")], "says that every part has 10"),
        (vec![("a", "x")], "names no part of a file"),
        (vec![("a:0", "x")], "names no part of a file"),
        (vec![("a:0:0", "x")], "names no part of a file"),
        (vec![("a:10:0", "x")], "names no part of a file"),
        (vec![("a:00:10", "x")], "names no part of a file"),
        (vec![("a:+0:10", "x")], "names no part of a file"),
        (vec![("a:0:99999999999999999999", "x")], "names no part of a file"),
        (vec![("../a:0:10", "x")], "lists a file that cannot be one"),
        (vec![(":0:10", "x")], "lists a file that cannot be one"),
    ] {
        let rejected = read(&shards(json!(10), &parts)).unwrap_err();
        assert_eq!(rejected.reason, Reason::SignatureMalformed, "{parts:?}");
        assert!(rejected.message.contains(fragment), "{parts:?}: {rejected}");
    }
}

#[test]
fn a_hash_that_is_another_than_the_one_all_are_listed_by_is_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|it| it["predicate"]["resources"][0]["algorithm"] = json!("blake3"), "by its \"blake3\" hash"),
        (|it| it["predicate"]["resources"][0]["algorithm"] = json!("sha256-sharded-11"), "sha256-sharded-11"),
        (|it| it["predicate"]["resources"][0]["digest"] = json!("00"), "not 64 lower-case"),
        (|it| it["predicate"]["serialization"]["hash_type"] = json!("md5"), "which nobody knows here"),
        (|it| it["predicate"]["serialization"]["method"] = json!("tensors"), "which nobody knows here"),
        (|it| it["subject"][0]["digest"]["sha256"] = json!("0".repeat(64)), "contradicts itself"),
    ];
    for (change, fragment) in cases {
        let mut statement = shards(json!(10), &[("a:0:10", "one")]);
        change(&mut statement);
        let rejected = read(&statement).unwrap_err();
        assert!(rejected.message.contains(fragment), "{fragment}: {rejected}");
    }
    let mut statement = shards(json!(10), &[("a:0:10", "one")]);
    statement["predicate"]["resources"][0]["algorithm"] = json!("sha256-sharded-10");
    assert!(read(&statement).is_ok(), "as the reference client writes it");
}

#[test]
fn a_file_by_another_hash_is_listed_once() {
    let digest = "a".repeat(64);
    let statement = |names: &[&str]| {
        let mut statement = shards(json!(10), &names.iter().map(|name| (*name, "x")).collect::<Vec<_>>());
        for resource in statement["predicate"]["resources"].as_array_mut().unwrap() {
            resource["algorithm"] = json!("blake3");
            resource["digest"] = json!(digest);
        }
        let root: Vec<u8> = names.iter().flat_map(|_| [0xaa; 32]).collect();
        statement["subject"][0]["digest"]["sha256"] = json!(Digest::of(root).hex());
        statement["predicate"]["serialization"] = json!({"method": "files", "hash_type": "blake3", "allow_symlinks": false});
        statement
    };
    assert_eq!(read(&statement(&["b", "a"])).unwrap().files.len(), 2);
    assert!(read(&statement(&["a", "a"])).unwrap_err().message.contains("lists a twice"));
}
