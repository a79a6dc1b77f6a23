//! Translations of the sentences that the program writes in English.
//!
//! The English sentence is the key, as with gettext. A record, an alarm or a finding contains only the English
//! sentence. It is translated where it is shown. `{}` stands for a value, and a value that is a phrase is translated
//! too.
//!
//! # Invariant
//! A translation takes a limited time for any text: only [`MAX_TEXT`] bytes are read, and a value is
//! shorter than its sentence.

/// Language in which sentences are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TextLanguage {
    /// English, in which the program writes every sentence.
    #[default]
    En,
    /// Russian, into which sentences are translated when they are shown.
    Ru,
}

/// Pairs of English texts and their translations.
pub(crate) type Translations = [(&'static str, &'static str)];

/// Russian translations of the texts of one subject.
#[derive(Debug)]
pub(crate) struct Phrasebook {
    /// Sentences that may stand alone. The first sentence that matches a text is used.
    pub(crate) sentences: &'static [&'static Translations],
    /// Phrases that are inserted into sentences.
    pub(crate) phrases: &'static [&'static Translations],
    /// Nouns that follow a number: the English singular, and the Russian forms after 1, after 2 and after 5.
    pub(crate) nouns: &'static [(&'static str, [&'static str; 3])],
}

impl Phrasebook {
    /// Returns a text of one or several sentences in Russian. Returns `None` if this phrasebook lacks one of the
    /// sentences.
    ///
    /// Commands may follow a sentence that ends with a colon. They are not translated.
    pub(crate) fn text(&self, english: &str) -> Option<String> {
        let (text, commands) = self.text_and_commands(english)?;
        Some(if commands.is_empty() { text } else { format!("{text} {commands}") })
    }

    /// Returns a text in Russian, and the commands that follow the text.
    pub(crate) fn text_and_commands<'t>(&self, english: &'t str) -> Option<(String, &'t str)> {
        let mut rest = shortened(english).trim();
        let mut out = String::new();
        while !rest.is_empty() {
            let (sentence, length) = self.sentence(rest)?;
            let has_stop = rest[length..].starts_with(". ");
            let has_colon = rest[..length].ends_with(':');
            out.push_str(&sentence);
            rest = rest[length + usize::from(has_stop)..].trim_start();
            if has_colon {
                let Some((text, commands)) = self.text_and_commands(rest) else { return Some((out, rest)) };
                return Some((format!("{out} {text}"), commands));
            }
            if !rest.is_empty() {
                out.push_str(if has_stop { ". " } else { " " });
            }
        }
        (!out.is_empty()).then_some((out, ""))
    }

    /// Returns a text in the given language. A text without a translation stays English.
    pub(crate) fn shown(&self, language: TextLanguage, english: &str) -> String {
        match language {
            TextLanguage::Ru => self.text(english).unwrap_or_else(|| english.to_owned()),
            TextLanguage::En => english.to_owned(),
        }
    }

    /// Returns a phrase in Russian. A phrase without a translation stays English.
    pub(crate) fn phrase(&self, english: &str) -> String {
        let value = shortened(english);
        let partly = || {
            let mark = list_mark(value)?;
            Some(value.split(mark).map(|part| self.phrase(part)).collect::<Vec<_>>().join(mark))
        };
        self.known(value).or_else(partly).unwrap_or_else(|| value.to_owned())
    }

    fn known(&self, value: &str) -> Option<String> {
        let known = self.counted(value).or_else(|| self.text(value));
        known.or_else(|| self.listed(value)).or_else(|| self.whole(value))
    }

    /// Returns the translation of the first sentence of a text, and the length of this sentence in the text, bytes.
    fn sentence(&self, text: &str) -> Option<(String, usize)> {
        self.sentences.iter().copied().flatten().find_map(|(english, russian)| {
            let (values, length) = prefix(english, text)?;
            Some((self.filled(russian, &values), length))
        })
    }

    fn whole(&self, value: &str) -> Option<String> {
        self.phrases.iter().copied().flatten().find_map(|(english, russian)| {
            let (values, length) = prefix(english, value)?;
            (length == value.len()).then(|| self.filled(russian, &values))
        })
    }

    /// Translates a number with a noun, e.g. `3 frames`. Returns `None` for other values.
    fn counted(&self, value: &str) -> Option<String> {
        let (number, noun) = value.split_once(' ')?;
        let n: u64 = number.parse().ok()?;
        let is_noun = |english: &str| noun == english || noun.strip_suffix('s') == Some(english);
        let (_, forms) = self.nouns.iter().find(|(english, _)| is_noun(english))?;
        Some(format!("{n} {}", russian_form(n, *forms)))
    }

    /// Translates a list of phrases. Returns `None` if one of them has no translation.
    fn listed(&self, value: &str) -> Option<String> {
        let mark = list_mark(value)?;
        Some(value.split(mark).map(|part| self.known(part)).collect::<Option<Vec<_>>>()?.join(mark))
    }

    /// Inserts values into a Russian template. Each value is translated if it is a phrase.
    fn filled(&self, russian: &str, values: &[&str]) -> String {
        let mut literals = russian.split("{}");
        let mut out = literals.next().unwrap_or_default().to_owned();
        for (value, literal) in values.iter().zip(literals) {
            out.push_str(&self.phrase(value));
            out.push_str(literal);
        }
        out
    }
}

