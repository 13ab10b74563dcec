//! The one-pass fetch: what ends in the tree, what is asked for again, and what never is.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, os::unix::fs::symlink};

use bonafide::api::Reason;
use localcluster::hub::{Fail, Faults, Which};

use super::*;

const MIB: usize = 1 << 20;

/// Every file of the tree with its content.
fn tree(into: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = format!("{below}{}", entry.file_name().into_string().unwrap());
            let kind = entry.file_type().unwrap();
            assert!(!kind.is_symlink(), "{path}");
            if kind.is_dir() {
                walk(&entry.path(), &format!("{path}/"), files);
            } else {
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(&into.join("tree"), "", &mut files);
    files
}

fn expected(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}

fn partial(into: &Path, content: &[u8]) -> std::path::PathBuf {
    fs::create_dir_all(into.join("partial")).unwrap();
    into.join(format!("partial/{}.part", Digest::of(content).hex()))
}

fn refused(outcome: Outcome) -> bonafide::weights::fetch::Refused {
    match outcome {
        Outcome::Refused(refused) => refused,
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: Outcome) -> bonafide::api::Problem {
    match outcome {
        Outcome::Failed(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_holds_exactly_the_manifest_read_only_and_each_content_is_downloaded_once() {
    let (big, shared) = (noise(5 * MIB + 7, 1), noise(MIB, 2));
    let served: [(&str, &[u8]); 5] =
        [("model.gguf", &big), ("a.bin", &shared), ("sub/deep/b.bin", &shared), ("config.json", b"{}"), ("empty", b"")];
    let mut all = served.to_vec();
    all.push(("evil.py", b"import os"));
    let place = Place::new(&all).await;
    let into = tempfile::tempdir().unwrap();
    write(&into.path().join("tree"), &[("foreign", b"x"), ("config.json", b"xx")]);
    symlink("/etc/passwd", into.path().join("tree/link")).unwrap();

    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;

    let distinct = (big.len() + shared.len() + 2) as u64;
    assert_eq!(outcome, Outcome::Complete { received: distinct });
    assert_eq!((progress.hashed, progress.total), (distinct, distinct));
    assert_eq!(tree(into.path()), expected(&served));
    assert_eq!(fs::read_dir(into.path().join("partial")).unwrap().count(), 0);
    let mode = |path: &str| fs::metadata(into.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("tree"), mode("tree/sub/deep")], [0o555, 0o555]);
    assert_eq!([mode("tree/model.gguf"), mode("tree/sub/deep/b.bin"), mode("tree/empty")], [0o444, 0o444, 0o444]);

    place.hub.forget_requests();
    let (again, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert_eq!(again, Outcome::Complete { received: 0 });
    assert_eq!(progress.hashed, distinct, "what is there is hashed again, not trusted");
    assert_eq!(place.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_tree_that_was_changed_since_is_downloaded_again() {
    let content = noise(2 * MIB, 3);
    let served: [(&str, &[u8]); 1] = [("sub/model.gguf", &content)];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    fetch(place.resolver(), job(&place, &served, into.path())).await;
    let file = into.path().join("tree/sub/model.gguf");
    let mut tampered = content.clone();
    tampered[MIB] ^= 1;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, tampered).unwrap();
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert_eq!(outcome, Outcome::Complete { received: content.len() as u64 });
    assert_eq!(progress.hashed, content.len() as u64);
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_continued_where_it_was_cut() {
    let content = noise(6 * MIB, 4);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { cut_after: Some(300_000), cuts: Some(3), ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert_eq!(outcome, Outcome::Complete { received: content.len() as u64 });
    assert_eq!(tree(into.path()), expected(&served));
    assert_eq!(progress.received, content.len() as u64, "no byte came twice");
    let cdn = place.file_requests().iter().filter(|request| request.path.starts_with("/cdn/")).count();
    assert_eq!(cdn, 6 + 3, "six ranges, and three of them once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_brought_is_hashed_and_only_the_rest_is_asked_for() {
    let content = noise(6 * MIB, 5);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    fs::write(partial(into.path(), &content), &content[..4 * MIB + 5]).unwrap();
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    let rest = (2 * MIB - 5) as u64;
    assert_eq!(outcome, Outcome::Complete { received: rest });
    assert_eq!((progress.hashed, place.sent()), (content.len() as u64, rest));
    assert!(place.file_requests().iter().any(|request| request.header("range") == Some("bytes=4194309-5242884")));
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_fetch_leaves_what_came_for_the_next_one() {
    let content = noise(4 * MIB, 6);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { bytes_per_second: Some(MIB as u64), ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    let dropped =
        tokio::time::timeout(Duration::from_millis(700), fetch(place.resolver(), job(&place, &served, into.path()))).await;
    assert!(dropped.is_err());
    place.hub.set_faults(Faults::default());
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert!(progress.received < content.len() as u64 - 100_000, "{}", progress.received);
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_that_is_rubbish_costs_one_more_download_and_nothing_else() {
    let content = noise(3 * MIB, 7);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    for rubbish in [vec![0; MIB], vec![0; content.len()], vec![0; content.len() + 1]] {
        fs::write(partial(into.path(), &content), rubbish).unwrap();
        let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
        assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
        assert_eq!(progress.hashed, content.len() as u64);
        assert_eq!(tree(into.path()), expected(&served));
        fs::set_permissions(into.path().join("tree"), PermissionsExt::from_mode(0o755)).unwrap();
        fs::remove_dir_all(into.path().join("tree")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_the_manifest_says_are_refused_for_good_and_not_downloaded_twice() {
    let content = noise(3 * MIB, 8);
    let served: [(&str, &[u8]); 2] = [("sub/model.gguf", &content), ("config.json", b"{}")];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { lie: vec![format!("{REPOSITORY}/sub/model.gguf")], ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    let first = refused(outcome);
    let mut altered = content.clone();
    altered[content.len() / 2] ^= 1;
    assert_eq!(first.file, "sub/model.gguf");
    assert_eq!(first.expected, Digest::of(&content).to_string());
    assert_eq!(first.found, Digest::of(&altered).to_string());
    for said in ["sub/model.gguf", "hf://acme/smollm2@", "127.0.0.1", &first.expected, &first.found, "have it signed again"] {
        assert!(first.message.contains(said), "{said}: {}", first.message);
    }
    assert!(!tree(into.path()).contains_key("sub/model.gguf"));
    assert!(!partial(into.path(), &content).exists());
    assert!(place.sent() <= content.len() as u64 + 2, "one download");

    place.hub.forget_requests();
    // Even when the hub repents: the next attempt of this container says the same and asks nobody.
    place.hub.set_faults(Faults::default());
    let (outcome, _) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert_eq!(refused(outcome), first);
    assert_eq!(place.hub.requests().len(), 0);

    let other: [(&str, &[u8]); 1] = [("config.json", b"{}")];
    let (outcome, _) = fetch(place.resolver(), job(&place, &other, into.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "another job in the same directory is another matter: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_after_a_continued_transfer_is_refused_after_one_more_download() {
    let content = noise(3 * MIB, 9);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { lie: vec![format!("{REPOSITORY}/model.gguf")], ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    fs::write(partial(into.path(), &content), &content[..MIB]).unwrap();
    let (outcome, _) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    refused(outcome);
    assert_eq!(place.sent(), (2 + 3) * MIB as u64, "the rest, and then all of it once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_size_is_refused_without_downloading_it() {
    let content = noise(3 * MIB, 10);
    for range in [limits().range, 64 << 20] {
        let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
        let place = Place::new(&served).await;
        place.hub.set_faults(Faults { grow: vec![format!("{REPOSITORY}/model.gguf")], ..Faults::default() });
        let into = tempfile::tempdir().unwrap();
        let limits = Limits { range, ..limits() };
        let outcome = fetch::fetch(place.resolver(), job(&place, &served, into.path()), limits, Arc::default()).await;
        let refused = refused(outcome);
        assert_eq!((refused.expected.as_str(), refused.found.as_str()), ("3145728 bytes", "3145729 bytes"));
        assert_eq!(tree(into.path()), BTreeMap::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_serves_whole_files_also_to_a_continued_transfer() {
    let content = noise(5 * MIB, 11);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { ignore_range: true, cut_after: Some(3 * MIB as u64), cuts: Some(1), ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    fs::write(partial(into.path(), &content), &content[..MIB]).unwrap();
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert_eq!(progress.hashed, content.len() as u64);
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up_and_continued() {
    let content = noise(2 * MIB, 12);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { stall_after: Some(700_000), ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    let (outcome, progress) = fetch(hasty(place.table(&[])), job(&place, &served, into.path())).await;
    assert_eq!(outcome, Outcome::Complete { received: content.len() as u64 });
    assert_eq!(progress.received, content.len() as u64);
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_trouble_is_asked_again_and_given_up_after_a_time_without_a_byte() {
    let content = noise(MIB, 13);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let fail = |status, times| {
        let fail = Fail { status, times, retry_after: Some("1".to_owned()), on: Which::Files };
        place.hub.set_faults(Faults { fail: Some(fail), ..Faults::default() });
    };
    let into = tempfile::tempdir().unwrap();
    fail(429, Some(2));
    let began = std::time::Instant::now();
    let (outcome, _) = fetch(place.resolver(), job(&place, &served, into.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert!(began.elapsed() >= Duration::from_secs(2), "Retry-After is kept");

    let into = tempfile::tempdir().unwrap();
    fail(503, None);
    let limits = Limits { patience: Duration::from_secs(2), ..limits() };
    let outcome = fetch::fetch(place.resolver(), job(&place, &served, into.path()), limits, Arc::default()).await;
    let problem = failed(outcome);
    assert_eq!(problem.reason, Reason::SourceUnavailable);
    assert!(problem.message.contains("503") && problem.message.contains("given up"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_ran_out_is_made_anew() {
    let content = noise(4 * MIB, 14);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::with(&served, |options| options.cdn = Some("127.0.0.1:0".parse().unwrap())).await;
    let resolver = Resolver::new(place.table(&["127.0.0.1"])).unwrap();
    // Every request to the storage is cut short, so each needs a link again.
    place.hub.set_faults(Faults { cut_after: Some(500_000), cuts: Some(2), ..Faults::default() });
    let into = tempfile::tempdir().unwrap();
    let (outcome, _) = fetch(resolver, job(&place, &served, into.path())).await;
    assert_eq!(outcome, Outcome::Complete { received: content.len() as u64 });
    let cdn = place.hub.cdn.unwrap().port();
    let (at_cdn, at_hub): (Vec<_>, Vec<_>) = place.hub.requests().into_iter().partition(|request| request.port == cdn);
    assert!(at_hub.len() <= at_cdn.len(), "{} {}", at_hub.len(), at_cdn.len());
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_fit_is_not_begun() {
    let served: [(&str, &[u8]); 1] = [("model.gguf", b"x")];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    let mut job = job(&place, &served, into.path());
    let huge = File { path: "model.gguf".parse().unwrap(), size: 1 << 60, sha256: Digest::of("x") };
    job.manifest = Manifest::new(vec![huge]).unwrap();
    let problem = failed(fetch(place.resolver(), job).await.0);
    assert_eq!(problem.reason, Reason::DiskFull);
    assert!(problem.message.contains("1152921504606846976"), "{problem}");
    assert_eq!(place.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_into_one_directory_take_turns_and_download_once() {
    let content = noise(3 * MIB, 15);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    let fetch = || fetch(place.resolver(), job(&place, &served, into.path()));
    let ((one, _), (two, _)) = tokio::join!(fetch(), fetch());
    assert!(matches!((&one, &two), (Outcome::Complete { .. }, Outcome::Complete { .. })), "{one:?} {two:?}");
    assert_eq!(place.sent(), content.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_look_at_once_whether_everything_is_there_and_whoever_brings_something_is_alone() {
    let served: [(&str, &[u8]); 2] = [("model.gguf", b"GGUF and more"), ("sub/config.json", b"{}")];
    let place = Place::new(&served).await;
    let into = tempfile::tempdir().unwrap();
    let soon = |time| tokio::time::timeout(time, fetch(place.resolver(), job(&place, &served, into.path())));
    let lock = || fs::File::options().create(true).truncate(false).write(true).open(into.path().join(".lock")).unwrap();
    let (brief, long) = (Duration::from_secs(1), Duration::from_secs(20));

    // Somebody looks, and there is something to bring: that waits.
    let reader = lock();
    reader.try_lock_shared().unwrap();
    assert!(soon(brief).await.is_err(), "it wrote while somebody looked");
    assert!(!into.path().join("tree").exists());
    drop(reader);
    assert!(matches!(soon(long).await.unwrap().0, Outcome::Complete { received: 15 }));

    // Everything is there: who looks does not hold up who looks, and who writes holds up both.
    let reader = lock();
    reader.try_lock_shared().unwrap();
    let (outcome, progress) = soon(brief).await.expect("it waited for somebody who only looks");
    assert_eq!((outcome, progress.hashed, progress.total), (Outcome::Complete { received: 0 }, 15, 15));
    drop(reader);
    let writer = lock();
    writer.try_lock().unwrap();
    assert!(soon(brief).await.is_err(), "it looked while somebody wrote");
    drop(writer);

    // What is there is not what it was: it is mended, and counted once.
    let file = into.path().join("tree/model.gguf");
    let mode = |mode| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    fs::write(&file, b"GGUF and xxxx").unwrap();
    mode(0o444);
    let (outcome, progress) = soon(long).await.unwrap();
    assert_eq!((outcome, progress.hashed, progress.total), (Outcome::Complete { received: 13 }, 15, 15));
    assert_eq!(tree(into.path()), expected(&served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_hub_ends_the_fetch_at_once() {
    let served: [(&str, &[u8]); 1] = [("model.gguf", b"GGUF")];
    let place = Place::with(&served, |options| options.gated = vec![REPOSITORY.to_owned()]).await;
    let into = tempfile::tempdir().unwrap();
    let problem = failed(fetch(place.resolver(), job(&place, &served, into.path())).await.0);
    assert_eq!(problem.reason, Reason::GatedRepo);
    assert_eq!(place.hub.requests().len(), 1);
}
