//! What is asked: may this content be served?

use crate::{
    api::Assurance,
    model::{Digest, Manifest, Source},
};

/// The model to judge.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Where it comes from.
    pub source: &'a Source,
    /// The revision, for messages.
    pub revision: &'a str,
    /// The files that would be served.
    pub manifest: &'a Manifest,
    /// The signatures found with it: from where, and the content.
    pub bundles: &'a [(String, String)],
    /// The content that its ModelDeployment insists on.
    pub pin: Option<Digest>,
    /// Whether the bytes are verified on their way to the pod, or where they lie.
    pub assurance: Assurance,
    /// The image of the engine that would serve it; none where that is not the question.
    pub image: Option<&'a str>,
}
