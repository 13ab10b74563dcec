//! When nothing happens, nothing is written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::world::simulate;
use crate::support::fake_api::{
    caller::{Fate, Plan},
    request::Asked,
};

#[test]
fn in_ten_idle_hours_nothing_is_written() {
    let began = std::time::Instant::now();
    simulate(3, async |world| {
        world.run_smoothly();
        world.policy("strict", 1);
        world.deploy("pear", &[1], json!({ "replicas": 2 }));
        world.deploy("plum", &[], json!({}));
        world.deploy("fig", &[1], json!({ "replicas": 0 }));
        world.ready("pear", 2).await;
        world.condition("plum", "Trusted", "False", "Unsigned").await;
        world.condition("fig", "Ready", "True", "Idle").await;
        world.rest().await;
        let before = (world.oracle.writes(), world.api.state().version);
        tokio::time::sleep(Duration::from_secs(36_000)).await;
        assert_eq!((world.oracle.writes(), world.api.state().version), before, "{}", world.oracle.story());
    });
    println!("ten hours in {:.2} s", began.elapsed().as_secs_f64());
}

/// Counts children and records that are asked for by their names.
struct OneByOne(Arc<AtomicUsize>);

impl Plan for OneByOne {
    fn request(&mut self, asked: &Asked) -> Fate {
        const KINDS: [&str; 6] =
            ["ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment", "ModelArtifact"];
        if !asked.name.is_empty() && KINDS.contains(&asked.kind.kind) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Fate::Pass
    }
}

#[test]
fn whoever_begins_reads_no_child_on_its_own_and_writes_none() {
    simulate(4, async |world| {
        let first = Arc::new(AtomicUsize::new(0));
        let asked = first.clone();
        world.keep_running(move |_| Box::new(OneByOne(asked.clone())));
        world.policy("strict", 1);
        for name in ["pear", "plum"] {
            world.deploy(name, &[1], json!({ "replicas": 2 }));
            world.ready(name, 2).await;
        }
        world.deploy("fig", &[1], json!({ "replicas": 0 }));
        world.condition("fig", "Ready", "True", "Idle").await;
        world.rest().await;
        // Each of the six is written once, and the record's verdicts.
        assert_eq!(first.load(Ordering::Relaxed), 3 * 6, "{}", world.oracle.story());
        let before = world.oracle.writes();
        world.end("bonafide");
        let again = Arc::new(AtomicUsize::new(0));
        let asked = again.clone();
        world.keep_running(move |_| Box::new(OneByOne(asked.clone())));
        world.rest().await;
        assert_eq!((again.load(Ordering::Relaxed), world.oracle.writes()), (0, before), "{}", world.oracle.story());
    });
}
