//! When nothing happens, nothing is written.

use std::time::Duration;

use serde_json::json;

use super::world::simulate;

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
