//! Checks the language of the sources: the words of their comments, the names of their types and tests, and the form of
//! their modules.
//!
//! Each bound is a little above today's value. Lower it when the value gets better; never raise it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{read, root, walk};

/// Maximum number of sentences that begin with one of [`IDIOMS`], in 10,000 words of comments. In six well-written
/// projects (moonfire-nvr, retina, str0m, quinn-proto, smoltcp, ripgrep) 0 to 0.8 sentences begin with "What".
const MOST_IDIOMS: f64 = 2.0;

/// Beginnings of sentences that are hard to read.
const IDIOMS: &[&str] = &["What", "Whose", "Who", "Whom", "Gives"];

/// Maximum number of uses of "whose" in 10,000 words of comments. The six projects have 0 to 0.6.
const MOST_WHOSE: f64 = 9.0;

/// Minimum number of sentences that begin with "Returns" in 10,000 words of comments. The six projects have 23 to 58.
const LEAST_RETURNS: f64 = 110.0;

/// Maximum number of words in the name of a test.
const MOST_TEST_WORDS: usize = 12;

/// Type names that may exist in several modules. In other projects, a share of the type names exists more than once:
/// moonfire-nvr 23 %, retina 14 %, str0m 11 %, quinn-proto 5 %.
const SHARED_NAMES: &[&str] = &["Config", "Error"];

#[test]
fn comments_use_few_private_idioms() {
    let (mut words, mut idioms, mut whose, mut returns) = (0, Vec::new(), 0, 0);
    for (name, text) in sources("src") {
        for comment in comments(&text) {
            for sentence in sentences(&comment) {
                let all: Vec<&str> = sentence.split_whitespace().collect();
                words += all.len();
                whose += all.iter().filter(|word| word.eq_ignore_ascii_case("whose")).count();
                returns += usize::from(all.first() == Some(&"Returns"));
                if all.first().is_some_and(|word| IDIOMS.contains(word)) {
                    idioms.push(format!("{name}: {sentence}"));
                }
            }
        }
    }
    assert!(words > 10_000, "the comments were found: {words} words");
    let in_10_000 = |count: usize| count as f64 * 10_000.0 / words as f64;
    let figures = [idioms.len(), whose, returns].map(in_10_000);
    eprintln!(
        "in 10,000 of {words} words: idioms {:.1}, whose {:.1}, Returns {:.1}",
        figures[0], figures[1], figures[2]
    );
    assert!(figures[0] <= MOST_IDIOMS, "{:.1} idioms in 10,000 words:\n{}", figures[0], idioms.join("\n"));
    assert!(figures[1] <= MOST_WHOSE, "{:.1} \"whose\" in 10,000 words", figures[1]);
    assert!(figures[2] >= LEAST_RETURNS, "{:.1} \"Returns\" in 10,000 words", figures[2]);
}

#[test]
fn every_type_name_is_used_once_in_the_crate() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, text) in sources("src") {
        for type_name in types(&text) {
            files.entry(type_name).or_default().push(name.clone());
        }
    }
    assert!(files.len() > 300, "the types were found: {}", files.len());
    files.retain(|name, files| files.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(files.is_empty(), "type names that exist more than once: {files:#?}");
}

#[test]
fn test_names_have_at_most_twelve_words() {
    let texts = sources("src").chain(sources("tests"));
    let names: Vec<String> = texts.flat_map(|(_, text)| test_names(&text)).collect();
    assert!(names.len() > 1_000, "the tests were found: {}", names.len());
    let long: Vec<&String> = names.iter().filter(|name| name.split('_').count() > MOST_TEST_WORDS).collect();
    assert!(long.is_empty(), "test names of more than {MOST_TEST_WORDS} words: {long:#?}");
}

#[test]
fn a_module_with_children_is_a_folder_with_mod_rs() {
    let split: Vec<String> = sources("src")
        .map(|(name, _)| name)
        .filter(|name| root().join("src").join(name.trim_end_matches(".rs")).is_dir())
        .collect();
    assert!(split.is_empty(), "{split:#?}");
}

