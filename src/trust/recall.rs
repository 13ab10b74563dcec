//! What becomes of replicas that run when the policies refuse what they serve.

use super::policy::PolicyState;
use crate::api::OnRecall;

/// What the policies that refuse a model say of replicas that run: of several, the strictest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// What becomes of them.
    pub on: OnRecall,
    /// The policies that say so, by name; none where something else than a policy does.
    pub by: Vec<String>,
}

impl Recall {
    /// Takes in that one more policy refuses. Nobody knows what one that cannot be used would have refused, so it drains nothing.
    pub(super) fn add(recall: &mut Option<Self>, state: &PolicyState) {
        let on = match state {
            PolicyState::Accepted(policy) => policy.on_recall,
            PolicyState::Broken { .. } => OnRecall::BlockNew,
        };
        let by = state.name().to_owned();
        match recall {
            Some(known) if known.on > on => {}
            Some(known) if known.on == on => known.by.push(by),
            _ => *recall = Some(Self { on, by: vec![by] }),
        }
    }

    /// Takes in that something else refuses than a policy: the content that is pinned, or the cluster's default. It starts nothing
    /// again.
    pub(super) fn add_another(recall: &mut Option<Self>) {
        if let Some(known) = recall.as_mut().filter(|known| known.on < OnRecall::BlockNew) {
            *known = Self { on: OnRecall::BlockNew, by: vec![] };
        }
    }
}
