//! The hub of this machine is faithful: Hugging Face's own client takes it for the real one.

use std::process::{Command, Output};

use localcluster::hub::Faults;

use super::*;

/// Runs a line of Python with the client set up for `place`.
async fn client(place: &Place, home: &Path, arguments: Vec<String>) -> Output {
    let (url, home) = (place.hub.url(), home.to_owned());
    let python = localcluster::assets::path(localcluster::assets::HUB_CLIENT).await.unwrap().with_file_name("python");
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(python);
        command
            .args(arguments)
            .env("HF_ENDPOINT", url)
            .env("HF_HOME", home)
            .env_remove("HF_TOKEN")
            .env("HF_HUB_DISABLE_TELEMETRY", "1");
        command.output().unwrap()
    })
    .await
    .unwrap()
}

async fn say(place: &Place, home: &Path, script: &str) -> String {
    let output = client(place, home, vec!["-c".to_owned(), script.to_owned()]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_downloads_from_the_hub_of_this_machine() {
    let model = noise(3 << 20, 30);
    let files: [(&str, &[u8]); 4] =
        [("model.gguf", &model), ("config.json", b"{}"), ("sub/ü b.json", b"[1]"), ("README.md", b"# hello")];
    let place = Place::with(&files, |options| {
        options.cdn = Some("127.0.0.1:0".parse().unwrap());
        options.page = 2;
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let local = home.path().join("local");
    let tool = localcluster::assets::path(localcluster::assets::HUB_CLIENT).await.unwrap();
    let arguments = vec![
        tool.display().to_string(),
        "download".to_owned(),
        REPOSITORY.to_owned(),
        "--local-dir".to_owned(),
        local.display().to_string(),
    ];
    let output = client(&place, home.path(), arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (path, content) in files {
        assert_eq!(fs::read(local.join(path)).unwrap(), content, "{path}");
    }
    let commit = place.hub.snapshot(REPOSITORY).unwrap();
    write(&place.root.path().join(REPOSITORY), &[("config.json", b"{\"new\": 1}")]);
    let script =
        format!("from huggingface_hub import snapshot_download; print(snapshot_download('{REPOSITORY}', revision='{commit}'))");
    let snapshot = say(&place, home.path(), &script).await;
    assert!(snapshot.ends_with(&commit), "{snapshot}");
    for (path, content) in files {
        assert_eq!(fs::read(Path::new(&snapshot).join(path)).unwrap(), content, "{path}");
    }
    let script =
        format!("from huggingface_hub import HfApi; i = HfApi().model_info('{REPOSITORY}'); print(i.sha, i.id, i.private)");
    assert_eq!(say(&place, home.path(), &script).await, format!("{} {REPOSITORY} False", place.commit()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_meets_the_errors_it_knows() {
    let files: [(&str, &[u8]); 2] = [("model.gguf", b"GGUF"), ("config.json", b"{}")];
    let place = Place::with(&files, |options| {
        options.private = vec!["acme/secret".to_owned()];
        options.gated = vec!["acme/gated".to_owned()];
        options.tokens = vec!["hf_right".to_owned()];
        options.licensed_tokens = vec!["hf_friend".to_owned()];
    })
    .await;
    for name in ["acme/secret", "acme/gated"] {
        write(&place.root.path().join(name), &files);
    }
    let script = "
from huggingface_hub import snapshot_download, hf_hub_download, auth_check
def attempt(f):
    try:
        f()
        print('fine')
    except Exception as e:
        print(type(e).__name__)
attempt(lambda: snapshot_download('acme/nothing'))
attempt(lambda: snapshot_download('acme/smollm2', revision='v9'))
attempt(lambda: hf_hub_download('acme/smollm2', 'nothing.json'))
attempt(lambda: snapshot_download('acme/secret'))
attempt(lambda: snapshot_download('acme/secret', token='hf_right'))
attempt(lambda: hf_hub_download('acme/gated', 'config.json'))
attempt(lambda: hf_hub_download('acme/gated', 'config.json', token='hf_right'))
attempt(lambda: auth_check('acme/gated', token='hf_right'))
attempt(lambda: hf_hub_download('acme/gated', 'model.gguf', token='hf_friend'))
";
    let home = tempfile::tempdir().unwrap();
    let said = say(&place, home.path(), script).await;
    let said: Vec<&str> = said.lines().collect();
    let expected = [
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "RemoteEntryNotFoundError",
        "RepositoryNotFoundError",
        "fine",
        "GatedRepoError",
        "GatedRepoError",
        "GatedRepoError",
        "fine",
    ];
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_continues_after_a_cut() {
    let model = noise(24 << 20, 31);
    let files: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let place = Place::new(&files).await;
    place.hub.set_faults(Faults { cut_after: Some(15 << 20), cuts: Some(1), ..Faults::default() });
    let home = tempfile::tempdir().unwrap();
    let script = format!("from huggingface_hub import hf_hub_download; print(hf_hub_download('{REPOSITORY}', 'model.gguf'))");
    let path = say(&place, home.path(), &script).await;
    assert_eq!(fs::read(path).unwrap(), model);
    let continued = |request: &localcluster::hub::Logged| {
        let from = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?.0.parse::<u64>().ok()?;
        Some(from > 0 && from <= 15 << 20)
    };
    assert!(place.file_requests().iter().any(|request| continued(request) == Some(true)));
}
