//! Patterns of telephone numbers, in our own notation or in Asterisk's notation. For a pattern that can never match, a
//! correct notation is suggested.

/// A pattern that matches whole numbers. Commas separate alternatives.
///
/// `x` and `#` match one digit, `[2-4]` matches one character of a class, `*` matches any characters. Other characters
/// match themselves.
///
/// Asterisk's notation: `_` at the beginning, `X` for a digit, `N` for 2 to 9, `Z` for 1 to 9. At the end, `.` matches
/// one or more characters, and `!` any number of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberPattern {
    alternatives: Vec<Vec<PatternAtom>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternAtom {
    Literal(char),
    Digit,
    Class(Vec<(char, char)>),
    One,
    Any,
}

/// The reason for which a pattern can never match, and a notation that can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatternProblem {
    /// Description of the problem for the administrator.
    pub(crate) what: String,
    /// The notation that the administrator probably meant.
    pub(crate) remedy: String,
}

impl NumberPattern {
    /// Compiles a pattern of numbers. Every text is a valid pattern: a `[` without `]` matches itself.
    pub(crate) fn new(text: &str) -> Self {
        Self { alternatives: alternatives(text).map(number_atoms).collect() }
    }

    /// Compiles a pattern for a header value, in which only `x`, `#`, `*` and classes have a special meaning.
    pub(crate) fn of_text(text: &str) -> Self {
        Self { alternatives: alternatives(text).map(atoms).collect() }
    }

    /// Returns whether one alternative matches the whole of `number`.
    pub(crate) fn matches(&self, number: &str) -> bool {
        self.alternatives.iter().any(|atoms| fits(atoms, number))
    }

    /// Returns an example of exactly `length` characters that matches the alternative `one`; `None` if there is none.
    pub(crate) fn example(one: &str, length: usize) -> Option<String> {
        let atoms = number_atoms(one);
        let fixed = atoms.iter().filter(|atom| **atom != PatternAtom::Any).count();
        let mut spare = length.checked_sub(fixed)?;
        let mut number = String::new();
        for atom in &atoms {
            match atom {
                PatternAtom::Literal(c) => number.push(*c),
                PatternAtom::Digit | PatternAtom::One => number.push(EXAMPLE_DIGIT),
                PatternAtom::Class(ranges) => number.push(ranges.first()?.0),
                PatternAtom::Any => number.extend(std::iter::repeat_n(EXAMPLE_DIGIT, std::mem::take(&mut spare))),
            }
        }
        (spare == 0).then_some(number)
    }

    /// Returns all numbers that the pattern matches, sorted; `None` if there are more than `max`.
    pub(crate) fn numbers(&self, max: usize) -> Option<Vec<String>> {
        let mut all = Vec::new();
        for atoms in &self.alternatives {
            let mut numbers = vec![String::new()];
            for atom in atoms {
                let ranges = match atom {
                    PatternAtom::Literal(c) => vec![(*c, *c)],
                    PatternAtom::Digit => vec![('0', '9')],
                    PatternAtom::Class(ranges) => ranges.clone(),
                    PatternAtom::One | PatternAtom::Any => return None,
                };
                let chars = || ranges.iter().flat_map(|(low, high)| *low..=*high);
                if numbers.len() * chars().take(max + 1).count() > max {
                    return None;
                }
                numbers = numbers.iter().flat_map(|number| chars().map(move |c| format!("{number}{c}"))).collect();
            }
            all.extend(numbers);
            if all.len() > max {
                return None;
            }
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }

    /// Returns a regular expression for PostgreSQL (manual, 9.7.3) that matches the same numbers.
    pub(crate) fn to_regex(&self) -> String {
        let alternatives: Vec<String> = self.alternatives.iter().filter_map(|atoms| regex(atoms)).collect();
        if alternatives.is_empty() {
            return String::from(NEVER);
        }
        format!("^(?:{})$", alternatives.join("|"))
    }

    /// Checks a pattern of numbers.
    ///
    /// # Errors
    /// Returns the first part that can never match a number, and a correct notation if it is known.
    pub(crate) fn check(text: &str) -> Result<(), PatternProblem> {
        match whole_problem(text) {
            Some(problem) => Err(problem),
            None => text.split(',').map(str::trim).try_for_each(check_alternative),
        }
    }

    /// Checks a pattern for a header value.
    ///
    /// # Errors
    /// Returns the first part that can never match.
    pub(crate) fn check_text(text: &str) -> Result<(), PatternProblem> {
        if let Some(c) = text.chars().find(|c| REGEX.contains(*c)) {
            return Err(regex_problem(c, None));
        }
        text.split(',').map(str::trim).try_for_each(check_brackets)
    }
}

fn alternatives(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|a| !a.is_empty())
}

