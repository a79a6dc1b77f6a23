//! The conditions of a search, as SQL for PostgreSQL.

use tokio_postgres::types::ToSql;

use super::calls::{SITE_MARK, split_key, system_time};
use crate::call::numbers::NumberPattern;
use crate::journal::{CallSearch, MAX_IDS};

/// A value that is sent to PostgreSQL with a query.
type IndexValue = Box<dyn ToSql + Sync + Send>;

/// SQL conditions for rows of the table `callspan.calls`, joined by AND, and the values in them.
#[derive(Debug, Default)]
pub(super) struct IndexCondition {
    /// Conditions on the time and the site. PostgreSQL has database indexes for them: all calls in order of time, and
    /// the calls of each site in order of time.
    range: Vec<String>,
    /// Further conditions, e.g. on the length of a call.
    parts: Vec<String>,
    values: Vec<IndexValue>,
    /// Telephone extensions of the search that a database index looks up. `None` if the search names no extension, or
    /// if its pattern matches too many extensions.
    extensions: Option<LookedUpExtensions>,
}

/// Telephone extensions to which a search is limited. Each extension is looked up by itself in a database index, which
/// is fast for a rare extension.
#[derive(Debug)]
struct LookedUpExtensions {
    /// SQL placeholder of the list of telephone extensions, e.g. `$1`.
    list: String,
    count: usize,
}

impl IndexCondition {
    /// Returns the conditions of a search as SQL.
    pub(super) fn of(search: &CallSearch) -> Self {
        let mut condition = Self::default();
        condition.add_extensions(&search.scope.extensions);
        condition.add_any("c.direction", search.scope.directions.iter().map(word).collect());
        condition.add_sites(search.scope.sites.clone());
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
        condition.add_sites(search.site.iter().cloned().collect());
        condition
    }

