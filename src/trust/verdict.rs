//! The verdict: whether a model may be served in a namespace, who vouches for it, and if not, why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;

use super::{
    evidence::{Evidence, Failure, Failures},
    formats,
    messages::{self, Unmet},
    method::people,
    policy::{Demand, Image, Policy, PolicyState, Rule},
    question::Candidate,
    recall::Recall,
};
use crate::{
    api::{Assurance, Mode, OnRecall, PolicyVerdict, Problem, Reason, Unmatched, UnsignedFiles},
    model::{Checks, Digest, RemoteCode, Source, code::is_code},
};

/// What becomes of a namespace for which no policy says what may be served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultStance {
    /// Anything intact may be served.
    #[default]
    Allow,
    /// Nothing may.
    Deny,
}

/// Every policy of the cluster, in force or broken.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// All of them: leaving a broken one out would serve what it refuses.
    pub policies: Vec<PolicyState>,
    /// The chart's `policy.default`.
    pub default: DefaultStance,
}

/// The policies that select one namespace, by name. Every one of them must accept.
#[derive(Debug, Clone)]
pub struct Applicable<'a> {
    policies: Vec<&'a PolicyState>,
    default: DefaultStance,
}

/// How far a model can be trusted: the column TRUST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Everybody whose signature is demanded has signed every file.
    Signed,
    /// Nobody demands a signature, and the content is the pinned one.
    Pinned,
    /// A signature that is demanded is missing, and the policy's mode lets the model be served all the same.
    Unsigned,
    /// It may not be served.
    Refused,
    /// Nobody demands anything: it is served as it is.
    Unknown,
}

/// What the policies say of one content in one namespace. Only [`Applicable::judge`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    digest: Digest,
    trust: Trust,
    reason: Reason,
    message: String,
    problem: Option<Problem>,
    warned: bool,
    signers: Vec<String>,
    per_policy: Vec<PolicyVerdict>,
    recall: Option<Recall>,
    holds_until: Option<Timestamp>,
    checks: Checks,
}

/// What one policy has to say for a model: who of its signers vouches, none when it demands nothing of this source.
struct Consent<'a> {
    signers: BTreeSet<&'a str>,
    /// Whether it demands signatures of this source.
    demanded: bool,
    /// Whether it pins what this source may be.
    pinned: bool,
    /// Which code it lets through; none: it does not speak of this source.
    code: Option<RemoteCode>,
    /// The first demand that is not met, where the policy's mode passes over it.
    lacking: Option<(Mode, Problem)>,
}

impl PolicySet {
    /// The policies for a namespace with these labels.
    pub fn for_namespace(&self, labels: &BTreeMap<String, String>) -> Applicable<'_> {
        let mut policies: Vec<_> = self.policies.iter().filter(|policy| policy.selects(labels)).collect();
        policies.sort_by_key(|policy| policy.name());
        Applicable { policies, default: self.default }
    }
}

impl<'a> Applicable<'a> {
    /// What is already certain before anything is asked of the network: no model of this source can be served.
    pub fn before_resolve(&self, source: &Source, assurance: Assurance) -> Result<(), Problem> {
        let mut problems = self.policies.iter().filter_map(|state| {
            let accepted = in_force(state);
            accepted.and_then(|policy| beforehand(policy, source, assurance)).err()
        });
        problems.next().or_else(|| self.default_problem()).map_or(Ok(()), Err)
    }

    /// Whether only files that a signature lists may be served, so that files are chosen among those.
    ///
    /// True when some policy demands signatures of this source, and every one that does leaves unsigned files out. Where one
    /// rejects them, the model's own choice of files is judged as it is.
    pub fn restricts_to_signed(&self, source: &Source) -> bool {
        let mut demanding = self
            .policies
            .iter()
            .filter_map(|state| in_force(state).ok())
            .filter(|policy| policy.matching(source).any(|rule| !rule.demands.is_empty()))
            .peekable();
        demanding.peek().is_some() && demanding.all(|policy| policy.unsigned_files == UnsignedFiles::Exclude)
    }