fn number_atoms(text: &str) -> Vec<PatternAtom> {
    if !is_dial_pattern(text) {
        return atoms(text);
    }
    let text = text.strip_prefix('_').unwrap_or(text);
    let (body, end) = match text.strip_suffix('.') {
        Some(body) => (body, vec![PatternAtom::One, PatternAtom::Any]),
        None => text.strip_suffix('!').map_or((text, Vec::new()), |body| (body, vec![PatternAtom::Any])),
    };
    let mut out: Vec<PatternAtom> = atoms(body).into_iter().map(asterisk_atom).collect();
    out.extend(end);
    out
}

/// Returns whether a pattern has only characters of Asterisk's dial patterns. In any other text, e.g. the name `Nina`,
/// the letter `N` stands for itself.
fn is_dial_pattern(text: &str) -> bool {
    let body = text.strip_prefix('_').unwrap_or(text);
    !body.is_empty() && body.chars().all(|c| c.is_ascii_digit() || "xXnNzZ+*#.![]-".contains(c))
}

fn asterisk_atom(atom: PatternAtom) -> PatternAtom {
    match atom {
        PatternAtom::Literal('N' | 'n') => PatternAtom::Class(vec![('2', '9')]),
        PatternAtom::Literal('Z' | 'z') => PatternAtom::Class(vec![('1', '9')]),
        other => other,
    }
}

fn atoms(text: &str) -> Vec<PatternAtom> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        out.push(match c {
            'x' | 'X' | '#' => PatternAtom::Digit,
            '*' => PatternAtom::Any,
            '[' => match rest.split_once(']') {
                Some((class, after)) => {
                    rest = after;
                    PatternAtom::Class(ranges(class))
                }
                None => PatternAtom::Literal(c),
            },
            other => PatternAtom::Literal(other),
        });
    }
    out
}

fn ranges(class: &str) -> Vec<(char, char)> {
    let chars: Vec<char> = class.chars().collect();
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&low) = chars.get(i) {
        match (chars.get(i + 1), chars.get(i + 2)) {
            (Some('-'), Some(&high)) => {
                out.push((low, high));
                i += 3;
            }
            _ => {
                out.push((low, low));
                i += 1;
            }
        }
    }
    out
}

/// Returns whether an alternative matches `number`. If a character does not match, only the last `*` is tried again. So
/// the worst case is the number's length times the pattern's length.
fn fits(atoms: &[PatternAtom], number: &str) -> bool {
    let chars: Vec<char> = number.chars().take(MAX_NUMBER_CHARS).collect();
    let (mut a, mut c) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while c < chars.len() {
        match atoms.get(a) {
            Some(PatternAtom::Any) => {
                star = Some((a, c));
                a += 1;
            }
            Some(atom) if matches_char(atom, chars[c]) => {
                a += 1;
                c += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    a = back + 1;
                    c = from + 1;
                }
                None => return false,
            },
        }
    }
    atoms[a.min(atoms.len())..].iter().all(|atom| *atom == PatternAtom::Any)
}

fn matches_char(atom: &PatternAtom, c: char) -> bool {
    match atom {
        PatternAtom::Literal(l) => *l == c,
        PatternAtom::Digit => c.is_ascii_digit(),
        PatternAtom::Class(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)),
        PatternAtom::One | PatternAtom::Any => true,
    }
}

/// Returns one alternative of a pattern as a regular expression; `None` if it can never match.
fn regex(atoms: &[PatternAtom]) -> Option<String> {
    let char = |c: char| match c {
        '\0' => None, // no text in PostgreSQL can contain it
        c if c.is_ascii_alphanumeric() => Some(c.to_string()),
        c => Some(format!("\\U{:08x}", u32::from(c))),
    };
    let mut text = String::new();
    for atom in atoms {
        match atom {
            PatternAtom::Literal(c) => text.push_str(&char(*c)?),
            PatternAtom::Digit => text.push_str("[0-9]"),
            PatternAtom::One => text.push('.'),
            PatternAtom::Any => text.push_str(".*"),
            PatternAtom::Class(ranges) => {
                let ranges: Vec<String> = ranges
                    .iter()
                    .filter(|(low, high)| low <= high)
                    .filter_map(|(low, high)| Some(format!("{}-{}", char(*low)?, char(*high)?)))
                    .collect();
                if ranges.is_empty() {
                    return None;
                }
                text.push_str(&format!("[{}]", ranges.concat()));
            }
        }
    }
    Some(text)
}