#[test]
fn the_reader_of_comments_sees_sentences_and_no_code() {
    let text = "//! One. What is\n//! this?\n\nlet a = \"http://x. Who\"; // Whose\n/// ```\n/// Gives\n/// ```\n/// Two `a.b`.\n";
    let found: Vec<String> =
        comments(text).iter().flat_map(|c| sentences(c).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(found, ["One", "What is this", "Whose", "Two `a.b`"]);
    let text = "struct A;\npub(crate) enum B {}\nimpl C for D {\n    type Item = E;\n}\npub type F = G;\n    struct H<T>(T);\n";
    assert_eq!(types(text), ["A", "B", "F", "H"]);
    let text = "#[test]\n#[ignore]\nfn a_b() {}\nfn c() {}\n    #[tokio::test]\n    async fn d() {}\n";
    assert_eq!(test_names(text), ["a_b", "d"]);
}

/// Returns all sources in a folder of the project: name and text of each.
fn sources(folder: &'static str) -> impl Iterator<Item = (String, String)> {
    let folder = root().join(folder);
    let mut files = Vec::new();
    walk(&folder, &mut files);
    files.sort();
    let name = move |file: &Path| file.strip_prefix(&folder).expect("below it").to_string_lossy().into_owned();
    files.into_iter().map(move |file| (name(&file), read(&file)))
}

/// Returns the comments of a source. Consecutive comment lines are one text, and code blocks are left out.
fn comments(text: &str) -> Vec<String> {
    let (mut comments, mut current, mut in_code) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        let comment = comment_of(line);
        let is_alone = line.trim_start().starts_with("//");
        if !is_alone || comment.is_none_or(|c| c.trim().is_empty()) {
            comments.push(std::mem::take(&mut current));
        }
        let Some(comment) = comment else { continue };
        if comment.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            current.push(' ');
            current.push_str(comment.trim());
        }
        if !is_alone {
            comments.push(std::mem::take(&mut current));
        }
    }
    comments.push(current);
    comments.retain(|comment| !comment.trim().is_empty());
    comments
}

/// Returns the comment in a line, without the slashes.
fn comment_of(line: &str) -> Option<&str> {
    let at = line.match_indices("//").find(|(at, _)| line[..*at].matches('"').count().is_multiple_of(2))?.0;
    Some(line[at..].trim_start_matches('/').trim_start_matches('!'))
}

/// Splits a comment into its sentences, without their full stops.
fn sentences(comment: &str) -> impl Iterator<Item = &str> {
    let ends = [". ", "? ", "! ", ": - ", " - "];
    let mut rest = comment;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = ends.iter().filter_map(|end| rest.find(end).map(|at| (at, end.len()))).min();
        let (at, length) = end.unwrap_or((rest.len(), 0));
        let sentence = &rest[..at];
        rest = &rest[at + length..];
        Some(sentence.trim().trim_end_matches(['.', '?', '!']).trim_start_matches(['-', '#', ' ']))
    })
    .filter(|sentence| !sentence.is_empty())
}

/// Returns the names of the tests in a source.
fn test_names(text: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        }
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(declared) = declared.filter(|_| std::mem::take(&mut is_test)) {
            names.extend(declared.split(['(', '<']).next().map(str::to_owned));
        }
    }
    names
}

/// Returns the names of the types that a source declares, without associated types.
fn types(text: &str) -> Vec<String> {
    let declared = text.lines().filter_map(|line| {
        let is_indented = line.starts_with(' ');
        let code = line.trim_start();
        let code = code
            .strip_prefix("pub ")
            .or_else(|| code.strip_prefix("pub(")?.split_once(") ").map(|c| c.1))
            .unwrap_or(code);
        let (keyword, rest) = code.split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "union"].contains(&keyword) || keyword == "type" && !is_indented;
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        (is_type && name.starts_with(|c: char| c.is_ascii_uppercase())).then(|| name.to_owned())
    });
    declared.collect()
}
