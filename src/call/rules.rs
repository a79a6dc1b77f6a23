//! The `[[rules]]`: what to do with which call.

use crate::call::config::{Config, RuleAction};
use crate::call::conversation::Handling;
use crate::call::numbers::{NumberPlan, Pattern};
use crate::call::party::Parties;
use crate::call::record::Direction;

/// The rules, compiled.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    direction: Option<Direction>,
    number: Option<Pattern>,
    extension: Option<Pattern>,
    header: Option<(String, Pattern)>,
    action: RuleAction,
}

impl Rules {
    /// Compiles the section.
    pub fn new(config: &Config) -> Self {
        let rules = config.rules.iter().map(|rule| Compiled {
            direction: rule.direction,
            number: rule.number.as_deref().map(Pattern::new),
            extension: rule.extension.as_deref().map(Pattern::new),
            header: rule.header.as_ref().map(|(name, pattern)| (name.clone(), Pattern::new(pattern))),
            action: rule.action,
        });
        Self { rules: rules.collect() }
    }

    /// What the first rule that fits says; without one, the call is recorded and registered.
    pub fn handling(&self, parties: &Parties, plan: &NumberPlan) -> Handling {
        let found = self.rules.iter().position(|rule| rule.fits(parties, plan));
        match found.map(|at| (at + 1, self.rules[at].action)) {
            None | Some((_, RuleAction::Record)) => Handling::Record,
            Some((rule, RuleAction::Exclude)) => Handling::Exclude { rule },
            Some((rule, RuleAction::NoRegister)) => Handling::NoRegister { rule },
        }
    }
}

impl Compiled {
    fn fits(&self, parties: &Parties, plan: &NumberPlan) -> bool {
        let (direction, internal) = parties.direction(plan);
        let any = |pattern: &Pattern, values: &[Option<&str>]| values.iter().flatten().any(|v| pattern.matches(v));
        let (from, to) = (parties.from.as_deref(), parties.to.as_deref());
        let extension_of = |number: Option<&'_ str>| number.filter(|n| plan.is_extension(n)).is_some();
        self.direction.is_none_or(|d| d == direction)
            && self.number.as_ref().is_none_or(|p| any(p, &[from, to]))
            && self.extension.as_ref().is_none_or(|p| {
                let ours = |number| if extension_of(number) { number } else { None };
                any(p, &[internal, ours(from), ours(to)])
            })
            && self.header.as_ref().is_none_or(|(name, p)| parties.header(name).is_some_and(|v| p.matches(v)))
    }
}
