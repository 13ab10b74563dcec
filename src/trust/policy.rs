//! Policies, checked once and then only asked: every key, pattern, name and digest in them can be used.

mod keyless;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

mod deny;
mod engine;
mod rule;

pub(super) use deny::{Banned, Deny};
pub(super) use engine::Image;
pub(super) use rule::{Demand, Rule};

use super::{
    method::{
        Anchor,
        certificate::{Authority, Roots},
        key::PublicKey,
        name::{Kind, Pattern, Wanted},
    },
    selector::Selector,
};
use crate::{
    api::{self, ClusterModelPolicy, Problem, Reason, SecretKeyRef, UnsignedFiles},
    model::{Digest, Format, RemoteCode, Source},
};

/// A policy that is complete and can be applied.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) name: String,
    pub(super) generation: i64,
    selector: Selector,
    pub(super) mode: api::Mode,
    pub(super) minimum_assurance: api::Assurance,
    pub(super) on_recall: api::OnRecall,
    pub(super) unmatched: api::Unmatched,
    pub(super) unsigned_files: UnsignedFiles,
    pub(super) complete_tree: bool,
    pub(super) remote_code: RemoteCode,
    /// The images of engines that may serve; none: any.
    pub(super) images: Option<BTreeSet<Image>>,
    /// The formats of weights that may be served; empty: any.
    pub(super) formats: BTreeSet<Format>,
    pub(super) signers: BTreeMap<String, Anchor>,
    pub(super) rules: Vec<Rule>,
    pub(super) deny: Vec<Deny>,
}

/// A policy as it stands in the cluster, in force or broken.
///
/// A broken one is not passed over: it refuses everything in the namespaces that it selects, because nobody can say what it
/// would have refused.
#[derive(Debug, Clone)]
pub enum PolicyState {
    /// In force.
    Accepted(Policy),
    /// It cannot be applied.
    Broken {
        /// Its name.
        name: String,
        /// Its generation, 0 when that could not be read either.
        generation: i64,
        /// Which namespaces it is for; none when that could not be read: then it is for every namespace.
        selector: Option<LabelSelector>,
        /// Why it cannot be applied.
        problem: Problem,
    },
}

impl Policy {
    /// Checks everything in `policy`. `secret` answers with the entry of a Secret in the operator's namespace.
    ///
    /// # Errors
    /// `InvalidKey`, `SecretNotFound`, `InvalidPattern` (also for one that can match nothing), `UnknownSigner`, `InvalidDigest`, and `InvalidSpec` for what could
    /// never hold. The message begins with the field's path.
    pub fn compile(policy: &ClusterModelPolicy, secret: &dyn Fn(&SecretKeyRef) -> Option<String>) -> Result<Self, Problem> {
        let spec = &policy.spec;
        let selector = Selector::compile(&spec.namespace_selector)
            .map_err(|error| Problem::new(Reason::InvalidSpec, format!("spec.namespaceSelector.{error}.")))?;
        let signers = signers(&spec.signers, secret)?;
        Ok(Self {
            name: policy.metadata.name.clone().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            selector,
            mode: spec.mode,
            minimum_assurance: spec.minimum_assurance,
            on_recall: spec.on_recall,
            unmatched: spec.unmatched,
            unsigned_files: spec.unsigned_files,
            complete_tree: spec.complete_tree,
            remote_code: spec.remote_code,
            images: spec.engines.as_ref().map(|engines| engine::images(&engines.images)).transpose()?,
            formats: spec.formats.iter().copied().collect(),
            rules: spec.rules.iter().map(|rule| Rule::compile(rule, &signers)).collect::<Result<_, _>>()?,
            deny: spec.deny.iter().map(Deny::compile).collect::<Result<_, _>>()?,
            signers,
        })
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The generation that was compiled.
    pub const fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether it is for a namespace with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }

    pub(super) fn matching<'a>(&'a self, source: &Source) -> impl Iterator<Item = &'a Rule> {
        let source = source.to_string();
        self.rules.iter().filter(move |rule| rule.matches(&source))
    }

    /// Whether it only takes away: a recall, or a restriction to formats or engines, which say of nothing that it may be served.
    pub(super) fn only_takes_away(&self) -> bool {
        let restricts = !self.deny.is_empty() || !self.formats.is_empty() || self.images.is_some();
        matches!(self.unmatched, api::Unmatched::Accept) && self.rules.is_empty() && restricts
    }
}

