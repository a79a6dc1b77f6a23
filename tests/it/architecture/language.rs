//! Checks the language of the sources: the words of their comments, the names of their types and tests, and the form of
//! their modules.
//!
//! Each bound is a little above today's value. Lower it when the value gets better; never raise it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{read, root, walk};

/// Maximum number of sentences that begin with one of [`IDIOMS`], in 10,000 words of comments. In six well-written
/// projects (moonfire-nvr, retina, str0m, quinn-proto, smoltcp, ripgrep) 0 to 0.8 sentences begin with "What".
const MOST_IDIOMS: f64 = 0.5;

/// Beginnings of sentences that are hard to read.
const IDIOMS: &[&str] = &["What", "Whose", "Who", "Whom", "Gives"];

/// Maximum number of uses of "whose" in 10,000 words of comments. The six projects have 0 to 0.6.
const MOST_WHOSE: f64 = 2.0;

/// Minimum number of sentences that begin with "Returns" in 10,000 words of comments. The six projects have 23 to 58.
const LEAST_RETURNS: f64 = 90.0;

/// Maximum number of words in the name of a test.
const MOST_TEST_WORDS: usize = 12;

/// Maximum number of words in a sentence of a comment, and of the papers in [`PAPERS`].
const MOST_WORDS: usize = 25;

/// Maximum number of sentences with more than [`MOST_WORDS`] words in the comments of `src`, `tests/it` and `benches`.
const MOST_LONG: usize = 0;

/// Papers in which no sentence has more than [`MOST_WORDS`] words.
const PAPERS: &[&str] = &["README.md", "CONTRIBUTING.md", "deploy/RUNBOOK.md", "tests/README.md"];

/// Abbreviations that do not end a sentence, written here without their last full stop.
const ABBREVIATIONS: &[&str] = &["e.g", "i.e"];

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
fn comments_have_short_sentences() {
    let mut long = Vec::new();
    for (name, text) in ["src", "tests/it", "benches"].into_iter().flat_map(sources) {
        for comment in comments(&text) {
            long.extend(long_sentences(&comment).map(|sentence| format!("{name}: {sentence}")));
        }
    }
    assert!(
        long.len() == MOST_LONG,
        "{} sentences with more than {MOST_WORDS} words:\n{}",
        long.len(),
        long.join("\n")
    );
}

#[test]
fn papers_for_people_have_short_sentences() {
    for paper in PAPERS {
        let texts = paragraphs(&read(&root().join(paper)));
        assert!(texts.len() > 10, "{paper} has texts: {}", texts.len());
        let long: Vec<&str> = texts.iter().flat_map(|text| long_sentences(text)).collect();
        assert!(long.is_empty(), "{paper} has sentences with more than {MOST_WORDS} words: {long:#?}");
    }
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
    assert_eq!(sentences("A hold, e.g. music. An end").collect::<Vec<_>>(), ["A hold, e.g. music", "An end"]);
    let paper = "# A\n\nOne\ntwo.\n- Three.\n\n    code\n\n| four | five |\n```\nmore code\n```\n";
    let texts: Vec<String> = paragraphs(paper).iter().map(|text| text.trim().to_owned()).collect();
    assert_eq!(texts, ["One two.", "Three.", "four", "five"]);
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
    let ends = [". ", "? ", "! ", ".** ", ": - ", " - "];
    let mut rest = comment;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |at: &usize| !ABBREVIATIONS.iter().any(|short| rest[..*at].ends_with(short));
        let find = |end: &&str| rest.match_indices(*end).map(|(at, _)| at).find(is_end).map(|at| (at, end.len()));
        let end = ends.iter().filter_map(find).min();
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

/// Returns the sentences of a text that have more than [`MOST_WORDS`] words. Tables are left out.
fn long_sentences(text: &str) -> impl Iterator<Item = &str> {
    sentences(text).filter(|sentence| sentence.split_whitespace().count() > MOST_WORDS && !sentence.contains(" | "))
}

/// Returns the paragraphs, list items and table cells of a paper in Markdown. Headings and code are left out.
fn paragraphs(paper: &str) -> Vec<String> {
    let (mut texts, mut current, mut in_code) = (Vec::new(), String::new(), false);
    for line in paper.lines() {
        let text = line.trim();
        let is_fence = text.starts_with("```");
        in_code ^= is_fence;
        let is_code = in_code || is_fence || line.starts_with("    ");
        let item = text
            .strip_prefix("- ")
            .or_else(|| text.split_once(". ").filter(|(n, _)| n.parse::<u8>().is_ok()).map(|p| p.1));
        let is_cells = text.starts_with('|');
        if text.is_empty() || is_code || is_cells || item.is_some() || text.starts_with('#') {
            texts.push(std::mem::take(&mut current));
        }
        if is_cells && !is_code {
            texts.extend(text.split('|').map(|cell| cell.trim().to_owned()));
        } else if !is_code && !text.starts_with('#') {
            current.push_str(item.unwrap_or(text));
            current.push(' ');
        }
    }
    texts.push(current);
    texts.retain(|text| !text.trim().is_empty());
    texts
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
