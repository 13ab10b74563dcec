//! The sentences of a refusal: what, where, expected and found, what happened, what to do.

use std::collections::BTreeSet;

use super::{
    evidence::{Clue, Failure, Gap},
    method::{Anchor, key::PublicKey},
    policy::{Banned, Demand, Deny, Policy, PolicyState, Rule},
    question::Candidate,
};
use crate::{
    api::{Mode, Problem, Reason},
    model::{CleanPath, Digest, RemoteCode, Source},
};

/// Stands in what is said of a model that is served although a policy warns of it.
pub const WARNED: &str = "It is served all the same, because the policy only warns (mode Warn).";

/// `hf://acme/smollm2@12fd25f`
pub(super) fn place(candidate: &Candidate<'_>) -> String {
    let revision = candidate.revision;
    let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    format!("{}@{}", candidate.source, if is_commit { revision.get(..7).unwrap_or(revision) } else { revision })
}

pub(super) fn default_deny() -> Problem {
    Problem::new(
        Reason::DefaultDeny,
        "No policy says what may be served in this namespace, and the cluster's default is to refuse (policy.default: Deny). Ask an administrator for a ClusterModelPolicy whose namespaceSelector matches the namespace and whose rules match the source. One that only denies, or only restricts formats or engines, does not count.",
    )
}

pub(super) fn broken(state: &PolicyState, readable: bool, problem: &Problem) -> Problem {
    let name = state.name();
    let why = problem.message.trim_end_matches('.');
    if readable {
        let message = format!(
            "ClusterModelPolicy {name} selects this namespace and cannot be applied: {why}. Nothing new is served here until it is corrected."
        );
        Problem::new(Reason::PolicyNotAccepted, message)
    } else {
        let message = format!(
            "ClusterModelPolicy {name} cannot be read, so that nobody knows for which namespaces it is: {why}. Nothing new is served in any namespace until it is corrected or deleted."
        );
        Problem::new(Reason::PolicyUnreadable, message)
    }
}

pub(super) fn no_matching_rule(policy: &Policy, source: &Source) -> Problem {
    const SHOWN: usize = 4;
    let patterns: Vec<&str> = policy.rules.iter().flat_map(Rule::patterns).collect();
    let known = match patterns.get(..SHOWN) {
        _ if patterns.is_empty() => "it has no rule at all".to_owned(),
        Some(first) if patterns.len() > SHOWN => {
            format!("its rules are for {} and {} more", first.join(", "), patterns.len() - SHOWN)
        }
        _ => format!("its rules are for {}", patterns.join(", ")),
    };
    let name = &policy.name;
    Problem::new(
        Reason::NoMatchingRule,
        format!(
            "No rule of ClusterModelPolicy {name} is for {source}: {known}. No new replica serves it. Choose a source that a rule is for, or ask for a rule whose sources.include matches this one."
        ),
    )
}

pub(super) fn in_place(policy: &Policy, source: &Source) -> Problem {
    let name = &policy.name;
    Problem::new(
        Reason::AssuranceTooLow,
        format!(
            "{source} would be read in a claim that others may write to after the files were verified, and ClusterModelPolicy {name} wants them copied to a place of the pod's own (minimumAssurance: Copied). No new replica serves it. Use a source that is fetched, without spec.model.cache, or ask for minimumAssurance: InPlace."
        ),
    )
}

pub(super) fn denied(policy: &Policy, deny: &Deny, banned: Banned<'_>, candidate: &Candidate<'_>) -> Problem {
    let place = place(candidate);
    let what = match banned {
        Banned::File(file) => format!("{}: {place} has {}, which", file.path, file.sha256),
        Banned::Source => return denied_source(policy, deny, candidate.source),
        Banned::Revision => format!("{place} is a revision which"),
    };
    denied_because(&what, policy, deny, "Choose another revision with spec.model.revision, or another model.")
}

pub(super) fn denied_source(policy: &Policy, deny: &Deny, source: &Source) -> Problem {
    denied_because(&format!("{source} is a source which"), policy, deny, "Choose another model.")
}

fn denied_because(what: &str, policy: &Policy, deny: &Deny, next: &str) -> Problem {
    let reason = if deny.reason.is_empty() { String::new() } else { format!(": {}", deny.reason.trim_end_matches('.')) };
    let (name, entry) = (&policy.name, &deny.name);
    let message = format!(
        "{what} ClusterModelPolicy {name} denies (deny[{entry}]){reason}. No new replica serves it, whoever signed it. {next}"
    );
    Problem::new(Reason::Denied, message)
}

/// That a rule names contents, and this is none of them.
pub(super) fn not_listed(policy: &Policy, rule: &Rule, found: Digest, candidate: &Candidate<'_>) -> Problem {
    const SHOWN: usize = 2;
    let listed: Vec<String> = rule.digests.iter().take(SHOWN).map(Digest::to_string).collect();
    let more = rule.digests.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Problem::new(
        Reason::ContentNotListed,
        format!(
            "What {} would serve has content digest {found}, and rule {} of ClusterModelPolicy {} takes only {}{more}. No new replica serves it. Set spec.model.revision (and spec.model.files) to what was accepted, or ask for this digest to be added to the rule.",
            place(candidate),
            rule.name,
            policy.name,
            listed.join(", "),
        ),
    )
}

