//! Why something is as it is: one closed vocabulary for conditions, Events and metrics.

use std::fmt;

/// Makes the enumeration, the texts that stand in conditions, and the list from which `docs/reasons.md` is made.
macro_rules! reasons {
    ($($group:literal { $($name:ident: $meaning:literal $(=> $helps:literal)?,)* })*) => {
        /// The CamelCase reason of a condition. The same value labels the Event and the metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $meaning] $name,)*)*
        }

        impl Reason {
            /// All of them, by what they are about.
            pub const ALL: &[(&str, &[Self])] = &[$(($group, &[$(Self::$name),*]),)*];

            /// The text that stands in a condition.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$name => stringify!($name),)*)*
                }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $($(Self::$name => $meaning,)*)*
                }
            }

            /// What helps, in a sentence or two; empty where nothing is wrong.
            pub const fn helps(self) -> &'static str {
                match self {
                    $($(Self::$name => concat!($($helps)?),)*)*
                }
            }
        }
    };
}

reasons! {
    "Things are as they should be." {
        Accepted: "The policy is complete and in force.",
        Resolved: "The source was asked; the immutable revision and the digest of every file are known.",
        Signed: "Signers whom the policies name have signed exactly these files.",
        Pinned: "The content is the one that was pinned by its digest.",
        Verified: "Every byte was hashed and is what was judged.",
        Available: "At least one replica answers.",
        Ready: "Everything that was asked for is there.",
        Idle: "No replica is wanted, and none runs.",
        UpToDate: "There is nothing to do.",
    }
    "Things are under way." {
        Pending: "It was not looked at yet.",
        Paused: "`spec.management` is `Paused`: changes wait, and what serves goes on serving.",
        RollingOut: "A new revision takes the place of an old one.",
        Draining: "A replica gets no new requests and finishes those it has before it is stopped.",
        Gated: "The pod waits for its verdict.",
        Scheduling: "The pod waits for the scheduler.",
        PullingImage: "The node pulls an image.",
        Fetching: "The weights are being fetched and verified.",
        Loading: "The engine loads the weights.",
        Probing: "The engine says that it is ready, and is asked for a first answer before it gets requests.",
        Vouching: "The pod is being compared with what was written.",
    }
    "The object itself cannot work." {
        InvalidSpec: "A field has a value that cannot be used.",
        UnknownEngine: "There is no engine of that name.",
        NoEngine: "No engine loads what the source has.",
        UnsupportedFormat: "The engine does not load the format of these files.",
        AmbiguousFiles: "The source has several models and nothing says which one is meant.",
        NoFiles: "No file of the source is asked for.",
        TooManyFiles: "The model has more files than can be recorded.",
        ArgumentNotAllowed: "An argument is not on the engine's list of what users may set.",
        EnvironmentNotAllowed: "An environment variable is not on the engine's list of what users may set.",
        AcceleratorNotSupported: "The engine has no image for this class of accelerators.",
        NameTaken: "Something of that name exists already, or another ModelDeployment of the namespace serves that name.",
    }
    "The source." {
        RepositoryNotFound: "The source has no such repository, or does not show it.",
        RevisionNotFound: "The repository has no such branch, tag or commit.",
        RepositoryRenamed: "The repository has another name now.",
        AccessDenied: "The source does not accept the credentials.",
        GatedRepo: "The repository's owner wants its licence to be accepted first.",
        SecretNotFound: "The Secret that is named does not exist.",
        SecretInvalid: "The Secret does not hold what it should.",
        HostNotAllowed: "The address is private, and the administrator's table does not allow it.",
        SourceUnavailable: "The source does not answer.",
        SourceInvalid: "The source answers something that cannot be right.",
        ClaimNotFound: "There is no PersistentVolumeClaim of that name.",
        Measuring: "The files in the claim are read and hashed.",
    }
    "Trust." {
        NoPolicy: "No policy speaks of this namespace.",
        DefaultDeny: "No policy speaks of this namespace, and the default is to refuse.",
        PolicyNotAccepted: "A policy that speaks of this namespace is incomplete, so nothing is accepted.",
        PolicyUnreadable: "A policy that speaks of this namespace cannot be read, so nothing is accepted.",
        NoMatchingRule: "No rule of the policy names this source.",
        Unsigned: "There is no signature.",
        SignatureInvalid: "The signature does not fit the files.",
        SignatureMalformed: "The signature cannot be read.",
        SignatureUnsupported: "The signature is of a kind that is not verified.",
        WrongSigner: "Somebody else than the policy names has signed.",
        SignedFileMissing: "The signature lists a file that the source does not have.",
        UnsignedFile: "A file that is served is not signed.",
        DigestMismatch: "The bytes are not the ones that were judged.",
        PinMismatch: "The content is not the one that is pinned.",
        Denied: "A policy denies these bytes or this origin.",
        AssuranceTooLow: "The policy wants the bytes to be copied and hashed on their way, and these are read in place.",
    }
    "Policies." {
        InvalidKey: "A key cannot be read.",
        InvalidPattern: "A pattern cannot be read.",
        InvalidDigest: "A digest cannot be read.",
        UnknownSigner: "A rule names a signer whom the policy does not know.",
    }
    "Pods." {
        Unschedulable: "No node has room for a replica now.",
        WaitingForNode: "No node has room, and one that has is on its way.",
        NoNodeFits: "No node of the cluster could ever take a replica as it is asked for.",
        QuotaExceeded: "A quota of the namespace forbids another pod.",
        PodsNotCreated: "The cluster does not accept the pods.",
        ImageNotFound: "An image does not exist under that name.",
        ImagePullUnauthorized: "The registry does not give the image without other credentials.",
        ImagePullFailed: "An image cannot be pulled.",
        VolumeFailed: "A volume of the pod cannot be mounted.",
        ContainerNotStarted: "The node cannot start a container.",
        FetchFailed: "The weights could not be fetched; it is tried again.",
        DownloadStalled: "No byte has come for a while.",
        DiskFull: "The node has no room for the weights.",
        OutOfMemory: "The engine needed more memory than its container may have.",
        DeviceOutOfMemory: "The model does not fit into the accelerator's memory.",
        ContextTooLong: "The context is longer than the model or the memory allows.",
        UnknownArchitecture: "The engine does not know this kind of model.",
        ArgumentRejected: "The engine does not take one of its arguments.",
        WeightsDamaged: "The engine finds that a file of the model is damaged or incomplete.",
        EngineFailed: "The engine stopped.",
        CrashLooping: "The engine stops again and again.",
        ProbeFailing: "The engine runs and does not become ready.",
        AnswerFailing: "The engine says that it is ready, and does not answer a request.",
        Unreachable: "The operator cannot reach the pod.",
        NodeLost: "The node does not report any more.",
        Preempted: "A pod of higher priority took the place.",
        Evicted: "The node or somebody sent the pod away.",
        NotVouched: "The pod is not what Bonafide wrote.",
        RolloutFailed: "The new revision did not answer in time; the old one goes on serving.",
    }
    "Ourselves." {
        CrdOutdated: "The CustomResourceDefinitions in the cluster are older than this version of Bonafide.",
        ApiError: "The API server did not do its part; it is asked again.",
        InternalError: "Bonafide made a mistake.",
    }
}

