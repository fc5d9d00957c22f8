use super::memory::InMemory;
use super::probe;
use super::wrong::{Dead, Temper, Wrong};
use super::*;

fn all() -> Vec<&'static Probe> {
    probe::all().chain(probe::SLOW).collect()
}

/// Probe and family of those that a translator fails, and why.
fn failures(medium: &mut dyn Medium) -> Vec<(&'static str, &'static str, String)> {
    let findings = look_at(medium, "it", &all()).unwrap();
    assert_eq!(findings.len(), 2 * all().len());
    findings
        .into_iter()
        .filter(Finding::is_failure)
        .map(|finding| {
            let why = finding.verdict.detail().to_owned();
            (finding.probe, finding.family, why)
        })
        .collect()
}

#[test]
fn heddle_passes_every_probe_in_memory() {
    let failed = failures(&mut InMemory::new());
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_probe_finds_a_translator_wrong_that_is() {
    let careless = failures(&mut Wrong::new(Temper::Careless));
    let stingy = failures(&mut Wrong::new(Temper::Stingy));
    for probe in all() {
        for family in ["IPv4", "IPv6"] {
            let is_it =
                |(name, of, _): &&(&str, &str, String)| (*name, *of) == (probe.name, family);
            let found = careless.iter().chain(&stingy).find(is_it);
            // Nobody may cut IPv6 packets.
            let exempt = (probe.name, family) == ("cut", "IPv6");
            assert_eq!(found.is_none(), exempt, "{} of {family}", probe.name);
        }
    }
    // It is wrong, not dead: a probe that it fails only because nothing comes any more says nothing.
    for (probe, family, why) in careless.iter().chain(&stingy) {
        assert!(!why.contains("any more"), "{probe} of {family}: {why}");
    }
}

#[test]
fn a_hub_fails_what_is_about_neighbours() {
    let failed = failures(&mut Wrong::new(Temper::Careless));
    for probe in all()
        .iter()
        .filter(|probe| probe.name.starts_with("spoofed-"))
    {
        let times = failed
            .iter()
            .filter(|(name, ..)| *name == probe.name)
            .count();
        assert_eq!(times, 2, "{}", probe.name);
    }
}

#[test]
fn what_carries_nothing_does_not_pass_for_strict() {
    let problem = look_at(&mut Dead::new(), "it", &all()).unwrap_err();
    assert_eq!(problem.to_string(), "nobody has 10.7.0.1");
}

#[test]
fn probes_have_names_of_their_own() {
    let mut names: Vec<&str> = all().iter().map(|probe| probe.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
