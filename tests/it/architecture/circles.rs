//! Finds circles between the files of one type: a file that calls methods in another file, which calls methods in the
//! first file. Also finds circles between the files of `service` that import each other.
//!
//! If the `impl` blocks of a type are spread over many files, a person can read them one after the other only without
//! such circles.

use std::collections::{BTreeMap, BTreeSet};

use super::{before_tests, read, root, walk, without_comments_and_strings};

/// Maximum number of files that may call each other in a circle.
const MOST_IN_A_CIRCLE: usize = 3;

#[test]
fn no_circle_of_calls_in_call_has_more_than_three_files() {
    let source = root().join("src/call");
    let mut paths = Vec::new();
    walk(&source, &mut paths);
    let name = |path: &std::path::PathBuf| path.strip_prefix(&source).expect("below call").display().to_string();
    let files: BTreeMap<String, String> =
        paths.iter().filter(|path| !path.ends_with("tests.rs")).map(|path| (name(path), read(path))).collect();
    let calls = calls(&files);
    assert!(calls.values().map(BTreeSet::len).sum::<usize>() > 50, "the calls were found");
    for circle in circles(&calls) {
        assert!(circle.len() <= MOST_IN_A_CIRCLE, "files that call each other in a circle: {circle:?}");
    }
}

#[test]
fn no_files_of_service_import_each_other_in_a_circle() {
    let source = root().join("src/service");
    let mut paths = Vec::new();
    walk(&source, &mut paths);
    let name = |path: &std::path::PathBuf| path.file_stem().expect("a file").to_string_lossy().into_owned();
    let files = paths.iter().map(|path| (name(path), read(path))).filter(|(name, _)| name != "mod");
    let imports = imports(&files.collect());
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 20, "the imports were found");
    assert_eq!(circles(&imports), BTreeSet::new());
}

#[test]
fn a_circle_of_imports_is_found() {
    let files =
        [("a", "use super::b::B;\n"), ("b", "use super::{c, d};\n"), ("c", "fn c() { super::a::f() }\n"), ("d", "")];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let circle: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(circles(&imports(&files)), BTreeSet::from([circle]));
}

/// Returns for each file of one folder the other files of the folder that it uses.
fn imports(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let used = |(name, text): (&String, &String)| {
        let code = without_comments_and_strings(before_tests(text)).replace("crate::service::", "super::");
        let lists = code.split("super::").skip(1).map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().to_owned(),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned(),
        });
        let first = |item: &str| item.trim().split("::").next().unwrap_or_default().to_owned();
        let items: Vec<String> = lists.flat_map(|list| list.split(',').map(first).collect::<Vec<_>>()).collect();
        let others = items.into_iter().filter(|item| item != name && files.contains_key(item)).collect();
        (name.clone(), others)
    };
    files.iter().map(used).collect()
}

#[test]
fn a_circle_of_calls_is_found() {
    let file =
        |calls: &str, method: &str| format!("impl X<'_> {{\n    fn {method}(&self) {{\n        {calls}\n    }}\n}}\n");
    let files =
        [("a", file("self.b();", "a")), ("b", file("self\n            .c();", "b")), ("c", file("self.a();", "c"))];
    let of_others = ("d", "impl Y {\n    fn d(&self) {\n        self.a();\n    }\n}\n".to_owned());
    let files = files.into_iter().chain([of_others]).map(|(name, text)| (name.to_owned(), text)).collect();
    let circle: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(circles(&calls(&files)), BTreeSet::from([circle]));
}

/// Returns for each file the other files with methods that it calls on `self`.
fn calls(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    let blocks: Vec<(&str, String, String)> = files
        .iter()
        .flat_map(|(file, text)| impls(text).into_iter().map(move |(c, t)| (file.as_str(), c, t)))
        .collect();
    for (file, class, text) in &blocks {
        for line in text.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     ")) {
            if let Some((_, rest)) = line.split_once("fn ") {
                let method = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                owners.entry((class.clone(), method.to_owned())).or_default().insert(file);
            }
        }
    }
    let mut calls: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, class, text) in &blocks {
        let found = calls.entry((*file).to_owned()).or_default();
        for part in text.split("self").skip(1) {
            let Some(rest) = part.trim_start().strip_prefix('.') else { continue };
            let method = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let is_call = rest[method.len()..].starts_with('(');
            let owner = owners.get(&(class.clone(), method.to_owned())).filter(|files| is_call && files.len() == 1);
            found.extend(owner.into_iter().flatten().filter(|owner| *owner != file).map(|owner| (*owner).to_owned()));
        }
    }
    calls
}

/// Returns the `impl` blocks of a formatted file: the type, and the text of the block.
fn impls(text: &str) -> Vec<(String, String)> {
    let code = without_comments_and_strings(before_tests(text));
    let mut found: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in code.lines() {
        if line.starts_with("impl") {
            let class = line.rsplit_once(" for ").map_or(line, |(_, class)| class);
            let class = class.trim_start_matches("impl").split_whitespace().find(|word| !word.starts_with('<'));
            let class = class.unwrap_or_default().split('<').next().unwrap_or_default();
            found.push((class.to_owned(), String::new()));
            is_inside = true;
        } else if line.starts_with('}') {
            is_inside = false;
        } else if let Some((_, block)) = found.last_mut().filter(|_| is_inside) {
            block.push_str(line);
            block.push('\n');
        }
    }
    found
}

/// Returns the sets of files in which each file calls all others, directly or through others.
fn circles(calls: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reach = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = open.pop() {
            for next in calls.get(&file).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = calls.keys().map(|file| (file, reach(file))).collect();
    let circle = |file: &String| {
        let others = reached[file].iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(file)));
        others.cloned().collect::<BTreeSet<String>>()
    };
    calls.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}
