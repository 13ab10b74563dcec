//! What policies want to be looked at beside digests, in bytes that came over the network.

use bonafide::{api::Reason, model::RemoteCode};

use super::*;

const FORMATS: Checks = Checks { formats: true, remote_code: None };

fn code(allowed: RemoteCode) -> Checks {
    Checks { formats: false, remote_code: Some(allowed) }
}

/// A safetensors file with one tensor of `length` bytes.
fn safetensors(length: usize) -> Vec<u8> {
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{length}],"data_offsets":[0,{length}]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &noise(length, 5)].concat()
}

async fn outcome(files: &[(&str, &[u8])], checks: Checks) -> Outcome {
    let place = Place::new(files).await;
    let into = tempfile::tempdir().unwrap();
    let job = || Job { checks, ..job(&place, files, into.path()) };
    let (first, _) = fetch(place.resolver(), job()).await;
    // What lies there already is looked at again.
    let (second, _) = fetch(place.resolver(), job()).await;
    match (&first, &second) {
        (Outcome::Complete { .. }, Outcome::Complete { received: 0 }) => {}
        _ => assert_eq!(first, second),
    }
    first
}

fn unfit(outcome: Outcome) -> (Reason, String, String) {
    let Outcome::Unfit(reason, refused) = outcome else { panic!("{outcome:?}") };
    (reason, refused.file, refused.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_are_not_what_their_names_say_are_refused_where_a_policy_wants_that() {
    let pickle = b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94".as_slice();
    let good = safetensors(3 << 20);
    let files: [(&str, &[u8]); 2] = [("a/model.safetensors", &good), ("b/model.safetensors", pickle)];
    assert!(matches!(outcome(&files, Checks::default()).await, Outcome::Complete { .. }), "nobody wants it to be looked at");
    let (reason, file, message) = unfit(outcome(&files, FORMATS).await);
    assert_eq!((reason, file.as_str()), (Reason::FormatMismatch, "b/model.safetensors"));
    assert!(message.contains("is no safetensors file") && message.contains("(formats)"), "{message}");
    assert!(matches!(outcome(&files[..1], FORMATS).await, Outcome::Complete { .. }));
    let archive = [good.as_slice(), b"PK\x05\x06", &[0; 18]].concat();
    let (reason, _, message) = unfit(outcome(&[("model.safetensors", &archive)], FORMATS).await);
    assert_eq!(reason, Reason::FormatMismatch, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_that_names_code_is_refused_where_a_policy_denies_that() {
    let naming = br#"{"architectures": ["X"], "auto_map": {"AutoModel": "modeling_x.X"}}"#.as_slice();
    let elsewhere = br#"{"auto_map": {"AutoModel": "other/repo--modeling_x.X"}}"#.as_slice();
    let files = |config| [("model.gguf", b"weights".as_slice()), ("sub/tokenizer_config.json", config)];
    let (reason, file, message) = unfit(outcome(&files(naming), code(RemoteCode::Deny)).await);
    assert_eq!((reason, file.as_str()), (Reason::RemoteCodeDenied, "sub/tokenizer_config.json"));
    assert!(message.contains("(auto_map: modeling_x.X)"), "{message}");
    assert!(matches!(outcome(&files(naming), code(RemoteCode::AllowIfSigned)).await, Outcome::Complete { .. }));
    let (_, _, message) = unfit(outcome(&files(elsewhere), code(RemoteCode::AllowIfSigned)).await);
    assert!(message.contains("in another repository"), "{message}");
    let (_, _, message) = unfit(outcome(&files(b"{"), code(RemoteCode::Deny)).await);
    assert!(message.contains("cannot be read") && message.contains("nobody can say"), "{message}");
    assert!(matches!(outcome(&files(b"{}"), code(RemoteCode::Deny)).await, Outcome::Complete { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_weights_are_what_their_name_says() {
    let path = localcluster::assets::path(localcluster::assets::MODEL).await.unwrap();
    let size = fs::metadata(&path).unwrap().len();
    let mut file = fs::File::open(&path).unwrap();
    bonafide::model::Format::Gguf.check(&mut file, size).unwrap();
    assert!(bonafide::model::Format::Gguf.check(&mut file, size - 1).is_err());
}
