//! `bonafide fetch` as a process: its exit codes, its one line of JSON, and being killed.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use bonafide::weights::fetch::{Download, Report};
use localcluster::hub::Faults;

use super::*;

const MIB: usize = 1 << 20;

/// The files that the manager hands over, and the directory of the fetch.
struct Pod {
    dir: TempDir,
}

impl Pod {
    fn new(place: &Place, manifest: &Manifest) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("into")).unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("manifest.json", serde_json::to_string(manifest).unwrap());
        write("sources.json", serde_json::to_string(&place.table(&[])).unwrap());
        Self { dir }
    }

    fn command(&self, place: &Place, digest: &Digest) -> Command {
        let path = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.env_clear().stderr(Stdio::piped()).arg("fetch");
        command.arg("--manifest").arg(path("manifest.json")).arg("--sources").arg(path("sources.json"));
        command.arg("--into").arg(path("into")).arg("--termination-log").arg(path("log"));
        command.args(["--source", "hf://acme/smollm2", "--revision", &place.commit(), "--digest", &digest.to_string()]);
        command
    }

    fn report(&self) -> Report {
        serde_json::from_str(&fs::read_to_string(self.dir.path().join("log")).unwrap()).unwrap()
    }

    fn partial_bytes(&self) -> u64 {
        let Ok(dir) = fs::read_dir(self.dir.path().join("into/partial")) else { return 0 };
        dir.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }
}

