//! The list of requirements against the sources, and the page against the list.

#![forbid(unsafe_code)]

use std::path::Path;

use heddle_tests::conformance::{Outcomes, PAGE, Sources, faults, render};

fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are in a workspace")
}

#[test]
fn every_requirement_is_shown_by_tests_that_exist_in_the_families_it_is_about() {
    let sources = Sources::read(root()).expect("the sources can be read");
    let faults = faults(root(), &sources);
    assert!(
        faults.is_empty(),
        "in tests/src/conformance:\n{}",
        faults.join("\n")
    );
}

#[test]
fn the_page_says_what_the_list_does_and_that_all_of_it_is_kept() {
    let sources = Sources::read(root()).expect("the sources can be read");
    let page = std::fs::read_to_string(root().join(PAGE)).expect("there is a page");
    // A page written after a test failed is another one.
    let written = render(&sources, &Outcomes::all_passed());
    let differs = page.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert!(
        page == written,
        "{PAGE} is not what `cargo run -p heddle-tests --bin conformance` writes if all is well; \
         first difference: {differs:?}"
    );
}