impl PolicyState {
    /// The state of `policy`: in force, or broken and why.
    pub fn of(policy: &ClusterModelPolicy, secret: &dyn Fn(&SecretKeyRef) -> Option<String>) -> Self {
        match Policy::compile(policy, secret) {
            Ok(accepted) => Self::Accepted(accepted),
            Err(problem) => Self::Broken {
                name: policy.metadata.name.clone().unwrap_or_default(),
                generation: policy.metadata.generation.unwrap_or_default(),
                selector: Some(policy.spec.namespace_selector.clone()),
                problem,
            },
        }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Accepted(policy) => policy.name(),
            Self::Broken { name, .. } => name,
        }
    }

    /// The policy's generation.
    pub const fn generation(&self) -> i64 {
        match self {
            Self::Accepted(policy) => policy.generation(),
            Self::Broken { generation, .. } => *generation,
        }
    }

    /// Whether it is for a namespace with these labels. A broken one whose selector cannot be read is for every namespace.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Accepted(policy) => policy.selects(labels),
            Self::Broken { selector, .. } => selector
                .as_ref()
                .and_then(|selector| Selector::compile(selector).ok())
                .is_none_or(|selector| selector.matches(labels)),
        }
    }
}

type Secret<'a> = &'a dyn Fn(&SecretKeyRef) -> Option<String>;

fn signers(signers: &[api::Signer], secret: Secret<'_>) -> Result<BTreeMap<String, Anchor>, Problem> {
    let mut known = BTreeMap::new();
    for signer in signers {
        let at = format!("spec.signers[{}]", signer.name);
        let anchor = match (&signer.public_key, &signer.certificate, &signer.keyless) {
            (Some(source), None, None) => {
                let read = |pem: &str| PublicKey::from_pem(pem).map_err(|error| error.to_string());
                let at = format!("{at}.publicKey");
                Anchor::Key(text(&at, ("pem", source.pem.as_deref()), source.secret_key_ref.as_ref(), secret, read)?)
            }
            (None, Some(signer), None) => Anchor::Certificate(authority(&format!("{at}.certificate"), signer, secret)?),
            (None, None, Some(signer)) => Anchor::Keyless(keyless::identity(&format!("{at}.keyless"), signer, secret)?),
            _ => return Err(invalid_key(&at, &"exactly one of publicKey, certificate and keyless is needed")),
        };
        if known.insert(signer.name.clone(), anchor).is_some() {
            return Err(Problem::new(Reason::InvalidSpec, format!("spec.signers: two signers are named {}.", signer.name)));
        }
    }
    Ok(known)
}

fn invalid_key(at: &str, what: &dyn std::fmt::Display) -> Problem {
    Problem::new(Reason::InvalidKey, format!("{at}: {what}."))
}

/// Reads what stands in a policy, or in a Secret that it names.
fn text<T>(
    at: &str,
    (field, inline): (&str, Option<&str>),
    reference: Option<&SecretKeyRef>,
    secret: Secret<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Problem> {
    match (inline, reference) {
        (Some(text), None) => read(text).map_err(|error| invalid_key(&format!("{at}.{field}"), &error)),
        (None, Some(reference)) => {
            let text = secret(reference).ok_or_else(|| {
                Problem::new(
                    Reason::SecretNotFound,
                    format!(
                        "{at}.secretKeyRef: there is no Secret {} with an entry {} in the operator's namespace. Create it, or correct the reference.",
                        reference.name, reference.key
                    ),
                )
            })?;
            read(&text).map_err(|error| invalid_key(&format!("{at}.secretKeyRef"), &error))
        }
        _ => Err(invalid_key(at, &format!("exactly one of {field} and secretKeyRef is needed"))),
    }
}

fn authority(at: &str, signer: &api::CertificateSigner, secret: Secret<'_>) -> Result<Authority, Problem> {
    let ca = &signer.ca;
    let roots = text(&format!("{at}.ca"), ("pem", ca.pem.as_deref()), ca.secret_key_ref.as_ref(), secret, Roots::from_pem)?;
    let san = match signer.san.as_ref().map(|san| (&san.email, &san.uri, &san.dns)) {
        None => None,
        Some((Some(email), None, None)) => Some((Kind::Email, pattern(email))),
        Some((None, Some(uri), None)) => Some((Kind::Uri, pattern(uri))),
        Some((None, None, Some(dns))) => Some((Kind::Dns, pattern(dns))),
        Some(_) => Some((Kind::Email, Err("exactly one of email, uri and dns is needed".to_owned()))),
    };
    let wanted = Wanted::new(signer.subject.as_ref().map(pattern), san)
        .map_err(|(field, why)| Problem::new(Reason::InvalidPattern, format!("{at}.{field}: {why}.")))?;
    Ok(Authority::new(roots, wanted))
}

fn pattern(wanted: &api::NamePattern) -> Result<Pattern, String> {
    match (&wanted.exact, &wanted.regex) {
        (Some(text), None) => Pattern::exact(text),
        (None, Some(text)) => Pattern::regex(text),
        _ => Err("exactly one of exact and regex is needed".to_owned()),
    }
}

/// Reads the digests of a field.
fn digests(texts: &[String], at: &str) -> Result<BTreeSet<Digest>, Problem> {
    let digest = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| Problem::new(Reason::InvalidDigest, format!("{at}[{index}]: {error}.")))
    };
    texts.iter().enumerate().map(digest).collect()
}
