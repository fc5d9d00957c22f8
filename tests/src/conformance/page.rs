//! The page.

use std::fmt::Write as _;

use super::run::{Outcome, Outcomes};
use super::sources::{Kind, Sources};
use super::{Chapter, REQUIREMENTS, Requirement, Standing, requirements};

/// Where the page is, from the root of the tree.
pub const PAGE: &str = "docs/conformance.md";

const INTRODUCTION: &str = "\
# What heddle keeps

<!-- Written by `cargo run -p heddle-tests --bin conformance`; what you change here is lost. -->

What the RFCs and IEEE 802.1 ask of a NAT, a router and a bridge, what heddle makes of it, and which
tests show that. The list is in [tests/src/conformance](../tests/src/conformance/mod.rs), in our own words;
this page is written from it after its tests were run:

```sh
cargo run -p heddle-tests --bin conformance              # runs them, and writes the page
cargo run -p heddle-tests --bin conformance -- --check   # runs them, and fails if the page would change
```

Tests are of three kinds: a *unit* is one part of heddle, the *lab* is the whole switch in memory under a clock that
only the test moves, *kernels* are Linux hosts in namespaces with ordinary programs. \"kept\" means that every test
named passed, one on kernels both as root (if root ran it) and as an ordinary user. \"otherwise\" links to the decision
that says why; its tests show what happens instead.
";

/// The page as it reads after a run.
#[must_use]
pub fn render(sources: &Sources, outcomes: &Outcomes) -> String {
    let mut page = INTRODUCTION.to_owned();
    let all = requirements().count();
    let departures = requirements()
        .filter(|requirement| requirement.standing != Standing::Kept)
        .count();
    let _ = writeln!(
        page,
        "\n{all} requirements: {} kept, {departures} otherwise.",
        all - departures
    );
    for chapter in &REQUIREMENTS {
        render_chapter(&mut page, chapter, sources, outcomes);
    }
    page
}

fn render_chapter(page: &mut String, chapter: &Chapter, sources: &Sources, outcomes: &Outcomes) {
    let _ = write!(
        page,
        "\n## {}\n\n| id | promise | source | family | shown by | verdict |\n|---|---|---|---|---|---|\n",
        chapter.title
    );
    for requirement in chapter.requirements {
        let Requirement {
            id,
            source,
            promise,
            families,
            ..
        } = requirement;
        let family = match (families.v4, families.v6) {
            (true, true) => "both",
            (true, false) => "IPv4",
            (false, true) => "IPv6",
            (false, false) => "",
        };
        let (tests, verdict) = (
            render_tests(requirement, sources, outcomes),
            verdict(requirement, outcomes),
        );
        let _ = writeln!(
            page,
            "| `{id}` | {promise} | {source} | {family} | {tests} | {verdict} |"
        );
    }
}

/// The tests of a requirement, by kind.
fn render_tests(requirement: &Requirement, sources: &Sources, outcomes: &Outcomes) -> String {
    let kinds = [
        (Kind::Unit, "unit"),
        (Kind::Lab, "lab"),
        (Kind::Kernels, "kernels"),
    ];
    let of_kind = |(kind, label): (Kind, &str)| {
        let links: Vec<String> = requirement
            .tests
            .iter()
            .filter_map(|&name| {
                let test = sources.find(name).filter(|test| test.kind == kind)?;
                let sentence = name.rsplit("::").next()?.replace('_', " ");
                let file = test.file.display();
                let mark = match outcomes.of(name) {
                    Outcome::Passed => "",
                    Outcome::Failed => " **failed**",
                    Outcome::NotRun => " **not run**",
                };
                Some(format!("[{sentence}](../{file} \"{name}\"){mark}"))
            })
            .collect();
        (!links.is_empty()).then(|| format!("*{label}:* {}", links.join("; ")))
    };
    let lines: Vec<String> = kinds.into_iter().filter_map(of_kind).collect();
    lines.join("<br>")
}

fn verdict(requirement: &Requirement, outcomes: &Outcomes) -> String {
    let worst = |outcome| {
        requirement
            .tests
            .iter()
            .any(|name| outcomes.of(name) == outcome)
    };
    if worst(Outcome::Failed) {
        return "**broken**".to_owned();
    }
    if worst(Outcome::NotRun) {
        return "**not shown**".to_owned();
    }
    match requirement.standing {
        Standing::Kept => "kept".to_owned(),
        Standing::Departs { reason, decision } => {
            format!("[otherwise](adr/{decision}): {reason}")
        }
    }
}