/// Returns a problem of the whole list of alternatives: wrong separators, or a regular expression in place of a
/// pattern.
fn whole_problem(text: &str) -> Option<PatternProblem> {
    if text.contains(';') || text.contains('/') || text.split_whitespace().count() > 1 && !text.contains(',') {
        let parts: Vec<&str> =
            text.split([';', '/', ' ', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect();
        let fixed = parts.join(",");
        if !parts.is_empty() && parts.iter().all(|part| part.len() > 1 && check_alternative(part).is_ok()) {
            return Some(problem("patterns are separated by commas", format!("write \"{fixed}\"")));
        }
    }
    if let Some(plain) = telephone_number(text) {
        return Some(problem("numbers are compared without spaces, dashes and brackets", format!("write \"{plain}\"")));
    }
    let regex = text.chars().find(|c| REGEX.contains(*c));
    let dots = text.contains("..") || text.contains(".*") || text.contains(".+");
    let first = regex.or_else(|| dots.then_some('.')).or_else(|| text.ends_with("]+").then_some('+'))?;
    Some(regex_problem(first, from_regex(text)))
}

/// Returns a telephone number without its spaces, dashes and brackets; `None` if the text is no telephone number.
fn telephone_number(text: &str) -> Option<String> {
    let number = text.trim();
    let separated = number.contains([' ', '(', ')']) || number.matches('-').count() > 1;
    let allowed = |c: char| c.is_ascii_digit() || "+ ()-*xX".contains(c);
    let plain: String = number.chars().filter(|c| !" ()-".contains(*c)).collect();
    let digits = plain.chars().filter(char::is_ascii_digit).count();
    (separated && number.chars().all(allowed) && digits >= MIN_SEPARATED_DIGITS).then_some(plain)
}

fn check_alternative(one: &str) -> Result<(), PatternProblem> {
    check_brackets(one)?;
    let outside = without_classes(one);
    if let Some((letter, spelling)) = lookalike(one) {
        let what = format!("\"{letter}\" is a letter of another alphabet, which no number contains");
        return Err(problem(what, format!("write \"{spelling}\"")));
    }
    if let Some(spelling) = number_range(one) {
        return Err(problem(
            format!("\"{one}\" is no range of numbers: - has a meaning in brackets only"),
            format!("write \"{spelling}\""),
        ));
    }
    if outside.contains('-') {
        return Err(problem("a number has no dash", String::from("write the digits only, a class as [2-4]")));
    }
    if let Some(c) = outside.chars().find(|c| NEVER_IN_NUMBERS.contains(*c)) {
        return Err(problem(format!("no number contains \"{c}\""), String::from(PATTERN_HELP)));
    }
    if outside.strip_prefix('_').unwrap_or(&outside).chars().skip(1).any(|c| c == '+' || c == '_') {
        return Err(problem("+ and _ stand only at the beginning of a pattern", String::from(PATTERN_HELP)));
    }
    let ends = outside.char_indices().any(|(at, c)| (c == '.' || c == '!') && at + 1 < outside.len());
    if ends && is_dial_pattern(one) {
        return Err(problem(". and ! stand only at the end of a pattern", String::from(PATTERN_HELP)));
    }
    if one.starts_with('_') && !is_dial_pattern(one) {
        return Err(problem(format!("\"{one}\" is not a dial pattern of Asterisk"), String::from(PATTERN_HELP)));
    }
    Ok(())
}

fn check_brackets(one: &str) -> Result<(), PatternProblem> {
    if one.is_empty() {
        return Err(problem("a pattern is empty", String::from(PATTERN_HELP)));
    }
    if one.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(problem("a pattern contains a space", String::from(PATTERN_HELP)));
    }
    let mut rest = one;
    while let Some(at) = rest.find(['[', ']']) {
        let class = rest.split_at(at).1.strip_prefix('[').and_then(|a| a.split_once(']'));
        let Some((class, after)) = class else {
            return Err(problem(
                "a bracket is not closed or not opened",
                String::from("write a class as [2-4] or [135]"),
            ));
        };
        if class.is_empty() || class.contains('[') {
            return Err(problem(
                "a class in brackets is empty or nested",
                String::from("write a class as [2-4] or [135]"),
            ));
        }
        let chars: Vec<char> = class.chars().collect();
        if chars.windows(3).any(|w| w[1] == '-' && w[0] > w[2]) {
            return Err(problem(
                format!("the class [{class}] runs backwards"),
                String::from("write the lower digit first: [2-4]"),
            ));
        }
        rest = after;
    }
    Ok(())
}

/// Returns the first letter that only looks like a letter of a dial pattern, and the corrected pattern. Returns `None`
/// for a name in another alphabet.
fn lookalike(one: &str) -> Option<(char, String)> {
    let letter = one.chars().find(|c| !c.is_ascii())?;
    let meant = |c| LOOKALIKES.iter().find(|(other, _)| *other == c).map_or(c, |(_, latin)| *latin);
    let spelling: String = one.chars().map(meant).collect();
    is_dial_pattern(&spelling).then_some((letter, spelling))
}

/// Returns a pattern in which `x` replaces each class of characters, e.g. `[1-9]`.
fn without_classes(one: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in one.chars() {
        match c {
            '[' => inside = true,
            ']' => (inside, ()) = (false, out.push('x')),
            _ if inside => {}
            other => out.push(other),
        }
    }
    out
}

/// Returns the patterns for a range of numbers, e.g. `10[1-9],110` for `101-110`; `None` if the text is no range.
fn number_range(one: &str) -> Option<String> {
    let (low, high) = one.split_once('-')?;
    let is_number = |t: &str| !t.is_empty() && t.len() <= MAX_RANGE_DIGITS && t.bytes().all(|b| b.is_ascii_digit());
    if !is_number(low) || !is_number(high) || low.len() != high.len() || low > high {
        return None;
    }
    let mut patterns = Vec::new();
    cover(low, high, &mut patterns);
    Some(patterns.join(","))
}

/// Appends patterns that match exactly the numbers from `low` to `high`. Both have the same length.
fn cover(low: &str, high: &str, patterns: &mut Vec<String>) {
    let common = low.bytes().zip(high.bytes()).take_while(|(a, b)| a == b).count();
    let (head, low, high) = (&low[..common], &low[common..], &high[common..]);
    let all = |tail: &str, digit: u8| tail.bytes().all(|b| b == digit);
    if low.is_empty() {
        patterns.push(head.to_owned());
        return;
    }
    let (first, last) = (low.as_bytes()[0], high.as_bytes()[0]);
    let (low_tail, high_tail) = (&low[1..], &high[1..]);
    let digit = |d: u8| char::from(d);
    let below = |out: &mut Vec<String>, d: u8, from: &str, to: &str| {
        let mut inner = Vec::new();
        cover(from, to, &mut inner);
        out.extend(inner.into_iter().map(|tail| format!("{head}{}{tail}", digit(d))));
    };
    let (nines, zeros) = ("9".repeat(low_tail.len()), "0".repeat(low_tail.len()));
    let from = if all(low_tail, b'0') { first } else { first + 1 };
    let to = if all(high_tail, b'9') { last } else { last - 1 };
    if from > first {
        below(patterns, first, low_tail, &nines);
    }
    if from <= to {
        let class = if from == to { digit(from).to_string() } else { class_of(digit(from), digit(to)) };
        patterns.push(format!("{head}{class}{}", "x".repeat(low_tail.len())));
    }
    if to < last {
        below(patterns, last, &zeros, high_tail);
    }
}

fn class_of(from: char, to: char) -> String {
    if (from, to) == ('0', '9') { String::from("x") } else { format!("[{from}-{to}]") }
}

/// Translates a simple regular expression to a pattern. Returns `None` for other texts.
fn from_regex(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('^').trim_end_matches('$').replace("\\d", "x").replace("\\+", "+");
    let text = text.replace("[0-9]", "x").replace('|', ",").replace(['(', ')'], "");
    let mut out: Vec<String> = Vec::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '[' => rest.find(']')? + 1,
            _ => c.len_utf8(),
        };
        let atom = &rest[..length];
        rest = &rest[length..];
        match c {
            '{' => {
                let (count, after) = rest.split_once('}')?;
                let count: usize = count.parse().ok().filter(|n| (1..=MAX_RANGE_DIGITS).contains(n))?;
                let last = out.pop()?;
                out.extend(std::iter::repeat_n(last, count));
                rest = after;
            }
            '.' | 'x' if rest.starts_with('*') => (out.push(String::from("*")), rest = &rest[1..]).1,
            '.' | 'x' if rest.starts_with('+') => (out.push(String::from("x*")), rest = &rest[1..]).1,
            '.' => out.push(String::from("x")),
            _ => out.push(atom.to_owned()),
        }
    }
    let pattern = out.concat();
    let valid =
        !pattern.contains(|c| REGEX.contains(c)) && pattern.split(',').all(|one| check_alternative(one).is_ok());
    valid.then_some(pattern)
}

