//! The one word that says where a ModelDeployment is.

/// What stands in `status.state`, the column STATE. `docs/status.md` tells when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything that was asked for answers.
    Ready,
    /// No replica is wanted.
    Idle,
    /// Something that comes by itself is waited for.
    Waiting,
    /// Weights are fetched.
    Fetching,
    /// Engines load them.
    Loading,
    /// Something is wrong, and nothing answers.
    Blocked,
    /// Something is wrong, and some answer.
    Degraded,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Ready, Self::Idle, Self::Waiting, Self::Fetching, Self::Loading, Self::Blocked, Self::Degraded];

    /// The text in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Idle => "Idle",
            Self::Waiting => "Waiting",
            Self::Fetching => "Fetching",
            Self::Loading => "Loading",
            Self::Blocked => "Blocked",
            Self::Degraded => "Degraded",
        }
    }
}