pub(super) fn format_not_allowed(policy: &Policy, path: &CleanPath, more: usize, candidate: &Candidate<'_>) -> Problem {
    let formats: Vec<String> = policy.formats.iter().map(ToString::to_string).collect();
    Problem::new(
        Reason::FormatNotAllowed,
        format!(
            "{path}: {} would serve it{}, and ClusterModelPolicy {} allows weights only as {} (formats), with configuration, tokenizers, templates and texts beside them. No new replica serves it. Leave it out with spec.model.files, or choose a model with such weights.",
            place(candidate),
            others(more, "is of no such format either", "are of no such format either"),
            policy.name,
            formats.join(" or "),
        ),
    )
}

pub(super) fn code_denied(policy: &Policy, path: &CleanPath, candidate: &Candidate<'_>) -> Problem {
    let why = match policy.remote_code {
        RemoteCode::Deny => "lets no code through (remoteCode: Deny)",
        RemoteCode::AllowIfSigned => {
            "lets code through only where a rule's signatures cover it (remoteCode: AllowIfSigned), and none does"
        }
    };
    Problem::new(
        Reason::RemoteCodeDenied,
        format!(
            "{path}: {} would serve it, it is code, and ClusterModelPolicy {} {why}. No new replica serves it. Leave it out with spec.model.files if the engine does not need it, or choose a model that brings no code.",
            place(candidate),
            policy.name,
        ),
    )
}

pub(super) fn engine_not_allowed(policy: &Policy, image: &str, candidate: &Candidate<'_>) -> Problem {
    let why =
        if image.contains('@') { "which is none of them" } else { "which has no digest, so that nobody can say what it is" };
    let count = policy.images.as_ref().map_or(0, BTreeSet::len);
    Problem::new(
        Reason::EngineNotAllowed,
        format!(
            "{} would be served by {image}, {why}: ClusterModelPolicy {} allows {count} {} (engines.images). No new replica serves it. Name another engine in spec.engine.name, have an administrator write the image of the InferenceEngine with an allowed digest, or ask for the image to be added to the policy.",
            place(candidate),
            policy.name,
            if count == 1 { "image" } else { "images" },
        ),
    )
}

pub(super) fn pin_mismatch(pin: Digest, found: Digest, candidate: &Candidate<'_>) -> Problem {
    Problem::new(
        Reason::PinMismatch,
        format!(
            "spec.model.digest pins {pin}, but what {} would serve has {found}. No new replica serves it. If the content found is wanted, set spec.model.digest to {found}; if not, set spec.model.revision (and spec.model.files) back to what was pinned.",
            place(candidate),
        ),
    )
}

/// A demand that is not met: `missing` are its signers that do not vouch, `signed` those that do.
pub(super) struct Unmet<'a> {
    pub policy: &'a Policy,
    pub rule: &'a Rule,
    pub demand: &'a Demand,
    pub signed: Vec<&'a str>,
    pub missing: Vec<&'a str>,
    /// Of the one in `missing` that came nearest, and how.
    pub nearest: &'a str,
    pub failure: Failure,
    /// Whether a failure of one of `missing` is of a kind that no mode passes over.
    pub grave: bool,
    /// Other signatures, which cannot be read.
    pub unreadable: Vec<String>,
}

