//! The tests that there are, as the sources say.
//!
//! Read as tokens and not compiled: so a test that does not exist, or has another name by now, is found
//! without building what it is in. Comments are no tokens; a test that is commented out does not exist.

use std::collections::BTreeMap;
use std::ops::BitOr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Rooms with tests in their own source.
const ROOMS: [&str; 7] = ["wire", "mem", "sys", "ipam", "nat", "switch", "ctl"];

/// A set of address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Neither: it is not about IP, or about no particular IP.
    pub const NEITHER: Families = Families {
        v4: false,
        v6: false,
    };
    /// IPv4 alone.
    pub const V4: Families = Families {
        v4: true,
        v6: false,
    };
    /// IPv6 alone.
    pub const V6: Families = Families {
        v4: false,
        v6: true,
    };
    /// Both.
    pub const BOTH: Families = Families { v4: true, v6: true };

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn contains(self, other: Families) -> bool {
        (self.v4 || !other.v4) && (self.v6 || !other.v6)
    }
}

impl BitOr for Families {
    type Output = Families;

    fn bitor(self, other: Families) -> Families {
        Families {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }
}

/// On what a test is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A part of heddle.
    Unit,
    /// The whole switch in memory.
    Lab,
    /// Real kernels in namespaces.
    Kernels,
}

/// A test.
#[derive(Clone, Debug)]
pub struct Test {
    /// The file it is in, from the root of the tree.
    pub file: PathBuf,
    /// On what it is played.
    pub kind: Kind,
    /// The families that its own lines go through.
    pub families: Families,
}

/// All tests, by name.
#[derive(Debug, Default)]
pub struct Sources {
    tests: BTreeMap<String, Test>,
}

impl Sources {
    /// Reads the tree.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is not Rust.
    pub fn read(root: &Path) -> io::Result<Sources> {
        let mut sources = Sources::default();
        for room in ROOMS {
            let place = root.join(room).join("src");
            sources.read_directory(root, &place, &[room.to_owned()])?;
        }
        let place = root.join("tests").join("tests");
        sources.read_directory(root, &place, &[])?;
        Ok(sources)
    }

    /// The test of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Test> {
        self.tests.get(name)
    }

    /// Tests whose last word is that of `name`: what it may be called by now.
    #[must_use]
    pub fn alike(&self, name: &str) -> Vec<&str> {
        let last = name.rsplit("::").next();
        let names = self.tests.keys().map(String::as_str);
        names
            .filter(|other| other.rsplit("::").next() == last)
            .collect()
    }

    fn read_directory(&mut self, root: &Path, place: &Path, modules: &[String]) -> io::Result<()> {
        for entry in fs::read_dir(place)? {
            let path = entry?.path();
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            let mut modules = modules.to_vec();
            if !matches!(stem, "lib" | "mod" | "main") {
                modules.push(stem.to_owned());
            }
            if path.is_dir() {
                self.read_directory(root, &path, &modules)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let tokens: TokenStream = fs::read_to_string(&path)?
                    .parse()
                    .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
                let file = path.strip_prefix(root).unwrap_or(&path);
                self.read_tokens(file, &tokens, &modules);
            }
        }
        Ok(())
    }

    fn read_tokens(&mut self, file: &Path, tokens: &TokenStream, modules: &[String]) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let bodies = bodies(&tokens);
        for (at, token) in tokens.iter().enumerate() {
            let next = |count: usize| tokens.get(at + count);
            match token {
                TokenTree::Punct(mark)
                    if mark.as_char() == '#' && next(1).is_some_and(is_test_mark) =>
                {
                    if let Some((name, body)) = function(&tokens[at + 2..]) {
                        self.enter(file, modules, &name, families(body));
                    }
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (next(1), next(2))
                    {
                        let inner = [modules, &[name.to_string()]].concat();
                        self.read_tokens(file, &body.stream(), &inner);
                    }
                }
                // The content of a macro: property tests.
                TokenTree::Ident(word) if word == "proptest" => {
                    if let Some(TokenTree::Group(body)) = next(2) {
                        self.read_tokens(file, &body.stream(), modules);
                    }
                }
                // A scenario's name is a text, behind the module's own; its function is in the file.
                TokenTree::Group(group) => {
                    for name in scenarios(group.stream()) {
                        let function = name.rsplit("::").next().unwrap_or_default();
                        let body = bodies.get(function).copied();
                        self.enter(
                            file,
                            modules,
                            function,
                            body.map(families).unwrap_or_default(),
                        );
                    }
                }
                _ => {}
            }
        }
    }

    fn enter(&mut self, file: &Path, modules: &[String], function: &str, families: Families) {
        let name = [modules, &[function.to_owned()]].concat().join("::");
        let kind = match modules.first() {
            Some(first) if ROOMS.contains(&first.as_str()) => Kind::Unit,
            Some(first) if first == "kernel" => Kind::Kernels,
            _ => Kind::Lab,
        };
        let test = Test {
            file: file.to_owned(),
            kind,
            families,
        };
        self.tests.insert(name, test);
    }
}

