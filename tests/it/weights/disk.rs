//! A file system that is too small: told with numbers, and no obstacle once there is room.

use std::process::Command;

use bonafide::api::Reason;

use super::*;

const MIB: usize = 1 << 20;

/// A file system in memory, of so many bytes.
struct Small(TempDir);

impl Small {
    fn new(bytes: usize) -> Self {
        let small = Self(tempfile::tempdir().unwrap());
        small.mount(&format!("size={bytes}"));
        small
    }

    fn grow(&self, bytes: usize) {
        self.mount(&format!("remount,size={bytes}"));
    }

    fn mount(&self, options: &str) {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0.path()).status().unwrap();
        assert!(mounted.success(), "this test mounts a file system: it needs root");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_with_numbers_and_what_came_is_continued_once_there_is_room() {
    let model = noise(6 * MIB, 70);
    let served: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let place = Place::new(&served).await;
    let small = Small::new(8 * MIB);
    // It has room when the fetch begins, and somebody else takes it.
    let other = small.0.path().join("others");
    place.hub.set_faults(localcluster::hub::Faults { cut_after: Some(300_000), cuts: Some(6), ..Default::default() });
    let fetching = tokio::spawn(fetch(place.resolver(), job(&place, &served, small.0.path())));
    tokio::time::sleep(Duration::from_millis(20)).await;
    fs::write(&other, vec![1; 7 * MIB]).unwrap_or_default();
    let (outcome, _) = fetching.await.unwrap();
    let Outcome::Failed(problem) = outcome else { panic!("{outcome:?}") };
    assert_eq!(problem.reason, Reason::DiskFull, "{problem}");
    assert!(problem.message.contains("more are needed") && problem.message.contains("are free"), "{problem}");

    // The same disk is still full: it is said before a byte is asked for.
    place.hub.forget_requests();
    let (outcome, _) = fetch(place.resolver(), job(&place, &served, small.0.path())).await;
    assert!(matches!(&outcome, Outcome::Failed(problem) if problem.reason == Reason::DiskFull), "{outcome:?}");
    assert_eq!(place.hub.requests().len(), 0);

    small.grow(32 * MIB);
    let (outcome, progress) = fetch(place.resolver(), job(&place, &served, small.0.path())).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert!(progress.received <= model.len() as u64);
    assert_eq!(fs::read(small.0.path().join("tree/model.gguf")).unwrap(), model);
}
