//! What users write and read: the custom resources of `bonafide.dev/v1alpha1`, their rules, and the vocabulary of
//! conditions and reasons.

mod artifact;
mod condition;
mod crds;
mod deployment;
mod duration;
mod engine;
mod pod;
mod policy;
mod reason;
mod secret;
mod signature;
mod state;

pub use artifact::*;
pub use condition::*;
pub use crds::{crds, render_crd};
pub use deployment::*;
pub use duration::*;
pub use engine::*;
pub use pod::*;
pub use policy::*;
pub use reason::*;
pub use secret::*;
pub use signature::*;
pub use state::*;

/// The API group of every kind here, and the prefix of our labels, annotations and gates.
pub const GROUP: &str = "bonafide.dev";

/// The field manager of every write we make.
pub const FIELD_MANAGER: &str = "bonafide";

/// Label on every child: the ModelDeployment it belongs to.
pub const LABEL_DEPLOYMENT: &str = "bonafide.dev/deployment";

/// Label on children of one revision: that revision's name.
pub const LABEL_REVISION: &str = "bonafide.dev/revision";

/// Label on a pod that looks into a claim: the ModelDeployment for which it does.
pub const LABEL_MEASURES: &str = "bonafide.dev/measures";

/// On a ModelDeployment: a new value asks the source again what a branch stands for, and tries again what was given up.
pub const ANNOTATION_REFRESH: &str = "bonafide.dev/refresh";

/// On a ControllerRevision: the parts of the spec that it was made from, as JSON. `bonafide rollout undo` brings them back.
pub const ANNOTATION_SPEC: &str = "bonafide.dev/spec";

/// On a ControllerRevision: in a sentence, what made it necessary.
pub const ANNOTATION_REASON: &str = "bonafide.dev/reason";

/// The scheduling gate of every pod of ours: lifted for one pod at a time, after its verdict was evaluated.
pub const GATE: &str = "bonafide.dev/verdict";

/// The readiness gate of every pod of ours: true once the live pod was compared with what we wrote.
pub const VOUCHED: &str = "bonafide.dev/Vouched";

/// The type of a Secret that holds credentials for a source, and names the hosts that may see them.
pub const SECRET_TYPE: &str = "bonafide.dev/source";

/// What Deployments, ReplicaSets and therefore pods of ours begin with; admission of `exec` sees names only.
pub const NAME_PREFIX: &str = "bonafide-";
