use std::os::unix::fs::symlink;

use super::*;

const COMMIT: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";

fn order(claim: &Path, path: &str) -> Order {
    let source = if path.is_empty() { "pvc://chat/models".to_owned() } else { format!("pvc://chat/models/{path}") };
    Order {
        source: source.parse().unwrap(),
        claim: claim.to_owned(),
        path: path.to_owned(),
        revision: None,
        files: vec![],
        signature: None,
    }
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn found(order: &Order) -> Vec<(String, u64, Digest)> {
    let measured = measure(order, &Progress::default()).unwrap();
    measured.files.into_iter().map(|line| (line.path, line.size, line.sha256)).collect()
}

fn problem(order: &Order) -> Problem {
    measure(order, &Progress::default()).unwrap_err()
}

#[test]
fn a_directory_is_measured_and_its_revision_is_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("llama/a/model.gguf", "GGUF"), ("llama/model.sig", "{sig}"), ("other/secret", "x")]);
    let order =
        |files: &[&str]| Order { files: files.iter().map(|glob| glob.parse().unwrap()).collect(), ..order(dir.path(), "llama") };
    let progress = Progress::default();
    let measured = measure(&order(&[]), &progress).unwrap();
    let line = |path: &str, content: &str| (path.to_owned(), content.len() as u64, Digest::of(content));
    assert_eq!(found(&order(&[])), [line("a/model.gguf", "GGUF"), line("model.sig", "{sig}")]);
    assert_eq!(measured.texts, BTreeMap::from([("model.sig".to_owned(), "{sig}".to_owned())]));
    assert_eq!((measured.revision.len(), measured.commit.clone()), (64, None));
    assert_eq!((progress.snapshot(None).hashed, progress.snapshot(None).total), (9, 9));
    assert_eq!(found(&order(&["*.gguf"])), [line("model.sig", "{sig}")], "the signature comes along; ** is what goes deeper");
    assert_eq!(found(&order(&["**/*.gguf"])).len(), 2);
    let tree = measured.tree(&"pvc://chat/models/llama".parse().unwrap()).unwrap();
    assert_eq!((tree.revision.as_str(), tree.files.len()), (measured.revision.as_str(), 2));
    write(dir.path(), &[("llama/a/model.gguf", "GGUX")]);
    assert_ne!(measure(&order(&[]), &Progress::default()).unwrap().revision, measured.revision);
}

#[test]
fn links_are_followed_within_the_directory_and_refused_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), &[("passwd", "root")]);
    write(dir.path(), &[("llama/blobs/x", "GGUF"), ("other/weights", "theirs")]);
    symlink("blobs/x", dir.path().join("llama/model.gguf")).unwrap();
    symlink("blobs", dir.path().join("llama/directory")).unwrap();
    let paths: Vec<_> = found(&order(dir.path(), "llama")).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["blobs/x", "model.gguf"], "a link to a directory is none of a model's files");
    for target in [Path::new("../other/weights"), &outside.path().join("passwd")] {
        let _ = fs::remove_file(dir.path().join("llama/evil"));
        symlink(target, dir.path().join("llama/evil")).unwrap();
        let said = problem(&order(dir.path(), "llama"));
        assert!(said.reason == Reason::SourceInvalid && said.message.starts_with("evil: "), "{said}");
        let narrow = Order { files: vec!["*.gguf".parse().unwrap()], ..order(dir.path(), "llama") };
        assert_eq!(found(&narrow).len(), 1, "what is not asked for is not looked at");
    }
    symlink(outside.path(), dir.path().join("away")).unwrap();
    assert_eq!(problem(&order(dir.path(), "away")).reason, Reason::SourceInvalid);
}

#[test]
fn the_hubs_cache_has_branches_and_commits() {
    let dir = tempfile::tempdir().unwrap();
    let root = "hub/models--acme--smollm2";
    write(dir.path(), &[(&format!("{root}/blobs/77"), "GGUF"), (&format!("{root}/refs/main"), COMMIT)]);
    fs::create_dir_all(dir.path().join(root).join("snapshots").join(COMMIT)).unwrap();
    symlink("../../blobs/77", dir.path().join(root).join("snapshots").join(COMMIT).join("model.gguf")).unwrap();
    for revision in [None, Some("main"), Some(COMMIT)] {
        let order = Order { revision: revision.map(str::to_owned), ..order(dir.path(), root) };
        let measured = measure(&order, &Progress::default()).unwrap();
        assert_eq!((measured.revision.as_str(), measured.commit.as_deref()), (COMMIT, Some(COMMIT)));
        assert_eq!(found(&order), [("model.gguf".to_owned(), 4, Digest::of("GGUF"))]);
    }
    for revision in ["v2", "../../../etc", "main/../main"] {
        let order = Order { revision: Some(revision.to_owned()), ..order(dir.path(), root) };
        let said = problem(&order);
        assert!(said.reason == Reason::RevisionNotFound && said.message.contains(COMMIT), "{said}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("llama/model.gguf", "GGUF")]);
    let said = problem(&order(dir.path(), "lama"));
    assert!(said.reason == Reason::RepositoryNotFound && said.message.contains("there is llama"), "{said}");
    assert_eq!(problem(&order(dir.path(), "llama/model.gguf")).reason, Reason::RepositoryNotFound);
    assert_eq!(found(&order(dir.path(), "")).len(), 1, "the whole claim");
}
