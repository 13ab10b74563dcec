//! Everything dies at random while twenty objects change: the manager, the API server, etcd, the controllers. Afterwards the
//! world is as if nothing had happened, nothing is left over, and nobody was ever served what was not vouched for.
//!
//! `CAMPAIGN_SECONDS` says how long (60; `make campaign`: 300), `CAMPAIGN_SEED` which course it takes.

mod after;
mod kubelet;
mod wishes;
mod witness;

use std::{
    env,
    time::{Duration, Instant},
};

use kube::Client;
use serde_json::json;
use tokio::time::sleep;

use self::{kubelet::Kubelet, wishes::Wishes, witness::Witness};
use super::{
    operator::Operator,
    place::{cluster_wide, parse},
    world::World,
};

/// Where everything dies, and where the same wishes are met in peace.
const STORMY: &str = "stormy";
const CALM: &str = "calm";

/// Numbers that look like chance and are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One of 0..sides.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Tries until it succeeds: the API server may be away, and what was asked for may have been done before it went.
pub async fn at_last<T, F>(what: &str, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let began = Instant::now();
    loop {
        let error = match tokio::time::timeout(Duration::from_secs(10), attempt()).await {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        };
        assert!(began.elapsed() < Duration::from_secs(180), "{what} is not possible: {error}");
        sleep(Duration::from_millis(300)).await;
    }
}

/// `Ok` also when an object was there, or was gone, already.
pub fn done<T>(answer: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Kills one thing after the other and starts it again, until the time is over. Returns the operator that runs then.
async fn storm(world: &mut World, mut operator: Operator, mut dice: Dice, length: Duration) -> Operator {
    let began = Instant::now();
    let mut deaths = std::collections::BTreeMap::new();
    while began.elapsed() < length {
        let calm = Duration::from_millis(2000 + dice.roll(4000));
        let until = Instant::now() + calm;
        while Instant::now() < until {
            // A manager that has lost its lease ends by itself, and is started again as a kubelet would.
            if operator.has_ended() {
                operator = operator.again().await;
                *deaths.entry("the manager, by itself").or_insert(0) += 1;
            }
            sleep(Duration::from_millis(100)).await;
        }
        match dice.roll(8) {
            0..=3 => {
                operator.signal("KILL");
                operator = operator.again().await;
                *deaths.entry("the manager").or_insert(0) += 1;
            }
            other => {
                let process = ["kube-apiserver", "etcd", "kube-apiserver", "kube-controller-manager"][other as usize - 4];
                world.cluster.kill(process).await.unwrap();
                sleep(Duration::from_millis(dice.roll(2500))).await;
                world.cluster.ready().await.unwrap();
                *deaths.entry(process).or_insert(0) += 1;
            }
        }
    }
    eprintln!("campaign: died in {} s: {deaths:?}", length.as_secs());
    assert!(deaths.len() > 1, "almost nothing died: this shows nothing");
    if operator.has_ended() {
        operator = operator.again().await;
    }
    world.cluster.ready().await.unwrap();
    operator
}

async fn namespace(client: &Client, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    at_last("a namespace", || async {
        done(cluster_wide(client, "Namespace").create(&Default::default(), &parse(namespace.clone())).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_the_wishes_are_met_nothing_is_left_over_and_nothing_unvouched_is_served() {
    let length = Duration::from_secs(number("CAMPAIGN_SECONDS", 60));
    let seed = number("CAMPAIGN_SEED", 1);
    eprintln!("campaign: {} s, CAMPAIGN_SEED={seed}", length.as_secs());
    let mut world = World::without_operator().await;
    let client = world.client().await;
    for name in [STORMY, CALM] {
        namespace(&client, name).await;
    }
    let kubelet = Kubelet::start(client.clone()).await;
    let mut wishes = Wishes::new(&world, client.clone(), Dice::new(seed), kubelet.port()).await;
    let witness = Witness::start(client.clone());
    let operator = world.another_operator("campaign").await;

    let over = Instant::now() + length;
    let changing = tokio::spawn(async move {
        while Instant::now() < over {
            wishes.change(STORMY).await;
            sleep(wishes.pause()).await;
        }
        wishes.end(STORMY).await;
        wishes
    });
    let operator = storm(&mut world, operator, Dice::new(seed + 1), length).await;
    let wishes = changing.await.unwrap();

    wishes.fulfil(CALM).await;
    after::same(&world, &client, &wishes).await;
    after::nothing_is_left_over(&world, &client).await;
    witness.verdict(&wishes).await;
    drop((operator, kubelet));
}
