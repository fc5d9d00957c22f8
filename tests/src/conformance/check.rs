//! What is wrong with the list, as far as the sources tell.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources::{Families, Sources};
use super::{Requirement, Standing, requirements};

/// What is wrong with the list, one sentence each; nothing if it is as it must be.
#[must_use]
pub fn faults(root: &Path, sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for requirement in requirements() {
        let id = requirement.id;
        if !ids.insert(id) {
            faults.push(format!("{id}: there are two"));
        }
        faults.extend(faults_of(root, sources, requirement).map(|fault| format!("{id}: {fault}")));
    }
    faults
}

fn faults_of(
    root: &Path,
    sources: &Sources,
    requirement: &Requirement,
) -> impl Iterator<Item = String> {
    let Requirement {
        tests,
        families,
        standing,
        ..
    } = *requirement;
    let mut faults = Vec::new();
    if tests.is_empty() {
        faults.push("no test shows it".to_owned());
    }
    let mut shown = Families::NEITHER;
    for name in tests {
        match sources.find(name) {
            Some(test) => shown = shown | test.families,
            None => faults.push(format!(
                "there is no test {name}; alike: {:?}",
                sources.alike(name)
            )),
        }
    }
    if !shown.contains(families) {
        faults.push(format!(
            "is about {families:?}, its tests go through {shown:?}"
        ));
    }
    if let Standing::Departs { decision, .. } = standing
        && !root.join("docs/adr").join(decision).is_file()
    {
        faults.push(format!("there is no docs/adr/{decision}"));
    }
    faults.into_iter()
}