    /// Adds a value to the query. Returns the placeholder for it in the SQL text.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    /// Adds a condition to the search, given as SQL.
    pub(super) fn add(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Returns all conditions as one SQL expression; the SQL word `true` if there is no condition.
    pub(super) fn sql(&self) -> String {
        let list = self.extensions.as_ref().map(|extensions| any_extension(&format!("= ANY({})", extensions.list)));
        joined(self.range.iter().chain(&self.parts).map(String::as_str).chain(list.as_deref()))
    }

    /// Returns two SQL expressions: the conditions on time and site, and all other conditions. The second is `None` if
    /// there are no other conditions.
    pub(super) fn range_and_others(&self) -> (String, Option<String>) {
        let others = (!self.parts.is_empty()).then(|| joined(self.parts.iter().map(String::as_str)));
        (joined(self.range.iter().map(String::as_str)), others)
    }

    /// Returns the number of extensions of the search that a database index looks up one by one. Returns `None` if they
    /// are not looked up in this way.
    pub(super) fn looked_up(&self) -> Option<usize> {
        self.extensions.as_ref().map(|extensions| extensions.count)
    }

    /// Returns SQL queries that together find all calls that meet the conditions. Each query returns the columns of the
    /// newest calls: at most `limit` calls, or at most `limit` calls of each extension.
    ///
    /// Each extension is looked up by itself in each column, because PostgreSQL would read all calls for a single query
    /// about a rare extension. Two queries can find the same call.
    pub(super) fn queries(&self, columns: &str, limit: u64) -> Vec<String> {
        let query = |by: Option<&str>| {
            format!(
                "SELECT {columns} FROM callspan.calls c WHERE {} ORDER BY c.begin_at DESC, c.id DESC LIMIT {limit}",
                joined(self.range.iter().chain(&self.parts).map(String::as_str).chain(by))
            )
        };
        let Some(LookedUpExtensions { list, .. }) = &self.extensions else { return vec![format!("({})", query(None))] };
        let of_column = |column: &str| {
            let by_extension = query(Some(&format!("{column} = e.extension")));
            format!("(SELECT f.* FROM unnest({list}::text[]) e(extension) CROSS JOIN LATERAL ({by_extension}) f)")
        };
        EXTENSIONS.map(of_column).to_vec()
    }

    /// Returns the values of the conditions, in the order of their placeholders in the SQL text.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }

    fn add_times(&mut self, search: &CallSearch) {
        for (at, sign) in [(search.since, ">="), (search.until, "<")] {
            if let Some(at) = at {
                let at = self.value(system_time(at));
                self.range.push(format!("c.begin_at {sign} {at}"));
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

    /// Adds the condition that a number of the call contains these digits. Only the last digits are looked up in a
    /// database index, because each group of three digits costs a look-up. Also, the first digits of many numbers are
    /// equal.
    fn add_number(&mut self, digits: &str) {
        let (begin, _) = digits.char_indices().rev().take(MAX_LOOKED_UP_DIGITS).last().unwrap_or_default();
        let like = self.value(format!("%{}%", escaped(&digits[begin..])));
        self.add(format!("c.digits LIKE {like}"));
        if begin > 0 {
            let whole = self.value(digits.replace('\0', ""));
            self.add(format!("strpos(c.digits, {whole}) > 0"));
        }
    }

    /// Adds the condition that a telephone extension of the call matches one of the patterns. At most [`MAX_LOOKUPS`]
    /// extensions are looked up by a database index ([`Self::queries`]). For more extensions, PostgreSQL compares row
    /// by row.
    fn add_extensions(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let pattern = NumberPattern::new(&patterns.join(","));
        let Some(extensions) = pattern.numbers(MAX_LISTED) else {
            let regex = self.value(pattern.to_regex());
            return self.add(any_extension(&format!("~ {regex}")));
        };
        // No text in PostgreSQL contains NUL, so extensions with NUL are left out.
        let extensions: Vec<String> = extensions.into_iter().filter(|extension| !extension.contains('\0')).collect();
        let count = extensions.len();
        let list = self.value(extensions);
        if self.extensions.is_some() || count > MAX_LOOKUPS {
            return self.add(any_extension(&format!("= ANY({list})")));
        }
        self.extensions = Some(LookedUpExtensions { list, count });
    }

    fn add_sites(&mut self, sites: Vec<String>) {
        if let Some(condition) = self.any("c.site", sites) {
            self.range.push(condition);
        }
    }

    fn add_any(&mut self, column: &str, words: Vec<String>) {
        if let Some(condition) = self.any(column, words) {
            self.add(condition);
        }
    }

    /// Returns the SQL condition that the value of a column equals one of the words; `None` if there are no words.
    fn any(&mut self, column: &str, words: Vec<String>) -> Option<String> {
        match words.as_slice() {
            [] => None,
            // PostgreSQL reads a database index in its order only if the column is compared with a single value. So a
            // single word gets `=`, and only several words get a list.
            [word] => {
                let word = self.value(word.clone());
                Some(format!("{column} = {word}"))
            }
            _ => {
                let words = self.value(words);
                Some(format!("{column} = ANY({words})"))
            }
        }
    }
}

/// Returns an SQL condition: it is true if at least one of the call's columns with an extension fulfils `comparison`.
fn any_extension(comparison: &str) -> String {
    format!("({})", EXTENSIONS.map(|column| format!("{column} {comparison}")).join(" OR "))
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
/// Maximum number of extensions that are looked up by a database index, e.g. those of the pattern `2xx`. A longer list
/// is compared row by row.
const MAX_LOOKUPS: usize = 100;
/// Maximum number of extensions that are written into a query as a list. A pattern that matches more extensions becomes
/// a regular expression.
const MAX_LISTED: usize = 1_000;
/// Maximum number of digits of a telephone number that a database index looks for. Few numbers have the same last seven
/// digits.
const MAX_LOOKED_UP_DIGITS: usize = 7;
/// Number of seconds in a day.
const DAY_S: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::CallDirection;
    use crate::journal::CallScope;

    #[test]
    fn extensions_of_a_wide_pattern_are_compared_row_by_row() {
        for (pattern, comparison) in [("xxx", "= ANY($1)"), ("2*", "~ $1"), ("xxxx", "~ $1")] {
            let search = CallSearch { extensions: vec![String::from(pattern)], ..CallSearch::default() };
            let condition = IndexCondition::of(&search);
            let (range, others) = condition.range_and_others();
            assert_eq!((range.as_str(), condition.looked_up()), ("true", None), "{pattern}");
            assert!(others.is_some_and(|sql| sql.contains(&format!("c.to_extension {comparison}"))), "{pattern}");
        }
    }

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
        assert!(sql.contains("c.extension = ANY($1)") && sql.contains("c.extension = ANY($4)"), "{sql}");
        assert_eq!(sql.matches("c.direction = $").count(), 2, "{sql}");
        assert_eq!(condition.looked_up(), Some(100));
        let queries = condition.queries("c.id", 51);
        assert_eq!(queries.len(), 3);
        assert!(
            queries.iter().all(|sql| sql.contains("unnest($1::text[])") && sql.contains("= ANY($4)")),
            "{queries:?}"
        );
        assert!(queries[1].contains("c.from_extension = e.extension ORDER BY"), "{queries:?}");
        assert_eq!(format!("{:?}", condition.values[2]), "\"%49\\\\%5%\"");
        let long = CallSearch { numbers: vec![String::from("74951234567")], ..CallSearch::default() };
        let long = IndexCondition::of(&long);
        assert_eq!(long.sql(), "c.digits LIKE $1 AND strpos(c.digits, $2) > 0");
        assert_eq!(format!("{:?}", long.values), "[\"%1234567%\", \"74951234567\"]");
        let all = IndexCondition::of(&CallSearch::default());
        assert_eq!((all.sql().as_str(), all.queries("c.id", 1).len(), all.looked_up()), ("true", 1, None));
    }
}
