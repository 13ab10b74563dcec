//! The manager is killed at every single write: before the write arrives, and after it arrived but before its answer does.

use std::collections::BTreeMap;

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
    let foreign = story.name == "a_name_is_taken";
    assert!(orphans.is_empty() || foreign, "{}: nobody owns {orphans:?}\n{}", story.name, world.oracle.story());
    ends::of(world)
}

/// How a story ends when nothing happens to the manager.
pub fn undisturbed(story: &Story) -> Ends {
    simulate(1, async |world| {
        world.run_smoothly();
        told(world, story).await
    })
}

/// The same with the manager killed at one write; `None`: it was over before that write.
fn killed(story: &Story, write: usize, after: bool) -> Option<Ends> {
    simulate(1, async |world| {
        let (died, note) = std::sync::mpsc::channel();
        world.keep_running(move |life| {
            died.send(life).ok();
            if life == 1 { Box::new(Kill { left: write, after }) } else { Box::new(Smooth) }
        });
        let ends = told(world, story).await;
        (note.try_iter().count() > 1).then_some(ends)
    })
}

fn survives(story: &Story) -> usize {
    let expected = undisturbed(story);
    for write in 1.. {
        for after in [false, true] {
            let side = if after { "after" } else { "before" };
            match killed(story, write, after) {
                None => return write - 1,
                Some(found) => {
                    let difference = ends::difference(&expected, &found);
                    assert_eq!(difference, None, "{}: killed {side} write {write}, it ends otherwise", story.name);
                }
            }
        }
    }
    unreachable!("stories end")
}

/// Stories are told on several threads.
fn each(stories: &[Story], part: usize, parts: usize) {
    let only = std::env::var("STORY").unwrap_or_default();
    for story in stories.iter().skip(part).step_by(parts).filter(|story| story.name.contains(&only)) {
        let began = std::time::Instant::now();
        let writes = survives(story);
        println!("{}: killed twice at each of {writes} writes, {:.1} s", story.name, began.elapsed().as_secs_f64());
        assert!(writes >= 3, "{}: only {writes} writes", story.name);
    }
}

#[test]
fn every_story_has_its_end() {
    let only = std::env::var("STORY").unwrap_or_default();
    for story in STORIES.iter().filter(|story| story.name.contains(&only)) {
        let began = std::time::Instant::now();
        let ends = undisturbed(story);
        println!("{}: {} objects, {:.2} s", story.name, ends.len(), began.elapsed().as_secs_f64());
        assert_eq!(ends::difference(&ends, &undisturbed(story)), None, "{}: told again, it ends otherwise", story.name);
    }
}

#[test]
fn killed_at_any_write_the_manager_brings_the_first_stories_to_the_same_end() {
    each(STORIES, 0, 2);
}

#[test]
fn killed_at_any_write_the_manager_brings_the_other_stories_to_the_same_end() {
    each(STORIES, 1, 2);
}
