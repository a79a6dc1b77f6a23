//! The `[[rules]]` of the configuration: they decide whether a call is recorded, and whether it is registered in Pyrus.

use crate::call::config::{Config, RuleAction};
use crate::call::conversation::RecordingPolicy;
use crate::call::numbers::{NumberPattern, NumberPlan};
use crate::call::party::LegParties;
use crate::call::record::{CallDirection, CallRecord};

/// The rules of the configuration in compiled form.
#[derive(Clone, Debug)]
pub(crate) struct CallRules {
    rules: Vec<CompiledRule>,
}

#[derive(Clone, Debug)]
struct CompiledRule {
    direction: Option<CallDirection>,
    number: Option<NumberPattern>,
    extension: Option<NumberPattern>,
    header: Option<(String, NumberPattern)>,
    action: RuleAction,
}

/// A call as it is now, to which the rules are applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleSubject<'a> {
    /// The call record as of now.
    pub(crate) record: &'a CallRecord,
    /// Parties of the call's legs, with the headers that rules compare.
    pub(crate) parties: &'a [&'a LegParties],
    /// Whether the extension in the record only rings so far. Another extension may still answer.
    pub(crate) undecided: bool,
}

impl CallRules {
    /// Compiles the rules of the configuration, in their order.
    pub(crate) fn new(config: &Config) -> Self {
        let rules = config.rules.iter().map(|rule| CompiledRule {
            direction: rule.direction,
            number: rule.number.as_deref().map(NumberPattern::new),
            extension: rule.extension.as_deref().map(NumberPattern::new),
            header: rule.header.as_ref().map(|(name, pattern)| (name.clone(), NumberPattern::of_text(pattern))),
            action: rule.action,
        });
        Self { rules: rules.collect() }
    }

    /// Returns whether the configuration has no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the policy of the first rule that matches the call. If none matches, the call is recorded, and
    /// registered in Pyrus.
    ///
    /// A rule about an extension does not exclude the call while the extension only rings. Recorded media can be
    /// deleted later, but media that was not recorded is lost.
    pub(crate) fn handling(&self, subject: RuleSubject<'_>, plan: &NumberPlan) -> RecordingPolicy {
        let internal = subject.record.internal.as_deref();
        let found = self.first(subject, internal, plan);
        if subject.undecided && matches!(found, RecordingPolicy::Exclude { .. }) {
            return self.first(subject, None, plan);
        }
        found
    }

    fn first(&self, subject: RuleSubject<'_>, internal: Option<&str>, plan: &NumberPlan) -> RecordingPolicy {
        let found = self.rules.iter().position(|rule| rule.fits(subject, internal, plan));
        match found.map(|at| (at + 1, self.rules[at].action)) {
            None | Some((_, RuleAction::Record)) => RecordingPolicy::Record,
            Some((rule, RuleAction::Exclude)) => RecordingPolicy::Exclude { rule },
            Some((rule, RuleAction::NoRegister)) => RecordingPolicy::NoRegister { rule },
        }
    }
}

impl CompiledRule {
    fn fits(&self, subject: RuleSubject<'_>, internal: Option<&str>, plan: &NumberPlan) -> bool {
        let record = subject.record;
        let any =
            |pattern: &NumberPattern, values: &[Option<&str>]| values.iter().flatten().any(|v| pattern.matches(v));
        let (from, to) = (record.from.as_deref(), record.to.as_deref());
        let ours = |number: Option<&'_ str>| number.filter(|n| plan.is_extension(n)).map(str::to_owned);
        self.direction.is_none_or(|d| d == record.direction)
            && self.number.as_ref().is_none_or(|p| any(p, &[from, to]))
            && self.extension.as_ref().is_none_or(|p| any(p, &[internal, ours(from).as_deref(), ours(to).as_deref()]))
            && self.header.as_ref().is_none_or(|(name, p)| {
                subject.parties.iter().any(|parties| parties.header(name).is_some_and(|v| p.matches(v)))
            })
    }
}