/// Returns the Russian form of a noun after the number `n`. `forms` has the forms after 1, after 2 and after 5.
pub(crate) const fn russian_form(n: u64, forms: [&str; 3]) -> &str {
    match (n % 10, n % 100) {
        (_, 11..=14) => forms[2],
        (1, _) => forms[0],
        (2..=4, _) => forms[1],
        _ => forms[2],
    }
}

/// Matches an English template with the beginning of a text. Returns the values in place of `{}`, and the length of the
/// match. After the match, the text must end or another sentence must begin.
fn prefix<'t>(template: &str, text: &'t str) -> Option<(Vec<&'t str>, usize)> {
    let mut literals = template.split("{}");
    let first = literals.next().unwrap_or_default();
    let mut at = text.starts_with(first).then_some(first.len())?;
    let literals: Vec<&str> = literals.collect();
    let mut values = Vec::new();
    for (n, literal) in literals.iter().enumerate() {
        let is_last = n + 1 == literals.len();
        let ends = |end: usize| !is_last || is_end(text, end + literal.len());
        let end = if literal.is_empty() { Some(text.len()) } else { find_where(text, at, literal, ends) }?;
        values.push(&text[at..end]);
        at = end + literal.len();
    }
    is_end(text, at).then_some((values, at))
}

fn find_where(text: &str, from: usize, literal: &str, accepts: impl Fn(usize) -> bool) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.match_indices(literal).map(|(at, _)| from + at).find(|at| accepts(*at))
}

/// Returns whether a sentence may end at this position: the text ends, another sentence begins, or commands follow a
/// colon.
fn is_end(text: &str, at: usize) -> bool {
    let Some(rest) = text.get(at..) else { return false };
    let next = rest.strip_prefix(". ").or_else(|| rest.strip_prefix(' '));
    let begins = |next: &str| next.starts_with(|c: char| c.is_uppercase() || c == '(');
    rest.is_empty() || next.is_some_and(|next| begins(next) || text[..at].ends_with(':'))
}

fn list_mark(value: &str) -> Option<&'static str> {
    ["; ", ", "].into_iter().find(|mark| value.contains(mark))
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Maximum length of a text that is translated, bytes. The texts of the program are shorter.
const MAX_TEXT: usize = 2_000;

/// Finds texts in source files. Tests use it to check that each text has a translation.
#[cfg(test)]
pub(crate) mod sources {
    use super::Phrasebook;

