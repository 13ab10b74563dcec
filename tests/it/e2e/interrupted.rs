//! Something dies on the way.

use std::fs;

use localcluster::hub::Faults;

use super::place::{PATIENCE, Place};

/// Bytes a second on each connection: slow enough that there is time to break something.
const SLOW: u64 = 2 << 20;

#[tokio::test]
async fn a_fetch_that_is_killed_is_taken_up_where_it_stopped_also_when_the_operator_dies_with_it() {
    let place = Place::guarded("killed").await;
    let repository = place.publish_real("smollm2");
    place.world.platform.signs(&repository).await;
    let hub = place.world.hub();
    hub.set_faults(Faults { bytes_per_second: Some(SLOW), ..Faults::default() });
    place.deploy("smollm2").await;
    let of_us = format!("--source={}", place.source("smollm2"));
    let sent = || place.downloads("smollm2", "model.gguf").iter().map(localcluster::hub::Logged::sent).sum::<u64>();
    let size = fs::metadata(&place.world.model).unwrap().len();
    // Parts arrive side by side; what is whole from the beginning on is kept.
    place.until(PATIENCE, "most of it is fetched", async || (sent() > size * 3 / 4).then_some(())).await;
    let why = place.shows("smollm2", ["Signed", "Fetching", "0/1"]).await;
    assert!(why.contains("being fetched") || why.contains(" %, "), "{why}");

    let managers = place.processes("/bonafide manager", "/etc/bonafide/manager.yaml");
    assert_eq!(managers.len(), 1, "{managers:?}");
    place.kill(managers[0]).await;
    let fetching = place.processes("/bonafide fetch", &of_us);
    assert_eq!(fetching.len(), 1, "{fetching:?}");
    place.kill(fetching[0]).await;
    let first = place.downloads("smollm2", "model.gguf").len();
    hub.set_faults(Faults::default());

    place.ready("smollm2").await;
    place.answers("smollm2").await;
    let downloads = place.downloads("smollm2", "model.gguf");
    let second = &downloads[first..];
    assert!(!second.is_empty(), "nothing was fetched after the kill");
    let froms = second.iter().map(|request| {
        let range = request.header("range").unwrap_or("bytes=0-");
        range.trim_start_matches("bytes=").split('-').next().unwrap().parse::<u64>().unwrap()
    });
    let froms: Vec<u64> = froms.collect();
    let rest: u64 = second.iter().map(localcluster::hub::Logged::sent).sum();
    eprintln!("e2e: killed after {} bytes; then {rest} of {size} from {froms:?}", sent() - rest);
    assert!(froms.iter().all(|from| *from > 0), "it began anew: {froms:?}");
    assert!(rest < size / 2, "the second attempt fetched {rest} of {size} bytes");
    assert_eq!(place.witness.count("smollm2"), 1, "another pod was made");
    let pod = place.pod("smollm2").await;
    assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 1);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "the engine was started too early");
}
