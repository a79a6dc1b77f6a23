//! The telephone numbers of a test call. With `--deliver` the defaults make a call that the configuration delivers.

use crate::call::config::NumbersConfig;
use crate::call::numbers::{NumberPattern, NumberPlan};
use crate::call::record::CallDirection;
use crate::call::test_call::TestCallOrder;
use crate::ops::config::Config;
use crate::pyrus::executor::policy;

/// Telephone numbers of both parties of a test call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestCallNumbers {
    /// Number of the caller.
    pub(super) from: String,
    /// Number of the callee.
    pub(super) to: String,
}

impl TestCallNumbers {
    /// Chooses the numbers that are not given. Without delivery, an extension calls an extension. With delivery, one
    /// party is outside, in a direction that `pyrus.directions` delivers to Pyrus.
    pub(super) fn choose(from: Option<&str>, to: Option<&str>, order: TestCallOrder, config: &Config) -> Self {
        let with_defaults = |default_from: &str, default_to: &str| Self {
            from: from.unwrap_or(default_from).to_owned(),
            to: to.unwrap_or(default_to).to_owned(),
        };
        let internal = with_defaults(CALLER, CALLEE);
        if order == TestCallOrder::RecordOnly {
            return internal;
        }
        let plan = NumberPlan::new(&config.call.numbers);
        let extension = extension(&config.call.numbers, &plan);
        let outside = [with_defaults(OUTSIDE, &extension), with_defaults(&extension, OUTSIDE)];
        outside.into_iter().find(|numbers| numbers.are_registered(&plan, config)).unwrap_or(internal)
    }

    /// Returns whether the direction of a call between these numbers is known, and `pyrus.directions` contains it.
    fn are_registered(&self, plan: &NumberPlan, config: &Config) -> bool {
        let [from, to] = [&self.from, &self.to].map(|number| plan.normalise(number));
        let direction = plan.direction(from.as_deref(), to.as_deref());
        direction != CallDirection::Unknown && policy(&config.pyrus).wants_direction(direction)
    }
}

/// Returns the default callee if it is an extension. Otherwise returns a listed extension, or a number that matches
/// `extension_pattern`.
fn extension(numbers: &NumbersConfig, plan: &NumberPlan) -> String {
    if plan.is_extension(CALLEE) {
        return CALLEE.to_owned();
    }
    let patterns = || numbers.extension_pattern.split(',').map(str::trim);
    let example = |one: &str| EXTENSION_DIGITS.into_iter().find_map(|digits| NumberPattern::example(one, digits));
    let by_pattern = || patterns().find_map(example);
    numbers.extensions.first().cloned().or_else(by_pattern).unwrap_or_else(|| CALLEE.to_owned())
}

/// Default number of the caller.
const CALLER: &str = "198";
/// Default number of the callee.
const CALLEE: &str = "199";
/// Number of the party outside. Nobody has it: no subscriber number in Moscow begins with 0.
const OUTSIDE: &str = "+74950000000";
/// Numbers of digits of an extension, the most usual first.
const EXTENSION_DIGITS: [usize; 7] = [3, 4, 2, 5, 6, 7, 8];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::config::{ConfigPurpose, SecretSources};

    fn chosen(from: Option<&str>, to: Option<&str>, order: TestCallOrder, toml: &str) -> [String; 2] {
        let config = Config::from_text(toml, "test", ConfigPurpose::Inspect, &SecretSources::default());
        let TestCallNumbers { from, to } = TestCallNumbers::choose(from, to, order, &config.expect("valid").config);
        [from, to]
    }

    #[test]
    fn delivered_call_has_numbers_that_the_configuration_registers() {
        let deliver = |toml: &str| chosen(None, None, TestCallOrder::Deliver, toml);
        assert_eq!(chosen(None, None, TestCallOrder::RecordOnly, ""), [CALLER, CALLEE]);
        assert_eq!(deliver(""), [OUTSIDE, CALLEE]);
        assert_eq!(deliver("[pyrus]\ndirections = [\"outbound\"]\n"), [CALLEE, OUTSIDE]);
        assert_eq!(deliver("[pyrus]\ndirections = [\"internal\"]\n"), [CALLER, CALLEE]);
        let inbound = "[pyrus]\ndirections = [\"inbound\"]\n";
        assert_eq!(deliver(&format!("{inbound}[numbers]\nextension_pattern = \"3xx\"\n")), [OUTSIDE, "322"]);
        let listed = "[numbers]\nextension_pattern = \"3xx\"\nextensions = [\"reception\"]\n";
        assert_eq!(deliver(&format!("{inbound}{listed}")), [OUTSIDE, "reception"]);
        let plan = "[numbers]\ncountry_code = \"7\"\nnational_prefix = \"8\"\noutside_prefix = \"9\"\n";
        assert_eq!(deliver(plan), [OUTSIDE, CALLEE]);
    }

    #[test]
    fn given_numbers_stay_and_the_other_party_is_outside() {
        let deliver = |from, to| chosen(from, to, TestCallOrder::Deliver, "");
        assert_eq!(deliver(Some("101"), None), ["101", OUTSIDE]);
        assert_eq!(deliver(None, Some("102")), [OUTSIDE, "102"]);
        assert_eq!(deliver(None, Some("+74951234567")), [CALLEE, "+74951234567"]);
        assert_eq!(deliver(Some("101"), Some("102")), ["101", "102"]);
    }
}
