//! The conditions of a search, as SQL for PostgreSQL.

use tokio_postgres::types::ToSql;

use super::calls::{SITE_MARK, split_key, system_time};
use crate::call::numbers::NumberPattern;
use crate::journal::{CallSearch, MAX_IDS};

/// A value that is sent to PostgreSQL with a query.
type IndexValue = Box<dyn ToSql + Sync + Send>;

/// Conditions for rows of `callspan.calls c`, joined by AND, and the values in them.
#[derive(Debug, Default)]
pub(super) struct IndexCondition {
    parts: Vec<String>,
    values: Vec<IndexValue>,
    /// The SQL condition on extensions, and an SQL expression for each extension, by which an index is searched. `None`
    /// if the search has no extensions, too many extensions, or an extension with a wildcard.
    plain_extensions: Option<(String, Vec<String>)>,
}

impl IndexCondition {
    /// Returns the conditions of a search as SQL.
    pub(super) fn of(search: &CallSearch) -> Self {
        let mut condition = Self::default();
        condition.add_extensions(&search.scope.extensions);
        condition.add_any("c.direction", search.scope.directions.iter().map(word).collect());
        condition.add_any("c.site", search.scope.sites.clone());
        condition.add_times(search);
        for digits in &search.numbers {
            condition.add_number(digits);
        }
        for name in &search.words {
            let like = condition.value(format!("%{}%", escaped(name)));
            condition.add(format!("c.names LIKE {like}"));
        }
        if let Some(ids) = &search.ids {
            let keys: Vec<String> = ids.iter().take(MAX_IDS).cloned().collect();
            let ids = condition.value(keys.iter().map(|key| split_key(key).1.to_owned()).collect::<Vec<_>>());
            let keys = condition.value(keys);
            condition.add(format!("c.id = ANY({ids}) AND c.site || '{SITE_MARK}' || c.id = ANY({keys})"));
        }
        condition.add_extensions(&search.extensions);
        condition.add_any("c.direction", search.direction.iter().map(word).collect());
        condition.add_any("c.outcome", search.outcomes.iter().map(word).collect());
        condition.add_any("c.heard", search.heard.iter().map(|class| class.as_str().to_owned()).collect());
        condition.add_any("c.delivery", search.delivery.iter().map(word).collect());
        condition.add_any("c.site", search.site.iter().cloned().collect());
        condition
    }

    /// Adds a value to the query. Returns the placeholder for it in the SQL text.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    /// Adds a condition, given as SQL.
    pub(super) fn add(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Returns all conditions as one SQL expression; the SQL word `true` if there is no condition.
    pub(super) fn sql(&self) -> String {
        let plain = self.plain_extensions.as_ref().map(|(condition, _)| condition.as_str());
        joined(self.parts.iter().map(String::as_str).chain(plain))
    }

    /// Returns the values in the order of their placeholders.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }

    fn add_times(&mut self, search: &CallSearch) {
        for (at, sign) in [(search.since, ">="), (search.until, "<")] {
            if let Some(at) = at {
                let at = self.value(system_time(at));
                self.add(format!("c.begin_at {sign} {at}"));
            }
        }
        if let Some((from, to)) = search.time_of_day {
            let second = format!("(floor(extract(epoch FROM c.begin_at))::bigint % {DAY_S})");
            let joint = if from <= to { "AND" } else { "OR" };
            self.add(format!("({second} >= {from} {joint} {second} < {to})"));
        }
        if let Some(min) = search.min_s {
            self.add(format!("c.length_s >= {min}"));
        }
        if let Some(max) = search.max_s {
            self.add(format!("c.length_s <= {max}"));
        }
    }

    /// Adds the condition that a number of the call contains these digits. The index looks for the last ones only, because
    /// each group of three costs a look-up, and many numbers begin alike.
    fn add_number(&mut self, digits: &str) {
        let (begin, _) = digits.char_indices().rev().take(MAX_LOOKED_UP_DIGITS).last().unwrap_or_default();
        let like = self.value(format!("%{}%", escaped(&digits[begin..])));
        self.add(format!("c.digits LIKE {like}"));
        if begin > 0 {
            let whole = self.value(digits.replace('\0', ""));
            self.add(format!("strpos(c.digits, {whole}) > 0"));
        }
    }

    /// Adds the condition that an extension of the call matches one of the patterns. At most [`MAX_LOOKUPS`] extensions
    /// without wildcards are looked up by an index ([`Self::lookups`]). Otherwise PostgreSQL compares row by row.
    fn add_extensions(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let any =
            |compare: String| format!("({})", EXTENSIONS.map(|column| format!("{column} {compare}")).join(" OR "));
        let Some(plain) = plain_list(patterns) else {
            let regex = self.value(NumberPattern::new(&patterns.join(",")).to_regex());
            return self.add(any(format!("~ {regex}")));
        };
        let count = plain.len();
        let list = self.value(plain);
        let condition = any(format!("= ANY({list})"));
        if self.plain_extensions.is_some() || count > MAX_LOOKUPS {
            return self.add(condition);
        }
        // PostgreSQL refuses a query that does not use all its parameters. So both forms of the condition use the same
        // parameter, the list.
        let each = (1..=count).map(|n| format!("({list}::text[])[{n}]")).collect();
        self.plain_extensions = Some((condition, each));
    }

    /// Returns one SQL condition for each index look-up, e.g. `c.extension = '101'` for the first extension. Together
    /// the look-ups find the same calls as [`Self::sql`]. Separate look-ups are needed because PostgreSQL would read
    /// all calls for a single query about a rare extension. Without a short list of extensions, the result is the
    /// single condition [`Self::sql`].
    pub(super) fn lookups(&self) -> Vec<String> {
        let parts = || self.parts.iter().map(String::as_str);
        let Some((_, extensions)) = &self.plain_extensions else { return vec![joined(parts())] };
        let each = extensions.iter().flat_map(|value| EXTENSIONS.map(|column| format!("{column} = {value}")));
        each.map(|by| joined(parts().chain([by.as_str()]))).collect()
    }

    fn add_any(&mut self, column: &str, words: Vec<String>) {
        match words.as_slice() {
            [] => {}
            // PostgreSQL reads an index in its order only if the column is compared with a single value.
            [word] => {
                let word = self.value(word.clone());
                self.add(format!("{column} = {word}"));
            }
            _ => {
                let words = self.value(words);
                self.add(format!("{column} = ANY({words})"));
            }
        }
    }
}

/// Returns whether a search may have to compare texts of many calls. For example, millions of numbers contain the same
/// three digits.
pub(super) fn compares_texts(search: &CallSearch) -> bool {
    let has_wildcards = |patterns: &[String]| !patterns.is_empty() && plain_list(patterns).is_none();
    !search.numbers.is_empty()
        || !search.words.is_empty()
        || has_wildcards(&search.extensions)
        || has_wildcards(&search.scope.extensions)
}

/// Returns the extensions in a list of patterns; `None` if a pattern has wildcards.
fn plain_list(patterns: &[String]) -> Option<Vec<String>> {
    let plain: Vec<String> = patterns.join(",").split(',').map(|part| part.trim().to_owned()).collect();
    plain.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).then_some(plain)
}

