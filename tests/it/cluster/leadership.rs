//! One operator works, the others stand by.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    operator::Operator,
    place::{NAME, Place},
    world::World,
};

async fn leads(world: &World, operator: &Operator, patience: Duration) -> Duration {
    let began = Instant::now();
    let look = async || {
        let (ready, (_, metrics)) = (operator.get("readyz").await.0, operator.get("metrics").await);
        if ready == 200 && metrics.lines().any(|line| line == "bonafide_leader 1") {
            Ok(())
        } else {
            Err(format!("/readyz: {ready}\n{}", operator.tail()))
        }
    };
    world.within(patience, "the operator leads", look).await;
    began.elapsed()
}

#[tokio::test]
async fn a_standby_takes_over_at_once_when_the_leader_ends_and_soon_when_it_dies() {
    let world = World::without_operator().await;
    let mut first = world.another_operator("first").await;
    leads(&world, &first, Duration::from_secs(20)).await;
    let mut second = world.another_operator("second").await;
    let place = Place::new(&world).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    // The standby answers its probes, and writes nothing.
    assert_eq!((second.get("readyz").await.0, second.get("healthz").await.0), (200, 200));
    assert!(second.get("metrics").await.1.lines().any(|line| line == "bonafide_leader 0"));
    assert!(second.writes().await.is_empty(), "{:?}", second.writes().await);

    first.signal("TERM");
    let ended = first.ended().await;
    assert!(ended.success(), "{ended}:\n{}", first.tail());
    let took = leads(&world, &second, Duration::from_secs(10)).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    place.deploy("after-term").await;
    place.let_in("after-term", 1).await;

    let third = world.another_operator("third").await;
    second.signal("KILL");
    assert!(!second.ended().await.success());
    // A lease is good for fifteen seconds, and looked at every three.
    let took = leads(&world, &third, Duration::from_secs(30)).await;
    assert!(took > Duration::from_secs(5), "the lease of an operator that may still live was taken after {took:?}");
    place.deploy("after-kill").await;
    place.let_in("after-kill", 1).await;
    // A change of leaders changes no child.
    assert_eq!(place.of("Deployment", NAME).await[0]["metadata"]["generation"], Value::from(1));
}