    /// Judges a model by every policy that selects the namespace, as of `now`: certificates begin and end.
    ///
    /// Every file of the manifest must be signed, with the digest it has. Files that were signed and are not in the manifest
    /// are not looked at, unless a policy wants the whole tree: they are not served. A signature says who vouches for these bytes
    /// under these names; it does not say from which repository they come (the subject's name is informational), nor that no newer
    /// ones exist: a rule's `digests` do.
    pub fn judge(&self, candidate: &Candidate<'_>, now: Timestamp) -> Verdict {
        let digest = candidate.manifest.digest();
        let mut evidence = Evidence::new(candidate, now);
        let mut problems: Vec<Problem> = self.default_problem().into_iter().collect();
        if let Some(pin) = candidate.pin.filter(|pin| *pin != digest) {
            problems.push(messages::pin_mismatch(pin, digest, candidate));
        }
        let mut per_policy = Vec::new();
        let mut signers = BTreeSet::new();
        let mut demanding = Vec::new();
        let mut demanded: BTreeSet<String> = BTreeSet::new();
        let mut pinning = Vec::new();
        let mut checks = Checks::default();
        let mut lacking: Vec<(Mode, Problem)> = Vec::new();
        let (others, mut recall) = (problems.len(), None);
        for state in &self.policies {
            let opinion = in_force(state).and_then(|policy| consent(policy, candidate, &mut evidence));
            per_policy.push(policy_verdict(state, &opinion));
            match opinion {
                Ok(consent) => {
                    signers.extend(consent.signers.iter().map(|name| (*name).to_owned()));
                    checks.remote_code = checks.remote_code.into_iter().chain(consent.code).min();
                    if consent.pinned {
                        pinning.push(state.name());
                    }
                    match consent.lacking {
                        Some(found) => lacking.push(found),
                        None if consent.demanded => {
                            demanded.extend(consent.signers.iter().map(|name| (*name).to_owned()));
                            demanding.push(state.name());
                        }
                        None => {}
                    }
                }
                Err(problem) => {
                    Recall::add(&mut recall, state);
                    problems.push(problem);
                }
            }
        }
        if others > 0 {
            Recall::add_another(&mut recall);
        }
        let problem = problems.into_iter().min_by_key(|problem| urgency(problem.reason));
        // What is only to be recorded takes nothing away from a model that others have signed.
        let warned = lacking.iter().any(|(mode, _)| *mode == Mode::Warn);
        let counts = |mode| mode == Mode::Warn || (!warned && demanding.is_empty());
        let unsigned = lacking.into_iter().find(|(mode, _)| counts(*mode)).map(|(_, problem)| problem);
        let (trust, reason, message) = match (&problem, unsigned) {
            (Some(problem), _) => (Trust::Refused, problem.reason, problem.message.clone()),
            (None, Some(lacking)) => (Trust::Unsigned, lacking.reason, lacking.message),
            (None, None) if !demanding.is_empty() => {
                let who = demanded.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let verb = if demanding.len() == 1 { "demands" } else { "demand" };
                (Trust::Signed, Reason::Signed, format!("Signed by {who}, as {} {verb}.", demanding.join(" and ")))
            }
            (None, None) if !pinning.is_empty() => {
                let verb = if pinning.len() == 1 { "names" } else { "name" };
                let message = format!("The content is one that {} {verb} by its digest.", pinning.join(" and "));
                (Trust::Pinned, Reason::Pinned, message)
            }
            (None, None) if candidate.pin.is_some() => {
                (Trust::Pinned, Reason::Pinned, "The content is the one that spec.model.digest pins.".to_owned())
            }
            (None, None) => (
                Trust::Unknown,
                Reason::NoPolicy,
                "No policy demands a signature of this model. It may be served as found; the digests of its files are recorded."
                    .to_owned(),
            ),
        };
        let signers = signers.into_iter().collect();
        let holds_until = evidence.holds_until();
        checks.formats = self.policies.iter().any(|state| in_force(state).is_ok_and(|policy| !policy.formats.is_empty()));
        Verdict { digest, trust, reason, message, problem, warned, signers, per_policy, recall, holds_until, checks }
    }

    /// A policy that only takes away grants nothing, so a recall does not open what the default keeps closed.
    fn default_problem(&self) -> Option<Problem> {
        let granting = self.policies.iter().any(|state| in_force(state).is_ok_and(|policy| !policy.only_takes_away()));
        (self.default == DefaultStance::Deny && !granting).then(messages::default_deny)
    }
}