fn regex_problem(first: char, fixed: Option<String>) -> PatternProblem {
    let remedy = fixed.map_or_else(|| String::from(PATTERN_HELP), |fixed| format!("write \"{fixed}\""));
    problem(
        format!("this is not a valid pattern: it contains \"{first}\" (regular expressions are not supported)"),
        remedy,
    )
}

fn problem(what: impl Into<String>, remedy: String) -> PatternProblem {
    PatternProblem { what: what.into(), remedy }
}

/// Digit that an example has wherever any digit matches. No usual number plan has a prefix with this digit.
const EXAMPLE_DIGIT: char = '2';
/// A regular expression that matches nothing, for patterns that can never match.
const NEVER: &str = "x^";
/// Short description of the notation for error messages.
const PATTERN_HELP: &str = "x is one digit, * any characters, [2-4] a class, a comma separates patterns";
/// Characters that occur only in regular expressions. `!` and `.` have a meaning in Asterisk's patterns.
const REGEX: &str = r"^$\|(){}?";
/// Characters that occur neither in a normalised number nor in the user part of a telephone number.
const NEVER_IN_NUMBERS: &str = ";/:=\"'<>@%&";
/// Letters from another keyboard layout, and the characters of a dial pattern that they look like.
const LOOKALIKES: [(char, char); 8] =
    [('х', 'x'), ('Х', 'X'), ('χ', 'x'), ('Χ', 'X'), ('×', 'x'), ('О', '0'), ('о', '0'), ('З', '3')];
