//! Language of the sentences that the commands print. It comes from the option `--lang` or, without this option, from
//! the environment.

use std::sync::OnceLock;

use crate::call::correlation_rule::CorrelationRule;
use crate::call::phrasebook::TextLanguage;
use crate::call::reason_ru::russian_reason;
use crate::console::russian_rule;
use crate::delivery::reason_ru::DELIVERY_REASONS;
use crate::ops::alarm_ru::ALARMS;

/// Language of the sentences that the commands print. Labels, words for scripts and JSON do not depend on the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CliLanguage {
    /// English.
    En,
    /// Russian.
    Ru,
}

impl CliLanguage {
    /// Sets the language of this process to `given`; if `given` is `None`, to the language of the environment.
    pub(crate) fn choose(given: Option<Self>) {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let of_environment = || ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(variable);
        let chosen = given.unwrap_or_else(|| Self::of_locale(&of_environment().unwrap_or_default()));
        let _ = CHOSEN.set(chosen); // only the first call in a process has an effect
    }

    /// Returns the language that was set for this process.
    pub(crate) fn current() -> Self {
        *CHOSEN.get().unwrap_or(&Self::En)
    }

    /// Returns the reason of a verdict (whether the call can be heard) in this language. A sentence without a
    /// translation, e.g. of another version, stays English.
    pub(crate) fn reason(self, reason: &str) -> String {
        match self {
            Self::Ru => russian_reason(reason).unwrap_or_else(|| reason.to_owned()),
            Self::En => reason.to_owned(),
        }
    }

    /// Returns the same language in the type that alarms, findings and delivery use.
    pub(crate) const fn of_texts(self) -> TextLanguage {
        match self {
            Self::En => TextLanguage::En,
            Self::Ru => TextLanguage::Ru,
        }
    }

    /// Translates a reason of delivery, e.g. why a delivery is parked (waits for a person), to this language.
    pub(crate) fn delivery(self, reason: &str) -> String {
        DELIVERY_REASONS.shown(self.of_texts(), reason)
    }

    /// Translates the description of an alarm, or of a step of a test call, to this language.
    pub(crate) fn alarm(self, detail: &str) -> String {
        ALARMS.shown(self.of_texts(), detail)
    }

    /// Returns the sentence that explains why a leg belongs to its call, in this language.
    pub(crate) const fn rule(self, rule: CorrelationRule) -> &'static str {
        match self {
            Self::En => rule.sentence(),
            Self::Ru => russian_rule(rule),
        }
    }

    fn of_locale(locale: &str) -> Self {
        if locale.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("ru")) { Self::Ru } else { Self::En }
    }
}

static CHOSEN: OnceLock<CliLanguage> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locale_chooses_russian_and_anything_else_english() {
        for (locale, language) in [
            ("ru_RU.UTF-8", CliLanguage::Ru),
            ("RU", CliLanguage::Ru),
            ("C.UTF-8", CliLanguage::En),
            ("", CliLanguage::En),
            ("р", CliLanguage::En),
        ] {
            assert_eq!(CliLanguage::of_locale(locale), language, "{locale}");
        }
    }
}
