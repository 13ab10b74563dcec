//! What a branch stands for, which files there are, and every way in which a hub says no.

use std::time::Duration;

use bonafide::{
    api::Reason,
    model::Digest,
    weights::{Retry, SourceError},
};
use localcluster::hub::{Fail, Faults, Which};

use super::*;

const FILES: [(&str, &[u8]); 4] = [
    ("README.md", b"---\nlicense: apache-2.0\n---\n"),
    ("config.json", b"{}"),
    ("sub/tokenizer.json", b"[]"),
    ("model.gguf", b"GGUF and more"),
];

async fn refusal(place: &Place, source: &str, revision: Option<&str>) -> SourceError {
    place.resolver().resolve(&source.parse().unwrap(), revision, None).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_resolved_to_a_commit_with_every_file_and_the_digests_of_large_ones() {
    let place = Place::new(&FILES).await;
    for revision in [None, Some("main"), Some(place.commit().as_str())] {
        let tree = place.resolver().resolve(&source(), revision, None).await.unwrap();
        assert_eq!(tree.revision, place.commit());
        let files: Vec<_> = tree.files.iter().map(|file| (file.path.as_str(), file.size, file.sha256)).collect();
        let expected = [
            ("README.md", 28, None),
            ("config.json", 2, None),
            ("model.gguf", 13, Some(Digest::of("GGUF and more"))),
            ("sub/tokenizer.json", 2, None),
        ];
        assert_eq!(files, expected);
        assert!(tree.unclean.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_whole_and_only_with_the_size_that_was_listed() {
    let place = Place::new(&FILES).await;
    let (resolver, commit) = (place.resolver(), place.commit());
    let read = async |path: &str, size| resolver.read(&source(), &commit, &path.parse().unwrap(), size, None).await;
    assert_eq!(read("sub/tokenizer.json", 2).await.unwrap(), b"[]");
    assert_eq!(read("model.gguf", 13).await.unwrap(), b"GGUF and more");
    for wrong in [1, 3] {
        let error = read("config.json", wrong).await.unwrap_err();
        assert_eq!(error.problem.reason, Reason::SourceInvalid);
        assert!(error.problem.message.contains(&format!("{wrong} bytes")), "{error}");
    }
    assert_eq!(read("nothing.json", 1).await.unwrap_err().problem.reason, Reason::SourceInvalid);
    let asked = place.file_requests().len();
    assert_eq!(read("model.gguf", Resolver::MAX_READ + 1).await.unwrap_err().retry, Retry::Never);
    assert_eq!(place.file_requests().len(), asked, "too large a file is not even asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_complete() {
    let names: Vec<String> = (0..25).map(|number| format!("part-{number:02}.json")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"{}".as_slice())).collect();
    let place = Place::with(&files, |options| options.page = 4).await;
    let tree = place.resolver().resolve(&source(), None, None).await.unwrap();
    let listed: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(listed, names);
    assert_eq!(place.hub.requests().len(), 1 + 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_commit_is_served_after_the_branch_moved_on() {
    let place = Place::new(&FILES).await;
    let first = place.hub.snapshot(REPOSITORY).unwrap();
    write(&place.root.path().join(REPOSITORY), &[("model.gguf", b"GGUF, another one")]);
    let now = place.resolver().resolve(&source(), None, None).await.unwrap();
    let kept = place.resolver().resolve(&source(), Some(&first), None).await.unwrap();
    assert_ne!(now.revision, first);
    assert_eq!(kept.revision, first);
    assert_eq!(kept.files[2].sha256, Some(Digest::of("GGUF and more")));
    assert_eq!(now.files[2].sha256, Some(Digest::of("GGUF, another one")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_told_apart() {
    let place = Place::new(&FILES).await;
    let missing = refusal(&place, "hf://acme/smollm3", None).await;
    assert_eq!(missing.problem.reason, Reason::RepositoryNotFound);
    assert!(missing.problem.message.contains("hf://acme/smollm3 does not exist"), "{missing}");
    assert!(missing.problem.message.contains("or is private"), "{missing}");
    let revision = refusal(&place, "hf://acme/smollm2", Some("v9")).await;
    assert_eq!(revision.problem.reason, Reason::RevisionNotFound);
    assert!(revision.problem.message.contains("\"v9\""), "{revision}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_name_a_revision_is_asked_of_nobody() {
    let place = Place::new(&[("model.gguf", b"GGUF")]).await;
    for revision in ["../../../api/models", "a?b", ""] {
        let error = refusal(&place, &source().to_string(), Some(revision)).await;
        assert_eq!((error.problem.reason, error.retry), (Reason::RevisionNotFound, Retry::Never), "{revision:?}");
    }
    assert_eq!(place.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_opens_to_the_right_token_only() {
    let place = Place::with(&FILES, |options| {
        options.private = vec![REPOSITORY.to_owned()];
        options.tokens = vec!["hf_right".to_owned()];
    })
    .await;
    let resolve = async |token: &str, hosts: &str| {
        let credentials = credentials(token, hosts);
        place.resolver().resolve(&source(), None, Some(&credentials)).await
    };
    assert_eq!(refusal(&place, "hf://acme/smollm2", None).await.problem.reason, Reason::RepositoryNotFound);
    assert_eq!(resolve("hf_right", "127.0.0.1").await.unwrap().files.len(), 4);
    let wrong = resolve("hf_wrong", "127.0.0.1").await.unwrap_err();
    assert_eq!(wrong.problem.reason, Reason::AccessDenied);
    assert!(!wrong.to_string().contains("hf_wrong"), "{wrong}");
    let withheld = resolve("hf_right", "huggingface.co").await.unwrap_err();
    assert_eq!(withheld.problem.reason, Reason::RepositoryNotFound);
    assert!(withheld.problem.message.contains("does not name 127.0.0.1"), "{withheld}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_repository_says_where_to_accept_its_licence() {
    let place = Place::with(&FILES, |options| {
        options.gated = vec![REPOSITORY.to_owned()];
        options.tokens = vec!["hf_stranger".to_owned()];
        options.licensed_tokens = vec!["hf_friend".to_owned()];
    })
    .await;
    let page = format!("{}/acme/smollm2", place.hub.url());
    for token in [None, Some("hf_stranger")] {
        let credentials = token.map(|token| credentials(token, "127.0.0.1"));
        let error = place.resolver().resolve(&source(), None, credentials.as_ref()).await.unwrap_err();
        assert_eq!(error.problem.reason, Reason::GatedRepo, "{token:?}");
        assert!(error.problem.message.contains(&page), "{error}");
        assert_eq!(error.retry, Retry::After(None));
    }
    let friend = credentials("hf_friend", "127.0.0.1");
    assert!(place.resolver().resolve(&source(), None, Some(&friend)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_is_not_followed_and_the_new_name_is_said() {
    let place = Place::with(&FILES, |options| options.renamed = vec![("acme/old".to_owned(), REPOSITORY.to_owned())]).await;
    let error = refusal(&place, "hf://acme/old", None).await;
    assert_eq!((error.problem.reason, error.retry), (Reason::RepositoryRenamed, Retry::Never));
    assert!(error.problem.message.contains("hf://acme/smollm2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_trouble_is_asked_again_when_it_says() {
    let place = Place::new(&FILES).await;
    let fail = |status, retry_after: Option<&str>| {
        let fail = Fail { status, times: Some(1), retry_after: retry_after.map(str::to_owned), on: Which::Api };
        place.hub.set_faults(Faults { fail: Some(fail), ..Faults::default() });
    };
    for (status, retry_after, retry) in [
        (429, Some("7"), Retry::After(Some(Duration::from_secs(7)))),
        (503, None, Retry::After(None)),
        (500, Some("1"), Retry::After(Some(Duration::from_secs(1)))),
    ] {
        fail(status, retry_after);
        let error = refusal(&place, "hf://acme/smollm2", None).await;
        assert_eq!((error.problem.reason, error.retry), (Reason::SourceUnavailable, retry), "{status}");
        assert!(error.problem.message.contains(&status.to_string()), "{error}");
        assert!(place.resolver().resolve(&source(), None, None).await.is_ok(), "the fault was for one request");
    }
    fail(200, None);
    assert_eq!(refusal(&place, "hf://acme/smollm2", None).await.problem.reason, Reason::SourceInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_cannot_be_reached_is_unavailable_and_the_message_says_why() {
    let place = Place::new(&FILES).await;
    let table = place.table(&[]);
    place.hub.stop().await;
    let error = Resolver::new(table).unwrap().resolve(&source(), None, None).await.unwrap_err();
    assert_eq!(error.problem.reason, Reason::SourceUnavailable);
    assert!(error.problem.message.contains("refuses connections"), "{error}");
    let table = Sources::parse("{hf: {endpoint: 'http://no-such-host.invalid'}}").unwrap();
    let error = Resolver::new(table).unwrap().resolve(&source(), None, None).await.unwrap_err();
    assert_eq!(error.problem.reason, Reason::SourceUnavailable);
    assert!(error.problem.message.contains("cannot be resolved"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclean_path_in_a_listing_is_kept_apart() {
    let place = Place::new(&FILES).await;
    place.hub.set_faults(Faults { extra_paths: vec!["../../etc/cron.d/evil.gguf".to_owned()], ..Faults::default() });
    let tree = place.resolver().resolve(&source(), None, None).await.unwrap();
    assert_eq!((tree.files.len(), tree.unclean.len()), (4, 1));
    assert!(tree.refuse_unclean(&source(), |path| path == "model.gguf").is_ok());
    let problem = tree.refuse_unclean(&source(), |path| path.ends_with(".gguf")).unwrap_err();
    assert_eq!(problem.reason, Reason::SourceInvalid);
    place.hub.set_faults(Faults { extra_paths: vec!["config.json".to_owned()], ..Faults::default() });
    assert!(refusal(&place, "hf://acme/smollm2", None).await.problem.message.contains("twice"));
}
