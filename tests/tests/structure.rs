//! The shape of the tree: who imports whom, and where `unsafe` may be.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// What each room imports of ours in the end, and no more (design, §1). Whatever is not listed may
/// import everything, and nobody listed imports it.
const IMPORTS: &[(&str, &[&str])] = &[
    ("heddle-wire", &[]),
    ("heddle-mem", &[]),
    ("heddle-sys", &[]),
    ("heddle-ipam", &["heddle-wire"]),
    ("heddle-nat", &["heddle-wire", "heddle-mem"]),
    (
        "heddle-switch",
        &[
            "heddle-wire",
            "heddle-mem",
            "heddle-sys",
            "heddle-nat",
            "heddle-ipam",
        ],
    ),
    (
        "heddle-uplink",
        &[
            "heddle-wire",
            "heddle-mem",
            "heddle-sys",
            "heddle-nat",
            "heddle-switch",
        ],
    ),
    (
        "heddle",
        &[
            "heddle-wire",
            "heddle-mem",
            "heddle-sys",
            "heddle-ipam",
            "heddle-nat",
            "heddle-switch",
            "heddle-uplink",
        ],
    ),
];

/// The rooms that may have `unsafe`.
const UNSAFE: [&str; 2] = ["heddle-mem", "heddle-sys"];

/// The packages of this workspace, as cargo knows them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo was asked for JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("every package has one")
}

#[test]
fn rooms_import_only_what_the_design_allows() {
    for package in packages() {
        let Some((_, allowed)) = IMPORTS.iter().find(|(room, _)| *room == name(&package)) else {
            continue;
        };
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let dependencies = package["dependencies"].as_array().expect("a list");
        let imports: BTreeSet<&str> = dependencies
            .iter()
            // Test and bench dependencies, which do not get into the product, have another kind.
            .filter(|dependency| dependency["kind"].is_null() && !dependency["path"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        let forbidden: Vec<_> = imports.difference(&allowed).collect();
        assert!(
            forbidden.is_empty(),
            "{} imports {forbidden:?}",
            name(&package)
        );
    }
}

#[test]
fn every_room_of_the_product_has_its_rule() {
    for package in packages() {
        let listed = IMPORTS.iter().any(|(room, _)| *room == name(&package));
        let of_development = ["heddle-benches", "heddle-tests"].contains(&name(&package));
        assert!(
            listed || of_development,
            "{} has no rule in design §1",
            name(&package)
        );
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_mem_and_sys() {
    for package in packages() {
        if UNSAFE.contains(&name(&package)) {
            continue;
        }
        for target in package["targets"].as_array().expect("a list") {
            let path = target["src_path"].as_str().expect("every target has one");
            let text = fs::read_to_string(path).expect("cargo has found it");
            let kinds = target["kind"].as_array().expect("a list");
            let is_product = kinds.iter().any(|kind| kind == "lib" || kind == "bin");
            if is_product {
                let forbids = text.contains("#![forbid(unsafe_code)]");
                assert!(forbids, "{path} does not forbid unsafe code");
            } else {
                let uses = ["{", "fn", "impl"].map(|what| ["unsafe", what].join(" "));
                let used = uses.iter().find(|words| text.contains(words.as_str()));
                assert_eq!(used, None, "{path}");
            }
        }
    }
}

#[test]
fn every_room_keeps_the_lints_of_the_workspace() {
    for package in packages() {
        let path = package["manifest_path"]
            .as_str()
            .expect("every package has one");
        let text = fs::read_to_string(path).expect("cargo has found it");
        assert!(text.contains("[lints]\nworkspace = true"), "{path}");
        assert!(
            !text.contains("[features]"),
            "{path}: one product, one build"
        );
    }
}
