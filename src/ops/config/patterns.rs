//! Finds number patterns that are valid but match other numbers than the administrator expects.

use super::Config;
use super::finding::ConfigFinding;
use super::raw::{ConfigValue, RawConfig};
use crate::call::numbers::{NumberPattern, NumberPlan};

/// Appends warnings about two mistakes: `[[rules]]` with numbers as people dial them, and an `extension_pattern` that
/// matches outside numbers.
pub(super) fn check(config: &Config, raw: &RawConfig, findings: &mut Vec<ConfigFinding>) {
    let plan = NumberPlan::new(&config.call.numbers);
    for rule in &raw.rules {
        let Some(given) = rule.group.get("number") else { continue };
        let ConfigValue::Text(pattern) = &given.value else { continue };
        if let Some((what, remedy)) = number_as_dialled(pattern, &plan) {
            findings.push(ConfigFinding::warning(given.line, what, remedy));
        }
    }
    let extensions = &config.call.numbers.extension_pattern;
    let outside = OUTSIDE_NUMBERS.iter().find(|number| NumberPattern::new(extensions).matches(number));
    if let Some(number) = outside {
        let line = raw.get("numbers", "extension_pattern").map(|given| given.line);
        let what = format!(
            "numbers.extension_pattern also matches outside numbers such as {number}: their calls would be internal"
        );
        findings.push(ConfigFinding::warning(line, what, "write one x for each digit, for example \"xxx\""));
    }
}

/// Finds a part of a rule's pattern that is written for numbers as people dial them, e.g. `8495xxxxxxx`. Rules compare
/// with the stored form (E.164, `+7495…`), so this part never matches. Returns problem and remedy.
fn number_as_dialled(pattern: &str, plan: &NumberPlan) -> Option<(String, String)> {
    let whole = NumberPattern::new(pattern);
    pattern.split(',').map(str::trim).find_map(|one| {
        let (dialled, stored) = EXAMPLE_DIGITS.filter_map(|digits| NumberPattern::example(one, digits)).find_map(|n| {
            let stored = plan.normalise(&n)?;
            (stored != n && !whole.matches(&stored)).then_some((n, stored))
        })?;
        let what = format!(
            "rules.number: \"{one}\" does not match outside numbers as they are stored: {dialled} becomes {stored} ([numbers] country_code)"
        );
        let remedy = stored_form(one, &dialled, &stored);
        // The remedy suggests a second pattern and keeps the configured pattern, because the configured pattern may
        // also be meant for extensions.
        let add = |stored: String| format!("write \"{one},{stored}\"");
        Some((what, remedy.map_or_else(|| String::from("add a pattern that begins with +"), add)))
    })
}

/// Converts a pattern for dialled numbers to a pattern for stored numbers. `dialled` and `stored` are two forms of one
/// number, e.g. `8495…` and `+7495…`. In the returned pattern, the first digits of `stored` replace the first digits of
/// `dialled`.
fn stored_form(pattern: &str, dialled: &str, stored: &str) -> Option<String> {
    let same = dialled.bytes().rev().zip(stored.bytes().rev()).take_while(|(a, b)| a == b).count();
    let (removed, added) = (&dialled[..dialled.len() - same], &stored[..stored.len() - same]);
    let (mark, body) = pattern.strip_prefix('_').map_or(("", pattern), |body| ("_", body));
    Some(format!("{mark}{added}{}", body.strip_prefix(removed)?))
}

/// Numbers of digits of the example numbers with which a pattern is tested: from a local number to the longest E.164
/// number.
const EXAMPLE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Outside numbers, national and international, that no pattern of extensions should match.
const OUTSIDE_NUMBERS: [&str; 3] = ["84951234567", "4951234567", "+74951234567"];