impl Unmet<'_> {
    /// Whether the policy's mode lets the model be served all the same.
    pub fn is_passed_over(&self) -> bool {
        self.policy.mode != Mode::Enforce && !self.grave
    }

    /// What becomes of the model, in a sentence.
    fn fate(&self) -> &'static str {
        match self.policy.mode {
            Mode::Warn if !self.grave => WARNED,
            Mode::Audit if !self.grave => "It is served all the same, because the policy only records it (mode Audit).",
            _ => "No new replica serves it.",
        }
    }

    pub fn problem(&self, candidate: &Candidate<'_>) -> Problem {
        let policy = &self.policy.name;
        Problem::new(
            self.failure.reason(),
            format!(
                "{}{} ClusterModelPolicy {policy} demands {} (rule {}, signedBy {}).",
                self.detail(&place(candidate), candidate.manifest.files().len()),
                self.others(),
                self.demanded(),
                self.rule.name,
                self.demand.name
            ),
        )
    }

    /// The signatures that say nothing, since they cannot be read.
    fn others(&self) -> String {
        const SHOWN: usize = 3;
        let Self { unreadable, .. } = self;
        let more = unreadable.len().saturating_sub(SHOWN);
        let names = unreadable.get(..SHOWN.min(unreadable.len())).unwrap_or_default().join(", ");
        let names = if more > 0 { format!("{names} and {more} more") } else { names };
        match unreadable.len() {
            0 => String::new(),
            1 => format!(" 1 other could not be read: {names}."),
            count => format!(" {count} others could not be read: {names}."),
        }
    }

    fn demanded(&self) -> String {
        let all = self.demand.any_of.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>();
        let so_far = if self.signed.is_empty() { String::new() } else { format!(", of whom {} signed", self.signed.join(", ")) };
        match self.demand.minimum {
            1 => format!("a signature of {}", all.join(" or ")),
            minimum => format!("{minimum} signatures of {}{so_far}", all.join(", ")),
        }
    }

    fn detail(&self, place: &str, served: usize) -> String {
        let (nearest, fate) = (self.nearest, self.fate());
        match &self.failure {
            Failure::Unsigned => {
                format!(
                    "{place} has no signature. {fate} Have it signed, and put the signature beside the model as model.sig, or deliver it as a ModelSignature."
                )
            }
            Failure::SamePerson { people } => format!(
                "{place} is signed under every name that is asked for, but {} {} one person's: {people} different {} signed. {fate} Have it signed by somebody else too, with a key and a name of their own.",
                self.signed.join(" and "),
                if *people == 1 { "are" } else { "are partly" },
                if *people == 1 { "person" } else { "people" },
            ),
            Failure::Rejected { why, .. } if why.reason == Reason::WrongSigner && !self.signed.is_empty() => {
                format!("{place} is not signed by {}. {fate} Have it signed by them too.", self.missing.join(" or "))
            }
            Failure::Rejected { from, why, clue } if why.reason == Reason::WrongSigner => {
                let by = match clue {
                    Clue::Key(hint) => self.who(hint.as_deref()),
                    Clue::Told => why.message.clone(),
                };
                format!(
                    "{place} is signed, but not by {}: {from} {by}. {fate} Have it signed by somebody who is wanted, or ask for the signer to be added to the policy.",
                    self.missing.join(" or "),
                )
            }
            Failure::Rejected { from, why, .. } => format!("{from} of {place} {why}. {fate}"),
            Failure::Gap { gap: Gap::Differs { path, signed, found, more }, .. } => format!(
                "{path}: signed as sha256 {}, but {place} now has {}{}. {fate} If the new {} wanted, have {} signed again; if not, tell the repository's owner, or set spec.model.revision to what was signed.",
                signed.hex(),
                found.hex(),
                others(*more, "differs", "differ"),
                if *more == 0 { "file is" } else { "files are" },
                if *more == 0 { "it" } else { "them" },
            ),
            Failure::Gap { from, gap: Gap::Unlisted { path, more } } => format!(
                "{path}: {place} would serve it, but it is not among the files that {nearest} signed ({from}){}. {fate} Have the model signed again with it, or narrow spec.model.files to what is signed.",
                others(*more, "is not either", "are not either"),
            ),
            Failure::Gap { from, gap: Gap::LeftOut { path, more } } => format!(
                "{path}: {nearest} signed it ({from}), but {place} would be served without it{}, and the policy wants every signed file to be served (completeTree). {fate} Name it in spec.model.files too, or ask for a signature of the files that are served.",
                others(*more, "is left out too", "are left out too"),
            ),
            Failure::Gap { from, gap: Gap::OtherModel { listed, example } } => format!(
                "{from} is {nearest}'s signature of another model: it lists {listed} {}, such as {example}, and none of the {served} that {place} would serve. {fate} Have this model signed, and put its signature there.",
                if *listed == 1 { "file" } else { "files" },
            ),
            Failure::Gap { from, gap: Gap::OtherContent { approved, found } } => format!(
                "{from} is {nearest}'s approval of {approved}, and what {place} would serve has {found}. {fate} Have this content approved (bonafide approve {found} --key KEY.pem), or set spec.model.revision and spec.model.files to what was approved.",
            ),
            Failure::Gap { from, gap: Gap::Nameless } => format!(
                "{from} is {nearest}'s signature of one file, whose name it does not say, and {place} would serve {served} files. {fate} Have the whole directory signed.",
            ),
        }
    }

    /// Whose key a bundle names: a claim, but a good clue to a wrong rule.
    fn who(&self, hint: Option<&str>) -> String {
        let is_named =
            |anchor: &Anchor, hint: &str| anchor.key().map(PublicKey::hint).is_some_and(|known| known.as_str() == hint);
        let known = |hint: &str| self.policy.signers.iter().find(|(_, anchor)| is_named(anchor, hint)).map(|(name, _)| name);
        match hint {
            None => "names no key, and none of theirs fits".to_owned(),
            Some(hint) => known(hint).map_or_else(
                || format!("names key {}…, which no signer of the policy has", hint.chars().take(8).collect::<String>()),
                |name| format!("names the key of {name}"),
            ),
        }
    }
}

fn others(more: usize, one: &str, several: &str) -> String {
    match more {
        0 => String::new(),
        1 => format!(" (one more file {one})"),
        more => format!(" ({more} more files {several})"),
    }
}