/// Waits without holding up the hub, which runs in this process.
async fn wait(mut child: Child) -> (ExitStatus, String) {
    tokio::task::spawn_blocking(move || {
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        (child.wait().unwrap(), said)
    })
    .await
    .unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_fetch_exits_with_0_and_says_so_in_one_line() {
    let content = noise(3 * MIB, 20);
    let served: [(&str, &[u8]); 2] = [("model.gguf", &content), ("config.json", b"{}")];
    let place = Place::with(&served, |options| {
        options.private = vec![REPOSITORY.to_owned()];
        options.tokens = vec!["hf_right".to_owned()];
    })
    .await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    let mut command = pod.command(&place, &manifest.digest());
    let (status, said) = wait(command.spawn().unwrap()).await;
    assert_eq!(status.code(), Some(75), "no token, no repository: {said}");
    assert_eq!(pod.report().reason, "RepositoryNotFound");

    write(&pod.dir.path().join("secret"), &[("token", b"hf_right\n"), ("hosts", b"127.0.0.1\n")]);
    let (status, said) = wait(command.arg("--credentials").arg(pod.dir.path().join("secret")).spawn().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{said}");
    let report = pod.report();
    assert_eq!(
        (report.outcome.as_str(), report.reason.as_str(), report.bytes),
        ("Complete", "Verified", content.len() as u64 + 2)
    );
    assert_eq!(fs::read(pod.dir.path().join("into/tree/model.gguf")).unwrap(), content);
    assert!(!said.contains("hf_right"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_continued_with_only_the_remaining_bytes() {
    let content = noise(8 * MIB, 21);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    place.hub.set_faults(Faults { bytes_per_second: Some(4 * MIB as u64), ..Faults::default() });
    let mut child = pod.command(&place, &manifest.digest()).spawn().unwrap();
    until(|| pod.partial_bytes() > 2 * MIB as u64).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let there = pod.partial_bytes();
    place.hub.set_faults(Faults::default());
    place.hub.forget_requests();
    let (status, said) = wait(pod.command(&place, &manifest.digest()).spawn().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(pod.report().bytes, content.len() as u64 - there);
    assert_eq!(place.sent(), content.len() as u64 - there);
    assert_eq!(fs::read(pod.dir.path().join("into/tree/model.gguf")).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_stops_at_once_and_keeps_what_came() {
    let content = noise(8 * MIB, 22);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    place.hub.set_faults(Faults { bytes_per_second: Some(MIB as u64), ..Faults::default() });
    let child = pod.command(&place, &manifest.digest()).spawn().unwrap();
    until(|| pod.partial_bytes() > 0).await;
    let began = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let (status, _) = wait(child).await;
    assert_eq!(status.code(), Some(75));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(pod.partial_bytes() > 0);
    assert_eq!(pod.report().outcome, "Failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatch_exits_with_65_and_the_next_start_downloads_nothing() {
    let content = noise(2 * MIB, 23);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    place.hub.set_faults(Faults { lie: vec![format!("{REPOSITORY}/model.gguf")], ..Faults::default() });
    let (status, said) = wait(pod.command(&place, &manifest.digest()).spawn().unwrap()).await;
    assert_eq!(status.code(), Some(65), "{said}");
    let first = pod.report();
    assert_eq!((first.outcome.as_str(), first.reason.as_str()), ("Refused", "DigestMismatch"));
    assert_eq!(first.expected, Some(Digest::of(&content).to_string()));
    assert_eq!(first.file.as_deref(), Some("model.gguf"));

    place.hub.forget_requests();
    let (status, _) = wait(pod.command(&place, &manifest.digest()).spawn().unwrap()).await;
    assert_eq!(status.code(), Some(65));
    let second = pod.report();
    assert_eq!((second.message, second.found, second.bytes), (first.message, first.found, 0));
    assert_eq!(place.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_once_is_served_to_a_new_pod_from_the_same_claim_when_the_source_was_repaired() {
    let content = noise(2 * MIB, 29);
    let served: [(&str, &[u8]); 2] = [("model.gguf", &content), ("config.json", b"{}")];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    // The claim is `into`; each pod has a directory of its own besides, into which it brings the helper.
    let claim = Pod::new(&place, &manifest);
    let binary = claim.dir.path().join("bonafide");
    fs::copy(env!("CARGO_BIN_EXE_bonafide"), &binary).unwrap();
    fs::write(claim.dir.path().join("bonafide-helper"), "the helper").unwrap();
    let start = async |own: &TempDir| {
        place.hub.forget_requests();
        let mut command = Command::new(&binary);
        command.args(claim.command(&place, &manifest.digest()).get_args()).env_clear().stderr(Stdio::piped());
        wait(command.arg("--bring").arg(own.path()).spawn().unwrap()).await
    };
    let into = claim.dir.path().join("into");
    let (first, second, third) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

    place.hub.set_faults(Faults { lie: vec![format!("{REPOSITORY}/model.gguf")], ..Faults::default() });
    let (status, said) = start(&first).await;
    assert_eq!(status.code(), Some(65), "{said}");
    assert!(
        !into.join("tree/model.gguf").exists() && claim.partial_bytes() == 0,
        "nothing of what was refused stays in the claim"
    );
    let (status, _) = start(&first).await;
    assert_eq!((status.code(), place.hub.requests().len()), (Some(65), 0), "the same pod asks nobody again");
    let (status, _) = start(&second).await;
    assert_eq!(status.code(), Some(65));
    assert!(place.sent() > 0, "another pod has seen nothing yet, and the source still lies");

    place.hub.set_faults(Faults::default());
    // What an older version left in the claim counts for nothing.
    fs::copy(first.path().join("refused.json"), into.join("refused.json")).unwrap();
    let (status, said) = start(&third).await;
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(fs::read(into.join("tree/model.gguf")).unwrap(), content);
    assert!(!into.join("refused.json").exists(), "nor does it lie there for ever");
    let (status, _) = start(&first).await;
    assert_eq!(status.code(), Some(65), "a pod that was refused stays refused until it is replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_another_content_digest_is_refused_before_anything_is_asked() {
    let served: [(&str, &[u8]); 1] = [("model.gguf", b"GGUF")];
    let place = Place::new(&served).await;
    let pod = Pod::new(&place, &manifest(&served));
    let (status, _) = wait(pod.command(&place, &Digest::of("judged")).spawn().unwrap()).await;
    assert_eq!(status.code(), Some(65));
    let report = pod.report();
    assert_eq!(report.expected, Some(Digest::of("judged").to_string()));
    assert_eq!(report.found, Some(manifest(&served).digest().to_string()));
    assert_eq!(place.hub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_flags_that_cannot_be_used_exit_with_64() {
    let served: [(&str, &[u8]); 1] = [("model.gguf", b"GGUF")];
    let place = Place::new(&served).await;
    let digest = manifest(&served).digest();
    for (file, text) in [("sources.json", "{hf: {url: x}}"), ("manifest.json", "[]"), ("manifest.json", "nonsense")] {
        let pod = Pod::new(&place, &manifest(&served));
        fs::write(pod.dir.path().join(file), text).unwrap();
        let (status, said) = wait(pod.command(&place, &digest).spawn().unwrap()).await;
        assert_eq!(status.code(), Some(64), "{said}");
        assert!(pod.report().message.contains(file), "{said}");
    }
    let pod = Pod::new(&place, &manifest(&served));
    let (status, said) = wait(pod.command(&place, &digest).arg("--nonsense").spawn().unwrap()).await;
    assert_eq!(status.code(), Some(64), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_user_can_run_it_with_nothing_writable_but_the_directory() {
    if !rustix_is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let served: [(&str, &[u8]); 2] = [("sub/model.gguf", b"GGUF and more"), ("config.json", b"{}")];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    let binary = pod.dir.path().join("bonafide");
    fs::copy(env!("CARGO_BIN_EXE_bonafide"), &binary).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(pod.dir.path().join(path), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap()
    };
    mode("", 0o755);
    mode("into", 0o777);
    fs::write(pod.dir.path().join("log"), "").unwrap();
    mode("log", 0o666);
    for _ in 0..2 {
        let command = pod.command(&place, &manifest.digest());
        let mut as_nobody = Command::new(&binary);
        as_nobody.args(command.get_args()).env_clear().current_dir("/").stderr(Stdio::piped()).uid(65534).gid(65534);
        let (status, said) = wait(as_nobody.spawn().unwrap()).await;
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(pod.report().outcome, "Complete");
    }
    assert_eq!(fs::read(pod.dir.path().join("into/tree/sub/model.gguf")).unwrap(), b"GGUF and more");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_how_far_it_is_and_brings_the_helper_along() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let content = noise(4 * MIB, 27);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    place.hub.set_faults(Faults { bytes_per_second: Some(2 * MIB as u64), ..Faults::default() });
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    let (binary, bin) = (pod.dir.path().join("bonafide"), pod.dir.path().join("bin"));
    fs::copy(env!("CARGO_BIN_EXE_bonafide"), &binary).unwrap();
    fs::create_dir(&bin).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = || {
        let mut command = Command::new(&binary);
        command.args(pod.command(&place, &manifest.digest()).get_args()).env_clear().stderr(Stdio::piped());
        command.arg("--bring").arg(&bin).arg(format!("--listen=[::]:{port}"));
        command
    };
    let (status, said) = wait(command().spawn().unwrap()).await;
    assert_eq!(status.code(), Some(64), "an image without the helper: {said}");
    assert!(pod.report().message.contains("bonafide-helper"), "{}", pod.report().message);

    fs::write(pod.dir.path().join("bonafide-helper"), "the helper").unwrap();
    let child = command().spawn().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut seen: Vec<Download> = Vec::new();
    let began = Instant::now();
    while !seen.iter().any(|seen| seen.hashed > MIB as u64) {
        assert!(began.elapsed() < Duration::from_secs(20), "{seen:?}");
        if let Ok(answer) = client.get(format!("http://127.0.0.1:{port}/progress")).send().await {
            seen.push(serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fs::read(bin.join("bonafide-helper")).unwrap(), b"the helper", "it is there before the weights are");
    let last = seen.last().unwrap();
    assert_eq!(last.total, content.len() as u64);
    assert!(last.hashed < last.total && last.rate > 1e5 && last.elapsed_seconds > 0.1 && last.idle_seconds < 5.0, "{last:?}");
    let (status, said) = wait(child).await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_there_already_is_verified_and_the_report_says_how_long_that_took() {
    let content = noise(48 * MIB, 28);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &content)];
    let place = Place::new(&served).await;
    let manifest = manifest(&served);
    let pod = Pod::new(&place, &manifest);
    assert_eq!(wait(pod.command(&place, &manifest.digest()).spawn().unwrap()).await.0.code(), Some(0));
    let first = pod.report();
    assert!(first.verify_seconds < first.seconds / 2.0, "what comes is hashed while it comes: {first:?}");
    assert_eq!(wait(pod.command(&place, &manifest.digest()).spawn().unwrap()).await.0.code(), Some(0));
    let second = pod.report();
    assert_eq!(second.bytes, 0);
    assert!(second.verify_seconds > 0.0 && second.verify_seconds <= second.seconds, "{second:?}");
    assert!(second.verify_seconds > second.seconds / 4.0, "it did little else: {second:?}");
}

fn rustix_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}