/// Whether a group is `[test]`.
fn is_test_mark(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group)
        if group.delimiter() == Delimiter::Bracket && group.stream().to_string() == "test")
}

/// The next function: its name and body.
fn function(tokens: &[TokenTree]) -> Option<(String, &TokenTree)> {
    let start = tokens
        .iter()
        .position(|token| matches!(token, TokenTree::Ident(word) if word == "fn"))?;
    let name = tokens.get(start + 1)?.to_string();
    let is_body = |token: &&TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let body = tokens[start..].iter().find(is_body)?;
    Some((name, body))
}

/// The functions of a file, by name.
fn bodies(tokens: &[TokenTree]) -> BTreeMap<String, &TokenTree> {
    let starts = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| matches!(token, TokenTree::Ident(word) if word == "fn"));
    starts
        .filter_map(|(at, _)| function(&tokens[at..]))
        .collect()
}

/// The names in a list of scenarios: texts behind `name:`, wherever in the list.
fn scenarios(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_scenario = matches!(token, TokenTree::Ident(word) if word == "Scenario");
        let Some(TokenTree::Group(body)) = tokens.get(at + 1).filter(|_| is_scenario) else {
            continue;
        };
        let fields: Vec<TokenTree> = body.stream().into_iter().collect();
        let named = fields.windows(3).find_map(|words| match words {
            [TokenTree::Ident(word), _, TokenTree::Literal(text)] if word == "name" => {
                Some(text.to_string().trim_matches('"').to_owned())
            }
            _ => None,
        });
        names.extend(named);
    }
    names
}

/// The families that a function goes through: `SIDES` and `FAMILIES` are lists of both, IPv4 first,
/// and `V4` and `V6` one of them each.
fn families(body: &TokenTree) -> Families {
    let TokenTree::Group(group) = body else {
        return Families::NEITHER;
    };
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let mut found = Families::NEITHER;
    for (at, token) in tokens.iter().enumerate() {
        let index = match tokens.get(at + 1) {
            Some(TokenTree::Group(index)) if index.delimiter() == Delimiter::Bracket => {
                Some(index.stream().to_string())
            }
            _ => None,
        };
        // What is behind a path is a variant of something else.
        let alone = !matches!(
            at.checked_sub(1).map(|before| &tokens[before]),
            Some(TokenTree::Punct(mark)) if mark.as_char() == ':'
        );
        found = found
            | match token {
                TokenTree::Ident(word) if word == "SIDES" || word == "FAMILIES" => {
                    match index.as_deref() {
                        Some("0") => Families::V4,
                        Some("1") => Families::V6,
                        _ => Families::BOTH,
                    }
                }
                TokenTree::Ident(word) if alone && word == "V4" => Families::V4,
                TokenTree::Ident(word) if alone && word == "V6" => Families::V6,
                TokenTree::Group(_) => families(token),
                _ => Families::NEITHER,
            };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Sources {
        let mut sources = Sources::default();
        let tokens = text.parse().expect("a test writes Rust");
        let modules = ["lab_x".to_owned()];
        sources.read_tokens(Path::new("tests/tests/lab_x.rs"), &tokens, &modules);
        sources
    }

    #[test]
    fn a_test_is_found_by_its_mark_and_in_its_module() {
        let sources = read(
            "#[test] fn one() {} fn helper() {} // #[test] fn commented_out() {}
             #[cfg(test)] mod tests { #[test] #[ignore] fn two() {} }
             proptest! { #[test] fn three(x in 0..1) { x } }",
        );
        let names: Vec<_> = sources.tests.keys().map(String::as_str).collect();
        assert_eq!(names, ["lab_x::one", "lab_x::tests::two", "lab_x::three"]);
    }

    #[test]
    fn a_test_covers_the_families_that_it_goes_through() {
        let of = |body: &str| {
            let sources = read(&format!("#[test] fn it() {{ {body} }}"));
            sources.tests["lab_x::it"].families
        };
        assert_eq!(of("for side in &SIDES { f(side); }"), Families::BOTH);
        assert_eq!(of("let side = &SIDES[0];"), Families::V4);
        assert_eq!(of("f(&[SIDES[1].a]); V6.b"), Families::V6);
        assert_eq!(of("if f == Family::V4 { g() }"), Families::NEITHER);
        assert_eq!(of("f(V4.a); g(V6.a)"), Families::BOTH);
    }

    #[test]
    fn a_scenario_is_found_by_its_name() {
        let sources = read(
            "const SCENARIOS: &[Scenario] = &[Scenario { name: \"x::both\", on: On::AnyKind, play: both }];
             fn both(host: &mut Host) { for family in FAMILIES { f(family) } }",
        );
        assert_eq!(sources.tests["lab_x::both"].families, Families::BOTH);
    }
}
