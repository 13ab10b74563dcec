//! Stories under faults by chance: refusals, broken and hanging connections, late, doubled and forgotten events, deaths,
//! clocks that are wrong. When the weather clears up, each has to come to the end that it has without any of that.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    crashes::{Ends, told, undisturbed},
    ends,
    stories::{STORIES, Story},
    world::{World, simulate},
};
use crate::support::{
    bell,
    dice::Dice,
    fake_api::{
        caller::{Fate, Plan, Tidings},
        refuse::Refusal,
        request::Asked,
        store::Change,
    },
};

/// So many runs when nobody says how many.
const RUNS: u64 = 30;
/// The weather clears up after this time.
const STORM: Duration = Duration::from_secs(900);
/// The managers.
const NAMES: [&str; 2] = ["bonafide-a", "bonafide-b"];
/// The longest that a request or its answer is under way.
const SLOW: u64 = 4;

/// What the weather is like: each number is how often in a thousand.
#[derive(Debug, Clone)]
struct Climate {
    conflicts: u64,
    refusals: u64,
    breaks: u64,
    slowness: u64,
    silence: u64,
    deaths: u64,
    late_events: u64,
    other_events: u64,
    /// Watches of these kinds are behind by so many seconds all the time.
    behind: Vec<(&'static str, u64)>,
    /// How often a manager is cut off: it hears and reaches nothing for a while, and nobody tells it.
    partitions: u64,
    /// How often one stands still, and how often one is killed while it does nothing.
    pauses: u64,
    kills: u64,
}

impl Climate {
    fn new(dice: &mut Dice) -> Self {
        let mut often = |most: u64| [0, most / 4, most][usize::try_from(dice.below(3)).unwrap()];
        let mut climate = Self {
            conflicts: often(80),
            refusals: often(100),
            breaks: often(80),
            slowness: often(150),
            silence: often(8),
            deaths: often(40),
            late_events: often(200),
            other_events: often(100),
            behind: vec![],
            partitions: often(500),
            pauses: often(300),
            kills: often(300),
        };
        for kind in
            ["Pod", "Deployment", "ControllerRevision", "ModelDeployment", "ModelArtifact", "ClusterModelPolicy", "Namespace"]
        {
            if dice.below(5) == 0 {
                climate.behind.push((kind, 1 + dice.below(30)));
            }
        }
        climate
    }
}

struct Weather {
    dice: Dice,
    climate: Climate,
    clears_up: Instant,
    /// Until when whom nothing reaches.
    cut_off: BTreeMap<String, Instant>,
}

impl Weather {
    fn request(&mut self, asked: &Asked) -> Fate {
        let Climate { conflicts, refusals, breaks, slowness, silence, deaths, .. } = self.climate.clone();
        let seconds = |dice: &mut Dice| Duration::from_millis(1 + dice.below(SLOW * 1000));
        let writes = asked.is_write();
        if writes && self.dice.thousandths(conflicts) {
            return Fate::Refuse(Refusal::conflict(asked.kind, &asked.name, "the object has been modified"));
        }
        if self.dice.thousandths(refusals) {
            let mut refusal = match self.dice.below(3) {
                0 => Refusal::new(
                    429,
                    "TooManyRequests",
                    "the server has received too many requests and has asked us to try again later",
                ),
                1 => Refusal::new(500, "InternalError", "Internal error occurred: etcdserver: request timed out"),
                _ => Refusal::new(503, "ServiceUnavailable", "the server is currently unable to handle the request"),
            };
            refusal.retry_after = (refusal.code == 429).then_some(1);
            return Fate::Refuse(refusal);
        }
        if self.dice.thousandths(breaks) {
            return if writes && self.dice.below(2) == 0 { Fate::Lost } else { Fate::Broken };
        }
        if self.dice.thousandths(slowness) {
            let by = seconds(&mut self.dice);
            return if self.dice.below(2) == 0 { Fate::Late(by) } else { Fate::Slow(by / 2) };
        }
        if self.dice.thousandths(silence) {
            return Fate::Hang;
        }
        if writes && self.dice.thousandths(deaths) {
            return if self.dice.below(2) == 0 { Fate::DieBefore } else { Fate::DieAfter };
        }
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if let Some((_, seconds)) = self.climate.behind.iter().find(|(kind, _)| *kind == change.kind.kind) {
            return Tidings::Late(Duration::from_secs(*seconds));
        }
        if self.dice.thousandths(self.climate.late_events) {
            return Tidings::Late(Duration::from_millis(self.dice.below(20_000)));
        }
        if self.dice.thousandths(self.climate.other_events) {
            return [Tidings::Twice, Tidings::Break, Tidings::Forget][usize::try_from(self.dice.below(3)).unwrap()];
        }
        Tidings::Now
    }
}

/// The weather as one life of a manager sees it: which manager.
struct Under(Arc<Mutex<Weather>>, String);

impl Plan for Under {
    fn request(&mut self, asked: &Asked) -> Fate {
        let mut weather = self.0.lock().unwrap();
        match weather.cut_off.get(&self.1) {
            Some(until) if Instant::now() < *until => Fate::Hang,
            _ if Instant::now() < weather.clears_up => weather.request(asked),
            _ => Fate::Pass,
        }
    }

