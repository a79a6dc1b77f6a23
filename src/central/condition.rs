//! The conditions of a search as SQL of PostgreSQL.

use tokio_postgres::types::ToSql;

use super::calls::system_time;
use crate::call::numbers::NumberPattern;
use crate::journal::{CallSearch, MAX_IDS};

/// A value of a query.
type IndexValue = Box<dyn ToSql + Sync + Send>;

/// Conditions on `callspan.calls c`, joined by AND, and their values.
#[derive(Debug, Default)]
pub(super) struct IndexCondition {
    parts: Vec<String>,
    values: Vec<IndexValue>,
}

impl IndexCondition {
    /// Returns the conditions of a search.
    pub(super) fn of(search: &CallSearch) -> Self {
        let mut condition = Self::default();
        condition.add_extensions(&search.scope.extensions);
        condition.add_any("c.direction", search.scope.directions.iter().map(word).collect());
        condition.add_times(search);
        for digits in &search.numbers {
            let like = condition.value(format!("%{}%", escaped(digits)));
            condition.add(format!("c.digits LIKE {like}"));
        }
        for name in &search.words {
            let like = condition.value(format!("%{}%", escaped(name)));
            condition.add(format!("c.names LIKE {like}"));
        }
        if let Some(ids) = &search.ids {
            let ids = condition.value(ids.iter().take(MAX_IDS).cloned().collect::<Vec<_>>());
            condition.add(format!("c.id = ANY({ids})"));
        }
        condition.add_extensions(&search.extensions);
        condition.add_any("c.direction", search.direction.iter().map(word).collect());
        condition.add_any("c.outcome", search.outcomes.iter().map(word).collect());
        condition.add_any("c.heard", search.heard.iter().map(|class| class.as_str().to_owned()).collect());
        condition.add_any("c.delivery", search.delivery.iter().map(word).collect());
        condition.add_any("c.site", search.site.iter().cloned().collect());
        condition
    }

    /// Adds a value. Returns its placeholder.
    pub(super) fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    /// Adds a condition.
    pub(super) fn add(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Returns the conditions; `true` if there is none.
    pub(super) fn sql(&self) -> String {
        if self.parts.is_empty() { String::from("true") } else { self.parts.join(" AND ") }
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

    /// Adds the condition that an extension of the call matches one of the patterns. A list of plain extensions uses
    /// indexes; other patterns are compared row by row.
    fn add_extensions(&mut self, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        let whole = patterns.join(",");
        let plain: Vec<String> = whole.split(',').map(|part| part.trim().to_owned()).collect();
        let compare = if plain.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
            format!("= ANY({})", self.value(plain))
        } else {
            format!("~ {}", self.value(NumberPattern::new(&whole).to_regex()))
        };
        let columns = ["c.extension", "c.from_extension", "c.to_extension"];
        self.add(format!("({})", columns.map(|column| format!("{column} {compare}")).join(" OR ")));
    }

    fn add_any(&mut self, column: &str, words: Vec<String>) {
        if !words.is_empty() {
            let words = self.value(words);
            self.add(format!("{column} = ANY({words})"));
        }
    }
}

/// Returns the name that serde gives to a unit variant of an enum.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Escapes a text for LIKE, and removes NUL, which no text of PostgreSQL holds.
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

/// Seconds of a day.
const DAY_S: u32 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::CallDirection;
    use crate::journal::CallScope;

    #[test]
    fn scope_and_filters_are_both_conditions() {
        let scope = CallScope { extensions: vec![String::from("1xx")], directions: vec![CallDirection::Inbound] };
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
        assert_eq!(sql.matches("c.direction = ANY").count(), 2, "{sql}");
        assert_eq!(format!("{:?}", condition.values[2]), "\"%49\\\\%5%\"");
        assert_eq!(IndexCondition::of(&CallSearch::default()).sql(), "true");
    }
}
