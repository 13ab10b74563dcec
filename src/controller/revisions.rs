//! How many replicas each revision has: one pure function of what is seen and what is wanted.
//!
//! For now one strategy: the new revision comes up whole beside the old ones; when it answers with as many replicas as are
//! wanted, the old ones go down.

/// A revision as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Replicas that its Deployment asks for; `None` when there is no Deployment.
    pub asked: Option<i32>,
    /// Pods that answer and are vouched for.
    pub ready: i32,
    /// Pods that exist, also those that are going.
    pub pods: i32,
    /// Whether its bytes turned out not to be those that were judged.
    pub refused: bool,
}

/// What becomes of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its Deployment has so many replicas.
    Keep(i32),
    /// Its children are removed.
    Remove,
}

/// The fate of each revision, in the order of `seen`.
///
/// `current` is the revision that answers today's wish, when there is one that may be served. Without one nothing is
/// changed: old replicas keep serving, as many as are wanted.
pub fn shift(seen: &[Seen], current: Option<&str>, wanted: i32) -> Vec<Fate> {
    let current_is_up =
        seen.iter().any(|revision| Some(revision.name.as_str()) == current && !revision.refused && revision.ready >= wanted);
    seen.iter()
        .map(|revision| {
            let is_current = Some(revision.name.as_str()) == current;
            match (is_current, revision.refused) {
                // Replicas that have verified their bytes stay; none is added that would fetch the others.
                (true, true) => Fate::Keep(revision.ready.min(wanted)),
                (true, false) => Fate::Keep(wanted),
                (false, true) if revision.ready == 0 => Fate::Remove,
                (false, _) if current.is_none() => Fate::Keep(revision.asked.unwrap_or(0).min(wanted)),
                // What does not answer serves nobody, and could hold the room that the new one needs.
                (false, _) if !current_is_up => Fate::Keep(revision.asked.unwrap_or(0).min(wanted).min(revision.ready)),
                (false, _) if revision.pods > 0 => Fate::Keep(0),
                (false, _) => Fate::Remove,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, asked: i32, ready: i32) -> Seen {
        Seen { name: name.into(), asked: Some(asked), ready, pods: asked, refused: false }
    }

    #[test]
    fn the_new_revision_comes_up_before_the_old_one_goes_down() {
        let fate = |old: Seen, new: Seen| shift(&[old, new], Some("new"), 2);
        assert_eq!(fate(seen("old", 2, 2), seen("new", 0, 0)), [Fate::Keep(2), Fate::Keep(2)]);
        assert_eq!(fate(seen("old", 2, 2), seen("new", 2, 1)), [Fate::Keep(2), Fate::Keep(2)]);
        assert_eq!(fate(seen("old", 2, 2), seen("new", 2, 2)), [Fate::Keep(0), Fate::Keep(2)]);
        let gone = Seen { pods: 0, ..seen("old", 0, 0) };
        assert_eq!(fate(gone, seen("new", 2, 2)), [Fate::Remove, Fate::Keep(2)]);
    }

    #[test]
    fn an_old_revision_that_does_not_answer_makes_room() {
        assert_eq!(shift(&[seen("broken", 1, 0), seen("mended", 1, 0)], Some("mended"), 1), [Fate::Keep(0), Fate::Keep(1)]);
    }

    #[test]
    fn a_refused_revision_goes_to_zero_and_the_old_one_keeps_serving() {
        let refused = Seen { refused: true, ..seen("new", 1, 0) };
        assert_eq!(shift(&[seen("old", 1, 1), refused], Some("new"), 1), [Fate::Keep(1), Fate::Keep(0)]);
    }

    #[test]
    fn replicas_that_verified_their_bytes_stay_when_another_finds_different_ones() {
        let refused = Seen { refused: true, ..seen("new", 3, 2) };
        assert_eq!(shift(&[refused], Some("new"), 3), [Fate::Keep(2)]);
    }

    #[test]
    fn without_a_revision_that_may_be_served_nothing_is_added_and_nothing_is_lost() {
        assert_eq!(shift(&[seen("old", 2, 2)], None, 2), [Fate::Keep(2)]);
        assert_eq!(shift(&[seen("old", 2, 2)], None, 3), [Fate::Keep(2)]);
        assert_eq!(shift(&[seen("old", 2, 2)], None, 0), [Fate::Keep(0)]);
    }

    #[test]
    fn zero_replicas_take_every_revision_down() {
        assert_eq!(shift(&[seen("old", 1, 1), seen("new", 1, 1)], Some("new"), 0), [Fate::Keep(0), Fate::Keep(0)]);
    }
}