    /// Returns the texts of a source file without a translation, and the number of all its texts. A text is a string
    /// literal of at least `words` words. Literals for which `is_other` returns true are skipped.
    fn untranslated(
        book: &Phrasebook,
        source: &str,
        words: usize,
        is_other: impl Fn(&str) -> bool,
    ) -> (Vec<String>, usize) {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let (mut missing, mut checked) = (Vec::new(), 0);
        for literal in literals(code) {
            if literal.split_whitespace().count() < words || is_other(&literal) {
                continue;
            }
            checked += 1;
            let is_known = |text: &str| book.text(text.trim()).is_some() || book.phrase(text) != text;
            if !["", "7"].into_iter().any(|unnamed| is_known(&with_values(&literal, unnamed))) {
                missing.push(literal);
            }
        }
        (missing, checked)
    }

    /// Checks that each text in the source files has a translation, and that there are more than `least` texts. A text
    /// is a string literal of at least `words` words. Literals for which `is_other` returns true are skipped.
    ///
    /// # Panics
    ///
    /// Panics if a check fails.
    pub(crate) fn assert_translated(
        book: &Phrasebook,
        (sources, least): (&[&str], usize),
        words: usize,
        is_other: impl Fn(&str) -> bool,
    ) {
        let mut all = 0;
        for source in sources {
            let (missing, checked) = untranslated(book, source, words, &is_other);
            assert!(missing.is_empty(), "no translation for {missing:#?}");
            all += checked;
        }
        assert!(all > least, "{all} sentences were found");
    }

    fn literals(code: &str) -> Vec<String> {
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let joined = lines.replace("\\\n", "\u{1}").replace("\\\"", "\u{2}").replace("'\"'", "");
        let mut out = Vec::new();
        for piece in joined.split('"').skip(1).step_by(2) {
            let mut text = String::new();
            for (n, part) in piece.split('\u{1}').enumerate() {
                text.push_str(if n == 0 { part } else { part.trim_start() });
            }
            out.push(text.replace('\u{2}', "\""));
        }
        out
    }

    /// Replaces each `{name}` in a literal by an example value, and each `{}` by `unnamed`.
    fn with_values(literal: &str, unnamed: &str) -> String {
        let mut out = String::new();
        for (n, piece) in literal.split('{').enumerate() {
            match piece.split_once('}') {
                Some((name, rest)) if n > 0 => {
                    out.push_str(match name {
                        "side" => "caller",
                        "" => unnamed,
                        "status" | "late" | "tls" => "",
                        _ => "7",
                    });
                    out.push_str(rest);
                }
                _ => out.push_str(piece),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: Phrasebook = Phrasebook {
        sentences: &[&[
            ("the disk is full", "диск полон"),
            ("{} were lost", "потеряно: {}"),
            ("Run:", "Запустите:"),
            ("Nothing works.", "Ничего не работает."),
        ]],
        phrases: &[&[("on the card", "на карте"), ("{} ({})", "{} ({})")]],
        nouns: &[("frame", ["кадр", "кадра", "кадров"])],
    };

    #[test]
    fn numbers_lists_and_commands_are_translated() {
        for (english, russian) in [
            ("22 frames were lost", "потеряно: 22 кадра"),
            ("1 frame, 11 frames were lost", "потеряно: 1 кадр, 11 кадров"),
            ("the disk is full. Run: df -h; mount", "диск полон. Запустите: df -h; mount"),
            ("the disk is full. Nothing works. Run:", "диск полон. Ничего не работает. Запустите:"),
            ("card (1 frame), disk (2 frames) were lost", "потеряно: card (1 кадр), disk (2 кадра)"),
            ("5 things were lost", "потеряно: 5 things"),
        ] {
            assert_eq!(BOOK.text(english).as_deref(), Some(russian));
        }
        assert_eq!(BOOK.text("the disk is full of air"), None);
        assert_eq!(BOOK.phrase("on the card"), "на карте");
        assert_eq!(BOOK.shown(TextLanguage::En, "the disk is full"), "the disk is full");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let long = "я".repeat(2 * MAX_TEXT);
        assert_eq!(BOOK.text(&long), None);
        assert!(BOOK.phrase(&long).len() <= MAX_TEXT);
    }
}