fn beforehand(policy: &Policy, source: &Source, assurance: Assurance) -> Result<(), Problem> {
    match policy.deny.iter().find(|deny| deny.bans_all_of(source)) {
        Some(deny) => Err(messages::denied_source(policy, deny, source)),
        None => matching_rules(policy, source, assurance).map(|_| ()),
    }
}

fn in_force(state: &PolicyState) -> Result<&Policy, Problem> {
    match state {
        PolicyState::Accepted(policy) => Ok(policy),
        PolicyState::Broken { selector, problem, .. } => Err(messages::broken(state, selector.is_some(), problem)),
    }
}

/// The rules for `source`; a problem when there is none and the policy refuses what no rule matches, or when it wants the bytes
/// to be copied and they are not.
fn matching_rules<'a>(policy: &'a Policy, source: &Source, assurance: Assurance) -> Result<Vec<&'a Rule>, Problem> {
    let rules: Vec<_> = policy.matching(source).collect();
    if !rules.is_empty() && (policy.minimum_assurance, assurance) == (Assurance::Copied, Assurance::InPlace) {
        return Err(messages::in_place(policy, source));
    }
    if rules.is_empty() && policy.unmatched == Unmatched::Refuse {
        return Err(messages::no_matching_rule(policy, source));
    }
    Ok(rules)
}

fn consent<'a>(policy: &'a Policy, candidate: &Candidate<'_>, evidence: &mut Evidence<'_>) -> Result<Consent<'a>, Problem> {
    for deny in &policy.deny {
        if let Some(banned) = deny.bans(candidate.source, candidate.revision, candidate.manifest) {
            return Err(messages::denied(policy, deny, banned, candidate));
        }
    }
    formats::check(policy, candidate)?;
    if let (Some(images), Some(image)) = (&policy.images, candidate.image)
        && !Image::read(image).is_some_and(|image| images.contains(&image))
    {
        return Err(messages::engine_not_allowed(policy, image, candidate));
    }
    let rules = matching_rules(policy, candidate.source, candidate.assurance)?;
    let mut consent = Consent { signers: BTreeSet::new(), demanded: false, pinned: false, code: None, lacking: None };
    let content = candidate.manifest.digest();
    let rules_matched = !rules.is_empty();
    for rule in rules {
        if !rule.digests.is_empty() {
            if !rule.digests.contains(&content) {
                return Err(messages::not_listed(policy, rule, content, candidate));
            }
            consent.pinned = true;
        }
        consent.demanded |= !rule.demands.is_empty();
        for demand in &rule.demands {
            match meet(policy, rule, demand, evidence) {
                Ok(signers) => consent.signers.extend(signers),
                Err(unmet) if unmet.is_passed_over() => {
                    consent.signers.extend(&unmet.signed);
                    consent.lacking.get_or_insert_with(|| (policy.mode, unmet.problem(candidate)));
                }
                Err(unmet) => return Err(unmet.problem(candidate)),
            }
        }
    }
    if rules_matched {
        let is_signed = consent.demanded && consent.lacking.is_none();
        let code = if is_signed { policy.remote_code } else { RemoteCode::Deny };
        if code == RemoteCode::Deny
            && let Some(file) = candidate.manifest.files().iter().find(|file| is_code(file.path.as_str()))
        {
            return Err(messages::code_denied(policy, &file.path, candidate));
        }
        consent.code = Some(code);
    }
    Ok(consent)
}