/// Minimum number of digits for which a text with separators counts as a telephone number.
const MIN_SEPARATED_DIGITS: usize = 5;
/// Maximum number of digits of a number in a range, and of repetitions in a regular expression. E.164 numbers are
/// shorter.
const MAX_RANGE_DIGITS: usize = 16;
/// Maximum length of a number that is matched, characters. It limits the time of matching.
pub(super) const MAX_NUMBER_CHARS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_number_only() {
        let p = NumberPattern::new("1xx,20[0-4],9*5");
        for yes in ["100", "199", "203", "95", "9125"] {
            assert!(p.matches(yes), "{yes}");
        }
        for no in ["10", "1000", "205", "912", "", "1x0"] {
            assert!(!p.matches(no), "{no}");
        }
    }

    #[test]
    fn patterns_of_asterisk_are_understood() {
        for (pattern, yes, no) in [
            ("_1XX", "150", "250"),
            ("_NXX", "200", "100"),
            ("NXX", "999", "199"),
            ("ZXX", "100", "012"),
            ("_9.", "91", "9"),
            ("X.", "12", "1"),
            ("_2X!", "20", "30"),
            ("_+7495XXXXXXX", "+74951234567", "74951234567"),
            ("_[2-4]X", "35", "53"),
            ("_1[0-2]x", "125", "135"),
            ("Nina", "Nina", "2ina"),
        ] {
            assert_eq!(NumberPattern::check(pattern), Ok(()), "{pattern}");
            let p = NumberPattern::new(pattern);
            assert!(p.matches(yes) && !p.matches(no), "{pattern}");
        }
    }

    #[test]
    fn patterns_that_never_match_name_the_right_spelling() {
        for (pattern, spelling) in [
            ("1..", "\"1xx\""),
            ("^1..$", "\"1xx\""),
            (r"\d{3}", "\"xxx\""),
            ("^(1xx|2xx)$", "\"1xx,2xx\""),
            ("^8495.*", "\"8495*\""),
            ("[0-9]+", "\"x*\""),
            ("101-110", "\"10[1-9],110\""),
            ("100-199", "\"1xx\""),
            ("95-105", "\"x is one digit"),
            ("1xx;2xx", "\"1xx,2xx\""),
            ("1xx 2xx", "\"1xx,2xx\""),
            ("+7 (495) 123-45-67", "\"+74951234567\""),
            ("8-495-*", "write the digits only"),
            ("sip:100@pbx", "x is one digit"),
            ("1xx,,2xx", "x is one digit"),
            ("20+", "x is one digit"),
            ("_", "x is one digit"),
            ("_abc", "x is one digit"),
            ("1.2", "x is one digit"),
            ("1хх,2xx", "\"1xx\""),
        ] {
            let found = NumberPattern::check(pattern);
            let remedy = found.err().unwrap_or_else(|| panic!("{pattern} passes")).remedy;
            let wanted = if pattern == "95-105" { "write the digits only" } else { spelling };
            assert!(remedy.contains(wanted), "{pattern}: {remedy}");
        }
    }

    #[test]
    fn example_has_the_wanted_length_and_matches() {
        for (pattern, length, example) in [
            ("8495*", 11, Some("84952222222")),
            ("_8[49]XXN.", 6, Some("842222")),
            ("1xx", 3, Some("122")),
            ("1xx", 4, None),
            ("1xx", 2, None),
            ("*1*", 4, Some("2221")),
        ] {
            let found = NumberPattern::example(pattern, length);
            assert_eq!(found.as_deref(), example, "{pattern}");
            assert!(found.is_none_or(|number| NumberPattern::new(pattern).matches(&number)), "{pattern}");
        }
    }

    #[test]
    fn regular_expression_of_a_pattern_matches_whole_numbers() {
        for (pattern, regex) in [
            ("1xx,2[0-4]x", "^(?:1[0-9][0-9]|2[0-4][0-9])$"),
            ("+7*", "^(?:\\U0000002b7.*)$"),
            ("_NXX.", "^(?:[2-9][0-9][0-9]..*)$"),
            ("a|b", "^(?:a\\U0000007cb)$"),
            // A pattern with an empty class or an empty list matches nothing, and so does the regular expression `x^`.
            ("[9-1]", "x^"),
            ("", "x^"),
            ("[]", "x^"),
        ] {
            assert_eq!(NumberPattern::new(pattern).to_regex(), regex, "{pattern}");
        }
    }

    #[test]
    fn numbers_of_a_pattern_are_those_that_it_matches() {
        for (pattern, first, count) in [
            ("21x", Some("210"), 10),
            ("2[1-3]x,215", Some("210"), 30),
            ("_NX", Some("20"), 80),
            ("101,102", Some("101"), 2),
            ("[9-1]", None, 0),
            ("", None, 0),
        ] {
            let numbers = NumberPattern::new(pattern).numbers(100).unwrap_or_else(|| panic!("{pattern}"));
            assert_eq!((numbers.first().map(String::as_str), numbers.len()), (first, count), "{pattern}");
            assert!(numbers.iter().all(|number| NumberPattern::new(pattern).matches(number)), "{pattern}");
        }
        for pattern in ["xxx", "2*", "_2.", "_2!", "1xx,2x", "[0-9a-zA-Z]x"] {
            assert_eq!(NumberPattern::new(pattern).numbers(100), None, "{pattern}");
        }
    }

    #[test]
    fn a_range_is_covered_exactly() {
        for (low, high) in [(101_u32, 110), (100, 199), (123, 457), (200, 200), (1, 998)] {
            let (low_text, high_text) = (format!("{low:03}"), format!("{high:03}"));
            let pattern = NumberPattern::new(&number_range(&format!("{low_text}-{high_text}")).expect("a range"));
            for n in 0..1000 {
                assert_eq!(pattern.matches(&format!("{n:03}")), (low..=high).contains(&n), "{low}-{high}: {n}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_checked_without_panic(text in "[0-9xXNZ.!*#+_(){}|;,\\\\ -]{0,12}|.{0,12}", number in ".{0,12}") {
            let _ = NumberPattern::check(&text);
            let _ = NumberPattern::check_text(&text);
            let pattern = NumberPattern::new(&text);
            let is_listed = pattern.numbers(100).map(|numbers| numbers.contains(&number));
            proptest::prop_assert!(is_listed.is_none_or(|listed| listed == pattern.matches(&number)));
        }
    }
}
