//! Why something is as it is: one closed vocabulary for conditions, Events and metrics.

use std::fmt;

/// The CamelCase reason of a condition. The same value labels the Event and the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named by what it says; the sentence beside it is the message")]
pub enum Reason {
    // Things are as they should be.
    Accepted,
    Resolved,
    Signed,
    Pinned,
    Verified,
    Available,
    Ready,
    Idle,
    UpToDate,
    // Things are under way.
    Pending,
    Gated,
    Scheduling,
    PullingImage,
    Fetching,
    Loading,
    Vouching,
    // The object itself cannot work.
    InvalidSpec,
    UnknownEngine,
    NoEngine,
    UnsupportedFormat,
    AmbiguousFiles,
    NoFiles,
    TooManyFiles,
    ArgumentNotAllowed,
    EnvironmentNotAllowed,
    AcceleratorNotSupported,
    NameTaken,
    // The source.
    RepositoryNotFound,
    RevisionNotFound,
    RepositoryRenamed,
    AccessDenied,
    GatedRepository,
    SecretNotFound,
    SecretInvalid,
    HostNotAllowed,
    SourceUnavailable,
    SourceInvalid,
    // Trust.
    NoPolicy,
    DefaultDeny,
    PolicyNotAccepted,
    PolicyUnreadable,
    NoMatchingRule,
    Unsigned,
    SignatureInvalid,
    SignatureMalformed,
    SignatureUnsupported,
    WrongSigner,
    SignedFileMissing,
    UnsignedFile,
    DigestMismatch,
    PinMismatch,
    Denied,
    // Policies.
    InvalidKey,
    InvalidPattern,
    InvalidDigest,
    UnknownSigner,
    // Pods.
    Unschedulable,
    ImagePullFailed,
    FetchFailed,
    DiskFull,
    EngineFailed,
    NotVouched,
    QuotaExceeded,
    // Ourselves.
    ApiError,
    InternalError,
}

impl Reason {
    /// The text that stands in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Resolved => "Resolved",
            Self::Signed => "Signed",
            Self::Pinned => "Pinned",
            Self::Verified => "Verified",
            Self::Available => "Available",
            Self::Ready => "Ready",
            Self::Idle => "Idle",
            Self::UpToDate => "UpToDate",
            Self::Pending => "Pending",
            Self::Gated => "Gated",
            Self::Scheduling => "Scheduling",
            Self::PullingImage => "PullingImage",
            Self::Fetching => "Fetching",
            Self::Loading => "Loading",
            Self::Vouching => "Vouching",
            Self::InvalidSpec => "InvalidSpec",
            Self::UnknownEngine => "UnknownEngine",
            Self::NoEngine => "NoEngine",
            Self::UnsupportedFormat => "UnsupportedFormat",
            Self::AmbiguousFiles => "AmbiguousFiles",
            Self::NoFiles => "NoFiles",
            Self::TooManyFiles => "TooManyFiles",
            Self::ArgumentNotAllowed => "ArgumentNotAllowed",
            Self::EnvironmentNotAllowed => "EnvironmentNotAllowed",
            Self::AcceleratorNotSupported => "AcceleratorNotSupported",
            Self::NameTaken => "NameTaken",
            Self::RepositoryNotFound => "RepositoryNotFound",
            Self::RevisionNotFound => "RevisionNotFound",
            Self::RepositoryRenamed => "RepositoryRenamed",
            Self::AccessDenied => "AccessDenied",
            Self::GatedRepository => "GatedRepository",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretInvalid => "SecretInvalid",
            Self::HostNotAllowed => "HostNotAllowed",
            Self::SourceUnavailable => "SourceUnavailable",
            Self::SourceInvalid => "SourceInvalid",
            Self::NoPolicy => "NoPolicy",
            Self::DefaultDeny => "DefaultDeny",
            Self::PolicyNotAccepted => "PolicyNotAccepted",
            Self::PolicyUnreadable => "PolicyUnreadable",
            Self::NoMatchingRule => "NoMatchingRule",
            Self::Unsigned => "Unsigned",
            Self::SignatureInvalid => "SignatureInvalid",
            Self::SignatureMalformed => "SignatureMalformed",
            Self::SignatureUnsupported => "SignatureUnsupported",
            Self::WrongSigner => "WrongSigner",
            Self::SignedFileMissing => "SignedFileMissing",
            Self::UnsignedFile => "UnsignedFile",
            Self::DigestMismatch => "DigestMismatch",
            Self::PinMismatch => "PinMismatch",
            Self::Denied => "Denied",
            Self::InvalidKey => "InvalidKey",
            Self::InvalidPattern => "InvalidPattern",
            Self::InvalidDigest => "InvalidDigest",
            Self::UnknownSigner => "UnknownSigner",
            Self::Unschedulable => "Unschedulable",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::FetchFailed => "FetchFailed",
            Self::DiskFull => "DiskFull",
            Self::EngineFailed => "EngineFailed",
            Self::NotVouched => "NotVouched",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::ApiError => "ApiError",
            Self::InternalError => "InternalError",
        }
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
