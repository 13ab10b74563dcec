//! The manager is killed at every single write: before the write arrives, and after it arrived but before its answer does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::{
    ends,
    stories::{STORIES, Story},
    world::{World, simulate},
};
use crate::support::fake_api::{
    caller::{Fate, Plan, Smooth},
    request::Asked,
};

/// Kills at the write of this number.
struct Kill {
    left: usize,
    after: bool,
}

impl Plan for Kill {
    fn request(&mut self, asked: &Asked) -> Fate {
        if !asked.is_write() {
            return Fate::Pass;
        }
        self.left -= usize::from(self.left > 0);
        match (self.left, self.after) {
            (0, false) => Fate::DieBefore,
            (0, true) => Fate::DieAfter,
            _ => Fate::Pass,
        }
    }
}

/// How a story ended.
pub type Ends = BTreeMap<String, Value>;

/// Tells a story: how it ends.
pub async fn told(world: &World, story: &Story) -> Ends {
    (story.act)(world).await;
    world.rest().await;
    let orphans = ends::orphans(world);
    assert!(orphans.is_empty(), "{}: nobody owns {orphans:?}\n{}", story.name, world.oracle.story());
    ends::of(world)
}

/// How a story ends when nothing happens to the manager, and how often it writes.
pub fn undisturbed(number: usize) -> &'static (Ends, usize) {
    static ENDS: [OnceLock<(Ends, usize)>; STORIES.len()] = [const { OnceLock::new() }; STORIES.len()];
    ENDS[number].get_or_init(|| {
        simulate(1, async |world| {
            world.run_smoothly();
            let ends = told(world, &STORIES[number]).await;
            (ends, usize::try_from(world.oracle.writes()).unwrap())
        })
    })
}

/// A story with a manager whose lives end at these writes, one after the other: whether the last of them came.
fn killed(number: usize, at: Vec<(usize, bool)>) -> bool {
    let story = &STORIES[number];
    let (lives, found) = simulate(1, async |world| {
        let lives = Arc::new(AtomicUsize::new(0));
        let (count, all) = (lives.clone(), at.clone());
        world.keep_running(move |life| {
            count.store(life as usize, Ordering::Relaxed);
            match all.get(life as usize - 1) {
                Some((left, after)) => Box::new(Kill { left: *left, after: *after }),
                None => Box::new(Smooth),
            }
        });
        let found = told(world, story).await;
        (lives.load(Ordering::Relaxed), found)
    });
    let difference = ends::difference(&undisturbed(number).0, &found);
    assert_eq!(difference, None, "{}: killed at {at:?} (write, whether after it), it ends otherwise", story.name);
    lives > at.len()
}

/// The stories that `STORY` names a part of; all without it.
fn stories() -> impl Iterator<Item = usize> {
    let only = std::env::var("STORY").unwrap_or_default();
    (0..STORIES.len()).filter(move |number| STORIES[*number].name.contains(&only))
}

/// Whether everything is tried, and not what a quick look allows.
fn thorough() -> bool {
    std::env::var_os("THOROUGH").is_some()
}

#[test]
fn every_story_has_its_end() {
    for number in stories() {
        let (ends, writes) = undisturbed(number);
        println!("{}: {} objects, {writes} writes", STORIES[number].name, ends.len());
        assert!((3..200).contains(writes), "{}: {writes} writes", STORIES[number].name);
    }
}

/// Each life is given one write: the next one begins where the last one was killed. Without `THOROUGH=1` some stories only.
#[test]
fn killed_after_each_write_in_turn_the_manager_brings_every_story_to_its_end() {
    for number in stories().filter(|number| thorough() || number % 7 == 0) {
        let (_, writes) = undisturbed(number);
        killed(number, vec![(1, true); *writes]);
        // Each life is killed before its second write, so that what it learnt from the first is lost with it.
        if thorough() {
            killed(number, vec![(2, false); *writes]);
        }
    }
}

/// Killed once, at any write; without `THOROUGH=1` at every few writes only.
#[test]
fn killed_before_or_after_any_write_the_manager_brings_every_story_to_its_end() {
    for number in stories() {
        let (_, writes) = undisturbed(number);
        let step = if thorough() { 1 } else { writes - 2 };
        let mut kills = 0;
        // A quick look is at another write of each story, so that together they see most kinds of writes.
        for write in (1 + number * 5 % step..=*writes).step_by(step) {
            for after in [false, true] {
                kills += usize::from(killed(number, vec![(write, after)]));
            }
        }
        println!("{}: killed {kills} times", STORIES[number].name);
        assert!(kills >= if thorough() { 2 * (writes - 2) } else { 2 }, "{}: killed only {kills} times", STORIES[number].name);
    }
}