impl Reason {
    /// The reasons that are about pods: those that an engine's messages can have.
    pub fn of_pods() -> impl Iterator<Item = Self> {
        Self::ALL.iter().filter(|(group, _)| *group == "Pods.").flat_map(|(_, reasons)| reasons.iter().copied())
    }

    /// Whether something is wrong: it is not as it should be, and waiting alone is not what helps.
    pub fn is_trouble(self) -> bool {
        !Self::ALL.iter().take(2).any(|(_, reasons)| reasons.contains(&self))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that a person has to know: a reason for machines and a message for people.
///
/// The message says what, where, expected and found, and what to do next; see [`Problem::message`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Problem {
    /// The reason, as it stands in the condition.
    pub reason: Reason,
    /// One or a few sentences, at most [`Problem::MAX_MESSAGE`] bytes.
    pub message: String,
}

impl Problem {
    /// The longest message, in bytes: what an Event's note takes.
    pub const MAX_MESSAGE: usize = 1000;

    /// A problem; a longer message is cut at a character boundary.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: truncate(message.into()) }
    }
}

/// Cuts `message` to [`Problem::MAX_MESSAGE`] bytes, at a character boundary, and marks the cut.
pub fn truncate(mut message: String) -> String {
    if message.len() > Problem::MAX_MESSAGE {
        let mut end = Problem::MAX_MESSAGE - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}
