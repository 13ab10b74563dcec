//! Claims: the command that looks into one, and the fetch that verifies files where they lie.

use std::{
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use bonafide::weights::fetch::Report;

use super::*;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(claim: &Path, source: &str, path: &str, port: u16, log: &Path) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
    command.env_clear().stderr(Stdio::null()).args(["measure", "--source", source, "--path", path]).arg("--claim").arg(claim);
    command.arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--termination-log").arg(log);
    Running(command.spawn().unwrap())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_claim_is_told_to_whoever_asks_the_pod() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let claim = tempfile::tempdir().unwrap();
    let model = noise(1 << 20, 60);
    let commit = "12fd25f77366fa6b3b4b768ec3050bf629380bac";
    let root = claim.path().join("hub/models--acme--smollm2");
    write(&root, &[("blobs/77", &model), ("refs/main", commit.as_bytes()), (&format!("snapshots/{commit}/model.sig"), b"{sig}")]);
    symlink("../../blobs/77", root.join("snapshots").join(commit).join("model.gguf")).unwrap();
    let (port, log) = (free_port(), claim.path().join("log"));
    let _running = measure(claim.path(), "pvc://chat/models/hub/models--acme--smollm2", "hub/models--acme--smollm2", port, &log);
    let ask = async |page: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/{page}")).await.ok()?;
        let answer = answer.error_for_status().ok()?;
        serde_json::from_str::<serde_json::Value>(&answer.text().await.unwrap()).ok()
    };
    let began = std::time::Instant::now();
    let told = loop {
        if let Some(told) = ask("measured").await {
            break told;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}", fs::read_to_string(&log).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&told["revision"], &told["texts"]["model.sig"]), (&commit.into(), &"{sig}".into()));
    assert_eq!(
        (&told["files"][0]["path"], &told["files"][0]["sha256"]),
        (&"model.gguf".into(), &Digest::of(&model).to_string().into())
    );
    assert_eq!(ask("progress").await.unwrap()["hashed"], model.len() as u64 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_claim_has_not_got_stands_in_the_termination_log() {
    let claim = tempfile::tempdir().unwrap();
    write(claim.path(), &[("llama/model.gguf", b"GGUF")]);
    let log = claim.path().join("log");
    let mut running = measure(claim.path(), "pvc://chat/models/lama", "lama", free_port(), &log);
    let code = tokio::task::spawn_blocking(move || running.0.wait().unwrap()).await.unwrap().code();
    assert_eq!(code, Some(65));
    let report: Report = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((report.outcome.as_str(), report.reason.as_str()), ("Failed", "RepositoryNotFound"));
    assert!(report.message.contains("llama"), "{}", report.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_claim_are_hashed_where_they_lie_before_anything_is_served() {
    let model = noise(3 << 20, 61);
    let served: [(&str, &[u8]); 2] = [("model.gguf", &model), ("sub/config.json", b"{}")];
    let into = tempfile::tempdir().unwrap();
    write(&into.path().join("tree"), &served);
    let job = || Job {
        manifest: manifest(&served),
        source: "pvc://chat/models/llama".parse().unwrap(),
        revision: "0".repeat(64),
        credentials: None,
        into: into.path().to_owned(),
        own: into.path().to_owned(),
        checks: Checks::default(),
    };
    let verify = || fetch(Resolver::new(Sources::default()).unwrap(), job());
    let (outcome, progress) = verify().await;
    assert_eq!(outcome, Outcome::Complete { received: 0 });
    assert_eq!((progress.hashed, progress.total), (model.len() as u64 + 2, model.len() as u64 + 2));
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1, "nothing is written to a claim that is read in place");

    let refused = async |said: &str| {
        let (outcome, _) = verify().await;
        let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
        assert!(refused.message.contains(said) && refused.message.contains("bonafide.dev/refresh"), "{refused:?}");
    };
    let file = into.path().join("tree/model.gguf");
    let mut tampered = model.clone();
    tampered[1 << 20] ^= 1;
    fs::write(&file, &tampered).unwrap();
    refused(&Digest::of(&tampered).to_string()).await;
    fs::write(&file, &model[1..]).unwrap();
    refused(&format!("{} bytes", model.len() - 1)).await;
    fs::remove_file(&file).unwrap();
    refused("no such file").await;
    fs::write(&file, &model).unwrap();
    assert_eq!(verify().await.0, Outcome::Complete { received: 0 }, "what is right again is served again");
}
