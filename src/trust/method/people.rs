//! How many different people signed: one person under two names of a policy counts once.

use std::collections::BTreeSet;

use super::{Mark, SignerId};

/// To how many signers a person of their own can be assigned. Of each signer it says who vouched under its name.
pub fn different(signers: &[Vec<SignerId>]) -> usize {
    let people = people(signers.iter().flatten());
    let choices: Vec<Vec<usize>> = signers
        .iter()
        .map(|ids| {
            let is_among = |person: &BTreeSet<Mark>| ids.iter().any(|id| !id.marks.is_disjoint(person));
            people.iter().enumerate().filter(|(_, person)| is_among(person)).map(|(index, _)| index).collect()
        })
        .collect();
    let mut taken = vec![None; people.len()];
    (0..choices.len()).filter(|signer| assign(*signer, &choices, &mut taken, &mut BTreeSet::new())).count()
}

/// What has a mark in common belongs to one person, also when a third one connects them.
fn people<'a>(ids: impl Iterator<Item = &'a SignerId>) -> Vec<BTreeSet<Mark>> {
    let mut people: Vec<BTreeSet<Mark>> = Vec::new();
    for id in ids {
        let (same, others): (Vec<_>, Vec<_>) = people.into_iter().partition(|person| !person.is_disjoint(&id.marks));
        people = others;
        people.push(same.into_iter().flatten().chain(id.marks.iter().cloned()).collect());
    }
    people
}

/// Finds a person for `signer`, for whom others may have to take somebody else.
fn assign(signer: usize, choices: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut BTreeSet<usize>) -> bool {
    for &person in choices.get(signer).into_iter().flatten() {
        if !tried.insert(person) {
            continue;
        }
        let holder = taken.get(person).copied().flatten();
        if holder.is_none_or(|holder| assign(holder, choices, taken, tried)) {
            if let Some(place) = taken.get_mut(person) {
                *place = Some(signer);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(names: &[&str]) -> SignerId {
        SignerId { marks: names.iter().map(|name| Mark::Name((*name).to_owned())).collect() }
    }

    #[test]
    fn one_person_under_several_names_counts_once() {
        let (ann, renewed) = (id(&["CN=ann", "first"]), id(&["CN=ann", "second"]));
        assert_eq!(different(&[vec![ann.clone()], vec![ann.clone()]]), 1);
        assert_eq!(different(&[vec![ann.clone()], vec![renewed]]), 1, "another key, the same name");
        let (key, link) = (id(&["third"]), id(&["CN=ann", "third"]));
        assert_eq!(different(&[vec![ann.clone()], vec![key.clone()]]), 2);
        assert_eq!(different(&[vec![ann], vec![key], vec![link]]), 1, "a third certificate shows that two are one");
    }

    #[test]
    fn a_name_that_several_people_sign_under_takes_whoever_is_left() {
        let (ann, bob) = (id(&["ann"]), id(&["bob"]));
        let team = vec![bob.clone(), ann.clone()];
        assert_eq!(different(&[team.clone(), vec![bob.clone()]]), 2);
        assert_eq!(different(&[vec![bob.clone()], team.clone()]), 2, "in any order");
        assert_eq!(different(&[vec![bob.clone()], vec![bob], team.clone(), team]), 2);
        assert_eq!(different(&[vec![], vec![ann]]), 1);
        assert_eq!(different(&[]), 0);
    }
}