    fn event(&mut self, change: &Change) -> Tidings {
        let mut weather = self.0.lock().unwrap();
        match weather.cut_off.get(&self.1) {
            Some(until) if Instant::now() < *until => Tidings::Late(*until - Instant::now()),
            _ if Instant::now() < weather.clears_up => weather.event(change),
            _ => Tidings::Now,
        }
    }
}

/// One run: what was written in it.
fn run(seed: u64) -> Vec<String> {
    let number = usize::try_from(seed).unwrap() % STORIES.len();
    let expected = &undisturbed(number).0;
    let (found, story) = simulate(seed, async |world| (stormy(world, &STORIES[number]).await, world.oracle.whole_story()));
    let difference = ends::difference(expected, &found);
    assert!(difference.is_none(), "{} ends otherwise: {}\n{}", STORIES[number].name, difference.unwrap(), story.join("\n"));
    story
}

async fn stormy(world: &World, story: &Story) -> Ends {
    let mut dice = world.dice();
    let climate = Climate::new(&mut dice);
    let number = 1 + dice.below(2);
    let leads = dice.below(2) == 0;
    println!("  {}: {number} managers, {} Lease, {climate:?}", story.name, if leads { "with a" } else { "without a" });
    let weather =
        Weather { dice: dice.another(), climate: climate.clone(), clears_up: Instant::now() + STORM, cut_off: BTreeMap::new() };
    let weather = Arc::new(Mutex::new(weather));
    world.oracle.slow(Duration::from_secs(2 * SLOW));
    // The API server forgets what was, and the managers' clocks are wrong.
    let api = world.api.clone();
    let mut forgets = dice.another();
    tokio::spawn(async move {
        let end = Instant::now() + STORM;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(20 + forgets.below(200))).await;
            api.state().compact();
        }
    });
    world.skew(dice.another());
    // One or two at once: of those without a Lease neither knows of the other, for a while.
    for name in NAMES.into_iter().take(usize::try_from(number).unwrap()) {
        let (pause, paused) = bell::channel(false);
        let of_it = weather.clone();
        let plans = move |_| Box::new(Under(of_it.clone(), name.to_owned())) as Box<dyn Plan>;
        if leads {
            world.keep_leading_as(name, &paused, plans);
        } else {
            world.keep_running_as(name, plans);
        }
        tokio::spawn(mishaps(world.clone(), name, weather.clone(), pause, dice.another()));
    }
    if number > 1 && !leads {
        let api = world.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STORM).await;
            api.end(NAMES[1]);
        });
    }
    told(world, story).await;
    // If it was over before the storm was, the storm has to leave it as it is; and whoever died last comes back.
    let clears_up = weather.lock().unwrap().clears_up;
    tokio::time::sleep_until(clears_up).await;
    world.settle().await;
    ends::of(world)
}

/// What befalls a whole process, and not one of its requests.
async fn mishaps(world: World, name: &'static str, weather: Arc<Mutex<Weather>>, pause: bell::Sender<bool>, mut dice: Dice) {
    let (climate, clears_up) = {
        let weather = weather.lock().unwrap();
        (weather.climate.clone(), weather.clears_up)
    };
    while Instant::now() < clears_up {
        tokio::time::sleep(Duration::from_secs(10 + dice.below(80))).await;
        let lasts = Duration::from_secs(1 + dice.below(60));
        if dice.thousandths(climate.partitions) {
            weather.lock().unwrap().cut_off.insert(name.to_owned(), Instant::now() + lasts);
        }
        if dice.thousandths(climate.pauses) {
            pause.send_replace(true);
            tokio::time::sleep(lasts).await;
            pause.send_replace(false);
        }
        if dice.thousandths(climate.kills)
            && let Some((caller, _)) = world.managers.lock().unwrap().get(name)
        {
            caller.die();
        }
    }
}

#[test]
fn a_run_is_the_same_when_it_is_told_again() {
    for seed in [1, 5, 7, 11, 16, 19] {
        let (once, again) = (run(seed), run(seed));
        let differs = once.iter().zip(&again).position(|(once, again)| once != again);
        let from = |story: &[String], at: usize| story[at.saturating_sub(5)..story.len().min(at + 5)].join("\n");
        let told = differs.map(|at| format!("once:\n{}\nagain:\n{}", from(&once, at), from(&again, at)));
        assert!(told.is_none() && once.len() == again.len(), "seed {seed}: {}", told.unwrap_or_default());
    }
}

#[test]
fn whatever_the_weather_every_story_comes_to_its_end() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), many) => seed..seed + many.unwrap_or(1),
        (None, many) => 0..many.unwrap_or(RUNS),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            println!("to tell it again: SEED={seed} cargo test -p bonafide --test it -- sim::chance --nocapture");
            resume_unwind(panic);
        }
    }
}
