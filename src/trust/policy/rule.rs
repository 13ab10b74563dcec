//! What a policy demands of the sources that a rule names.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{self, Problem, Reason},
    model::{Digest, Glob},
    trust::method::Anchor,
};

/// What is demanded of the sources it matches.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Rule {
    pub name: String,
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    /// Who must have signed.
    pub demands: Vec<Demand>,
    /// The contents of which it must be one; empty: any.
    pub digests: BTreeSet<Digest>,
}

/// Signatures that must be there: of `minimum` different people among those of `any_of`.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Demand {
    pub name: String,
    pub any_of: Vec<Signer>,
    pub minimum: usize,
}

/// Somebody whose signature can be demanded.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Signer {
    pub name: String,
    pub anchor: Anchor,
}

impl Rule {
    pub(super) fn compile(rule: &api::PolicyRule, signers: &BTreeMap<String, Anchor>) -> Result<Self, Problem> {
        let at = format!("spec.rules[{}]", rule.name);
        if rule.sources.include.is_empty() {
            return Err(Problem::new(
                Reason::InvalidSpec,
                format!("{at}.sources.include is empty: the rule would match nothing."),
            ));
        }
        if rule.signed_by.is_empty() && rule.digests.is_empty() {
            let message = format!("{at} has neither signedBy nor digests: the rule would demand nothing.");
            return Err(Problem::new(Reason::InvalidSpec, message));
        }
        Ok(Self {
            name: rule.name.clone(),
            include: globs(&rule.sources.include, &format!("{at}.sources.include"))?,
            exclude: globs(&rule.sources.exclude, &format!("{at}.sources.exclude"))?,
            digests: super::digests(&rule.digests, &format!("{at}.digests"))?,
            demands: rule.signed_by.iter().map(|demand| Demand::compile(demand, &at, signers)).collect::<Result<_, _>>()?,
        })
    }

    /// The patterns of the sources it is for, without the exceptions.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.include.iter().map(Glob::as_str)
    }

    pub(super) fn matches(&self, source: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(source));
        any(&self.include) && !any(&self.exclude)
    }
}

fn globs(patterns: &[String], at: &str) -> Result<Vec<Glob>, Problem> {
    patterns.iter().enumerate().map(|(index, pattern)| glob(pattern, &format!("{at}[{index}]"))).collect()
}

pub(super) fn glob(pattern: &str, at: &str) -> Result<Glob, Problem> {
    let wrong = |why: String| Problem::new(Reason::InvalidPattern, format!("{at}: {why}."));
    let glob = pattern.parse::<Glob>().map_err(|error| wrong(error.to_string()))?;
    if glob.could_match_a_source() { Ok(glob) } else { Err(wrong(no_source(pattern))) }
}

/// That a pattern can match nothing, and what was probably meant.
fn no_source(pattern: &str) -> String {
    let shown: String = pattern.chars().take(120).collect();
    let meant = format!("hf://{pattern}");
    let meant = Some(meant).filter(|meant| meant.parse::<Glob>().is_ok_and(|glob| glob.could_match_a_source()));
    let next = meant.map_or_else(
        || "write hf://OWNER/NAME, https://HOST/PATH or pvc://NAMESPACE/CLAIM/PATH, with * and ** as wildcards".to_owned(),
        |meant| format!("write {meant} if that is meant"),
    );
    format!("pattern {shown:?} can match no source; {next}")
}

impl Demand {
    fn compile(demand: &api::SignedBy, rule: &str, signers: &BTreeMap<String, Anchor>) -> Result<Self, Problem> {
        let at = format!("{rule}.signedBy[{}]", demand.name);
        let find = |name: &String| {
            signers.get(name).map(|anchor| Signer { name: name.clone(), anchor: anchor.clone() }).ok_or_else(|| {
                let known = signers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "has none".to_owned() } else { format!("has {known}") };
                Problem::new(Reason::UnknownSigner, format!("{at}.anyOf: there is no signer {name}; spec.signers {known}."))
            })
        };
        let any_of = demand.any_of.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let different = any_of.iter().map(|signer| signer.anchor.id()).collect::<BTreeSet<_>>().len();
        match usize::try_from(demand.minimum) {
            Ok(minimum @ 1..) if minimum <= different => Ok(Self { name: demand.name.clone(), any_of, minimum }),
            _ => Err(Problem::new(
                Reason::InvalidSpec,
                format!(
                    "{at}.minimum is {}, and anyOf names {different} different {}: minimum must be between 1 and that number.",
                    demand.minimum,
                    if different == 1 { "signer" } else { "signers" },
                ),
            )),
        }
    }
}
