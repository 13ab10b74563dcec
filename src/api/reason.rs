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
        Accepted: "The policy is complete and in force; the signature can be read, and a model of its namespace has that content.",
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
        Unused: "The signature can be read, and no model of its namespace has that content.",
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
        InvalidSpec: "A field has a value that cannot be used." => "Correct the field that the message names.",
        UnknownEngine: "There is no engine of that name." => "Name one of those that the message lists, or create the InferenceEngine.",
        NoEngine: "No engine loads what the source has." => "Choose other files or another class of accelerators, or create an InferenceEngine that loads the model.",
        UnsupportedFormat: "The engine does not load the format of these files." => "Choose files of a format that an engine loads with `spec.model.files`, or name another engine.",
        AmbiguousFiles: "The source has several models and nothing says which one is meant." => "Put one of the globs that the message shows into `spec.model.files`.",
        NoFiles: "No file of the source is asked for." => "Correct `spec.model.files`; the message says what the source has.",
        TooManyFiles: "The model has more files than can be recorded." => "Serve fewer files with `spec.model.files`.",
        ArgumentNotAllowed: "An argument is not on the engine's list of what users may set." => "Leave it out, or have an administrator put it on the list of the InferenceEngine (`user.args`, `user.switches`).",
        EnvironmentNotAllowed: "An environment variable is not on the engine's list of what users may set." => "Leave it out, or have an administrator put it on the list of the InferenceEngine (`user.env`).",
        AcceleratorNotSupported: "The engine has no image for this class of accelerators." => "Ask for a class that the engine has an image for, or give it one.",
        NameTaken: "Something of that name exists already, or another ModelDeployment of the namespace serves that name." => "Rename one of the two, or remove the one that is not needed.",
    }
    "The source." {
        RepositoryNotFound: "The source has no such repository, or does not show it." => "Correct `spec.model.source`; when the repository is private, name a Secret in `spec.model.secretRef`.",
        RevisionNotFound: "The repository has no such branch, tag or commit." => "Correct `spec.model.revision`.",
        RepositoryRenamed: "The repository has another name now." => "Write the new name, which the message says, into `spec.model.source`.",
        AccessDenied: "The source does not accept the credentials." => "Correct the token in the Secret of `spec.model.secretRef`, and see that its `hosts` name the source.",
        GatedRepo: "The repository's owner wants its licence to be accepted first." => "Accept the licence on the page that the message names, with the account whose token is used.",
        SecretNotFound: "The Secret that is named does not exist." => "Create the Secret in the namespace of the ModelDeployment.",
        SecretInvalid: "The Secret does not hold what it should." => "Give it the type `bonafide.dev/source` and the keys that the message names.",
        HostNotAllowed: "The address is private, and the administrator's table does not allow it." => "Have an administrator add the address to `sources.allowedHosts` of the chart, when it is meant.",
        SourceUnavailable: "The source does not answer." => "Check the name in `spec.model.source`; if it is right, wait: it is asked again. If it lasts, see that the cluster reaches the source.",
        SourceInvalid: "The source answers something that cannot be right." => "See what answers at that address: a proxy, perhaps.",
        ClaimNotFound: "There is no PersistentVolumeClaim of that name." => "Create the claim, or correct its name.",
        Measuring: "The files in the claim are read and hashed." => "Wait; large files take minutes.",
    }
    "Trust." {
        NoPolicy: "No policy speaks of this namespace." => "Nothing, when that is meant; otherwise create a ClusterModelPolicy that selects the namespace.",
        DefaultDeny: "No policy speaks of this namespace, and the default is to refuse." => "Create a ClusterModelPolicy that selects the namespace, or set `policy.default` of the chart.",
        PolicyNotAccepted: "A policy that speaks of this namespace is incomplete, so nothing is accepted." => "Complete the policy that the message names; its own status says what is missing.",
        PolicyUnreadable: "A policy that speaks of this namespace cannot be read, so nothing is accepted." => "Correct the policy that the message names, or update Bonafide.",
        NoMatchingRule: "No rule of the policy names this source." => "Add a rule for the source to the policy, or serve a source that it has a rule for.",
        Unsigned: "There is no signature." => "Have the model signed, and put the signature beside it.",
        SignatureInvalid: "The signature does not fit the files." => "Have the model signed again.",
        SignatureMalformed: "The signature cannot be read." => "Put a Sigstore bundle there, as `model_signing` writes it.",
        SignatureUnsupported: "The signature is of a kind that is not verified." => "Sign with one of the kinds that docs/security.md lists.",
        WrongSigner: "Somebody else than the policy names has signed." => "Have it signed by one of those whom the message names.",
        CertificateExpired: "The signer's certificate, or one above it, has expired." => "Have the model signed with a certificate that is valid.",
        CertificateNotYetValid: "The signer's certificate, or one above it, is not valid yet, or the time of a signature is still to come." => "Wait until it is; if it should be, see whether a clock is wrong.",
        CertificateUnfit: "The signer's certificate, or one above it, is not for signing code." => "Have the model signed with a certificate for code signing, under an authority without restrictions.",
        SignedFileMissing: "The signature lists a file that the source does not have." => "Restore the file at the source, or have the model signed again without it.",
        UnsignedFile: "A file that is served is not signed." => "Have it signed, or leave it out with `spec.model.files`.",
        DigestMismatch: "The bytes are not the ones that were judged." => "If the new bytes are wanted, have them signed or pin them; if not, tell the owner of the repository.",
        PinMismatch: "The content is not the one that is pinned." => "Set `spec.model.digest` to what the message says, when that is wanted; otherwise pin the revision too.",
        ContentNotListed: "The rule takes only contents that it names by digest, and this is none of them." => "Serve a content that the rule names, or have this one's digest added to it.",
        SignedFileLeftOut: "A file that was signed would not be served, and the policy wants all of them." => "Name the file in `spec.model.files` too, or have the files that are served signed by themselves.",
        FormatNotAllowed: "A file is of a format that the policy does not allow." => "Choose other files with `spec.model.files`, or a model whose weights are of an allowed format.",
        FormatMismatch: "The bytes of a file are not of the format that its name says, or are of another one too." => "Do not use the file: tell the owner of the repository, and choose another model.",
        RemoteCodeDenied: "The model brings code along, or its configuration names some, and the policy lets none through." => "Leave code out with `spec.model.files`, or choose a model that needs none.",
        EngineNotAllowed: "The engine's image is none that the policy allows." => "Name another engine, or have its InferenceEngine name an image with an allowed digest.",
        Denied: "A policy denies these bytes or this origin." => "Serve another revision; the message says why this one is denied.",
        AssuranceTooLow: "The policy wants the bytes to be copied and hashed on their way, and these are read in place." => "Serve it from a source whose bytes are copied, such as `hf://`.",
    }
    "Policies." {
        InvalidKey: "A key, an authority's certificate or a Sigstore instance's trusted root cannot be read." => "Write the key as PEM, `-----BEGIN PUBLIC KEY-----`, the authority as `-----BEGIN CERTIFICATE-----`, and the instance as its `trusted_root.json`.",
        InvalidPattern: "A pattern cannot be read, or can match no source or name." => "Correct the pattern that the message names. For a source: the whole source with its scheme, as `hf://acme/*`; only `*` and `**` are wildcards.",
        InvalidDigest: "A digest cannot be read." => "Write it as `sha256:` and 64 hexadecimal digits.",
        UnknownSigner: "A rule names a signer whom the policy does not know." => "Add the signer to the policy, or correct its name.",
    }
    "Pods." {
        Unschedulable: "No node has room for a replica now." => "Free what the message names, or ask for less.",
        WaitingForNode: "No node has room, and one that has is on its way." => "Wait for the node.",
        NoNodeFits: "No node of the cluster could ever take a replica as it is asked for." => "Add a node that fits, or change what is asked for: accelerators, `spec.pod.nodeSelector`, `spec.pod.tolerations`.",
        QuotaExceeded: "A quota of the namespace forbids another pod." => "Have the quota raised, or free what others use.",
        PodsNotCreated: "The cluster does not accept the pods." => "See the message: an admission controller or a missing ServiceAccount, mostly.",
        ImageNotFound: "An image does not exist under that name." => "Correct the image in the InferenceEngine, or push it.",
        ImagePullUnauthorized: "The registry does not give the image without other credentials." => "Put a Secret for the registry into the namespace and name it in `spec.pod.imagePullSecrets`.",
        ImagePullFailed: "An image cannot be pulled." => "See that the node reaches the registry and trusts its certificate.",
        VolumeFailed: "A volume of the pod cannot be mounted." => "See the message: a Secret or a claim that is missing, or a volume that another node has.",
        ContainerNotStarted: "The node cannot start a container." => "See the message: mostly a program that the image does not have, or the node's network.",
        FetchFailed: "The weights could not be fetched; it is tried again." => "Wait; if it lasts, see that the node reaches the source.",
        DownloadStalled: "No byte has come for a while." => "See that the node reaches the source, and that the source is well.",
        DiskFull: "The node has no room for the weights." => "Give the node more disk, choose a smaller model, or cache it in a claim.",
        OutOfMemory: "The engine needed more memory than its container may have." => "Let the container have what the message names, take a smaller quantisation, or a shorter context.",
        DeviceOutOfMemory: "The model does not fit into the accelerator's memory." => "Ask for more accelerators, take a smaller quantisation, or set `spec.engine.contextLength` to less.",
        ContextTooLong: "The context is longer than the model or the memory allows." => "Set `spec.engine.contextLength` to what the message names or less.",
        UnknownArchitecture: "The engine does not know this kind of model." => "Give the engine a newer image, or name another engine.",
        ArgumentRejected: "The engine does not take one of its arguments." => "Correct `spec.engine.args`, or the args of the InferenceEngine.",
        WeightsDamaged: "The engine finds that a file of the model is damaged or incomplete." => "The bytes are the ones that were judged: choose another revision or file, and tell the owner of the repository.",
        EngineFailed: "The engine stopped." => "Read the lines that the message shows, and the log: `kubectl logs --previous`.",
        CrashLooping: "The engine stops again and again." => "Read the lines that the message shows, and the log: `kubectl logs --previous`.",
        ProbeFailing: "The engine runs and does not become ready." => "Read the engine's log; when it only needs longer, raise `probes.startTimeoutSeconds` of its InferenceEngine.",
        AnswerFailing: "The engine says that it is ready, and does not answer a request." => "Read the engine's log: what it answers instead stands in the message.",
        Unreachable: "The operator cannot reach the pod." => "Let the operator's namespace reach the pod: a NetworkPolicy or a service mesh, mostly.",
        NodeLost: "The node does not report any more." => "Bring the node back, or delete it.",
        Preempted: "A pod of higher priority took the place." => "Free room, or give the pods a higher priority.",
        Evicted: "The node or somebody sent the pod away." => "Wait for the replacement; when the node was short of something, see the message.",
        RevisionTooOld: "A policy wants more to be looked at than the release of Bonafide can that made the revision." => "Change the model, engine, resources or pod in the spec, so that a new revision is made.",
        NotVouched: "The pod is not what Bonafide wrote." => "Delete the pod; if it comes back the same, find out what in the cluster changes pods.",
        RolloutFailed: "The new revision did not answer in time; the old one goes on serving." => "Mend the cause that the message names. A change of model, engine, resources or pod in the spec tries again; where something else was to blame, or `rollout` was changed, `bonafide rollout retry NAME` does.",
    }
    "Ourselves." {
        CrdOutdated: "The CustomResourceDefinitions in the cluster are older than this version of Bonafide." => "Apply the CustomResourceDefinitions of this version: `bonafide crd | kubectl apply --server-side -f -`.",
        ApiError: "The API server did not do its part; it is asked again." => "Wait; if it lasts, see the API server.",
        InternalError: "Bonafide made a mistake." => "Tell us, with the operator's log.",
    }
}

impl Reason {
    /// The reason that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().flat_map(|(_, reasons)| reasons.iter().copied()).find(|reason| reason.as_str() == name)
    }

    /// The reasons that are about pods: those that an engine's messages can have.
    pub fn of_pods() -> impl Iterator<Item = Self> {
        Self::ALL.iter().filter(|(group, _)| *group == "Pods.").flat_map(|(_, reasons)| reasons.iter().copied())
    }

    /// Whether it says that a source could not be asked, or what it answered.
    pub fn is_of_source(self) -> bool {
        Self::ALL.iter().any(|(group, reasons)| *group == "The source." && reasons.contains(&self))
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