/// The signers of `demand` that vouch for the model. What is demanded is different people, who may
/// have several names in a policy.
fn meet<'a>(
    policy: &'a Policy,
    rule: &'a Rule,
    demand: &'a Demand,
    evidence: &mut Evidence<'_>,
) -> Result<Vec<&'a str>, Box<Unmet<'a>>> {
    let mut people = Vec::new();
    let mut signed = Vec::new();
    let mut failures = Vec::new();
    for signer in &demand.any_of {
        match evidence.vouches(&signer.anchor, policy.complete_tree) {
            Ok(ids) => {
                people.push(ids);
                signed.push(signer.name.as_str());
            }
            Err(failure) => failures.push((signer.name.as_str(), failure)),
        }
    }
    let missing = failures.iter().map(|(name, _): &(&str, Box<Failures>)| *name).collect();
    let grave = failures.iter().any(|(_, failures)| failures.grave.is_some());
    // A mode that passes over what is missing tells what it does not pass over.
    let told = |failures: Failures| match failures.grave {
        Some(grave) if policy.mode != Mode::Enforce => grave,
        _ => failures.nearest,
    };
    let failures = failures.into_iter().map(|(name, failures)| (name, told(*failures)));
    let nearest = failures.rev().max_by_key(|(_, failure)| failure.helps());
    let people = people::different(&people);
    // Where everybody vouches and there are too few all the same, several names are one person's.
    let same = || Some((*signed.first()?, Failure::SamePerson { people }));
    match nearest.or_else(same) {
        Some((nearest, failure)) if people < demand.minimum => {
            let mut unreadable = evidence.unreadable();
            unreadable.retain(|from| failure.from() != Some(from.as_str()));
            Err(Box::new(Unmet { policy, rule, demand, signed, missing, nearest, failure, grave, unreadable }))
        }
        _ => Ok(signed),
    }
}

fn policy_verdict(state: &PolicyState, opinion: &Result<Consent<'_>, Problem>) -> PolicyVerdict {
    let names = |consent: &Consent<'_>| consent.signers.iter().map(|name| (*name).to_owned()).collect();
    let (result, reason, message, signers) = match opinion {
        Ok(consent) => match &consent.lacking {
            None => ("Trusted", String::new(), String::new(), names(consent)),
            Some((_, problem)) => ("Unsigned", problem.reason.to_string(), problem.message.clone(), names(consent)),
        },
        Err(problem) => ("Refused", problem.reason.to_string(), problem.message.clone(), Vec::new()),
    };
    PolicyVerdict {
        kind: "ClusterModelPolicy".to_owned(),
        name: state.name().to_owned(),
        generation: state.generation(),
        result: result.to_owned(),
        reason,
        message,
        signers,
    }
}

/// Of several problems, which one a person should hear of: a recall above all, then what no signature could mend.
const fn urgency(reason: Reason) -> u8 {
    match reason {
        Reason::Denied => 0,
        Reason::PolicyNotAccepted | Reason::PolicyUnreadable => 1,
        Reason::PinMismatch => 2,
        Reason::DefaultDeny => 3,
        _ => 4,
    }
}

impl Verdict {
    /// The content digest of what was judged: the verdict is about nothing else.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How far the model can be trusted.
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether it may be served.
    pub fn may_serve(&self) -> bool {
        self.trust != Trust::Refused
    }

    /// What has to be looked at where the bytes are, beside their digests, before they are mounted.
    pub const fn checks(&self) -> Checks {
        self.checks
    }

    /// Whether a policy with `mode: Warn` lacks a signature: people are to hear of it.
    pub const fn is_warned_of(&self) -> bool {
        self.warned
    }

    /// The reason for the condition `Trusted`: that of [`Verdict::problem`], that of what is lacking where the model is served all
    /// the same, or `Signed`, `Pinned` or `NoPolicy`.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The sentence for people that belongs to [`Verdict::reason`].
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why it may not be served.
    pub const fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// What the policies that refuse it say of replicas that run; `None` unless a policy refuses it.
    pub const fn recall(&self) -> Option<&Recall> {
        self.recall.as_ref()
    }

    /// What becomes of replicas that run; `None` unless a policy refuses it.
    pub fn on_recall(&self) -> Option<OnRecall> {
        self.recall.as_ref().map(|recall| recall.on)
    }

    /// The names of the signers that are demanded and vouch for it, over all policies.
    pub fn signers(&self) -> &[String] {
        &self.signers
    }

    /// When time alone may change it: the next moment at which a certificate that was looked at begins or ends. `None`: never.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        self.holds_until
    }

    /// What each policy says, by the policies' names.
    pub fn per_policy(&self) -> Vec<PolicyVerdict> {
        self.per_policy.clone()
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed => "Signed",
            Self::Pinned => "Pinned",
            Self::Unsigned => "Unsigned",
            Self::Refused => "Refused",
            Self::Unknown => "Unknown",
        })
    }
}