/// Joins conditions by AND; returns the SQL word `true` if there is no condition.
fn joined<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.collect();
    if parts.is_empty() { String::from("true") } else { parts.join(" AND ") }
}

/// Returns the name that serde gives to an enum variant without fields.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Escapes a text for the SQL operator LIKE. Removes NUL characters, which PostgreSQL cannot store.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| *c != '\0') {
        if matches!(c, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Columns that contain an extension of the call.
const EXTENSIONS: [&str; 3] = ["c.extension", "c.from_extension", "c.to_extension"];
/// Maximum number of extensions that are looked up by an index. A longer list is compared row by row.
const MAX_LOOKUPS: usize = 16;
/// Maximum number of digits of a number that the index looks for. Few numbers have the same last seven digits.
const MAX_LOOKED_UP_DIGITS: usize = 7;
/// Number of seconds in a day.
const DAY_S: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::CallDirection;
    use crate::journal::CallScope;

    #[test]
    fn scope_and_filters_are_both_conditions() {
        let scope = CallScope {
            extensions: vec![String::from("1xx")],
            directions: vec![CallDirection::Inbound],
            sites: vec![],
        };
        let search = CallSearch {
            scope,
            numbers: vec![String::from("49%5")],
            extensions: vec![String::from("101"), String::from("102")],
            direction: Some(CallDirection::Outbound),
            ..CallSearch::default()
        };
        let condition = IndexCondition::of(&search);
        let sql = condition.sql();
        assert!(sql.contains("c.extension ~ $1") && sql.contains("c.extension = ANY($4)"), "{sql}");
        assert_eq!(sql.matches("c.direction = $").count(), 2, "{sql}");
        let lookups = condition.lookups();
        assert_eq!(lookups.len(), 6);
        assert!(lookups.iter().all(|sql| sql.contains("c.extension ~ $1") && !sql.contains("ANY($4)")), "{lookups:?}");
        assert!(lookups[4].ends_with("c.from_extension = ($4::text[])[2]"), "{lookups:?}");
        assert_eq!(format!("{:?}", condition.values[2]), "\"%49\\\\%5%\"");
        let long = CallSearch { numbers: vec![String::from("74951234567")], ..CallSearch::default() };
        let long = IndexCondition::of(&long);
        assert_eq!(long.sql(), "c.digits LIKE $1 AND strpos(c.digits, $2) > 0");
        assert_eq!(format!("{:?}", long.values), "[\"%1234567%\", \"74951234567\"]");
        let all = IndexCondition::of(&CallSearch::default());
        assert_eq!((all.sql().as_str(), all.lookups()), ("true", vec![String::from("true")]));
    }
}
