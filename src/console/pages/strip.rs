//! The strip of the last 24 hours. It is a bar that shows how well the calls of each quarter of an hour could be heard.

use std::time::Duration;

use maud::{Markup, html};

use super::super::text::{Lang, local};
use super::mark;
use crate::journal::{HeardClass, SlotCount};
use crate::time::Timestamp;

/// State of a slot (a quarter of an hour), or of several consecutive slots with the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    /// No call that should have sound began in the quarter of an hour.
    Quiet,
    /// Most calls of the quarter of an hour could be heard on both sides.
    Heard,
    /// In most calls of the quarter of an hour, one side or all sound was missing.
    OneSided,
    /// The recorder lost a part of at least one call of the quarter of an hour.
    Lost,
}

/// Consecutive slots (quarters of an hour) of the 24-hour strip with the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StripRange {
    from: Timestamp,
    to: Timestamp,
    state: SlotState,
}

impl SlotState {
    fn of<'c>(counts: impl Iterator<Item = &'c SlotCount>) -> Self {
        let (mut whole, mut partial, mut lost) = (0, 0, 0);
        for count in counts {
            match count.class {
                HeardClass::Both => whole += count.calls,
                HeardClass::One | HeardClass::Nothing => partial += count.calls,
                HeardClass::Lost => lost += count.calls,
                HeardClass::Locked | HeardClass::Excluded | HeardClass::Unanswered | HeardClass::Pending => {}
            }
        }
        match (whole, partial, lost) {
            (_, _, 1..) => Self::Lost,
            (0, 0, 0) => Self::Quiet,
            _ if partial > whole => Self::OneSided,
            _ => Self::Heard,
        }
    }

    const fn words(self, lang: Lang) -> &'static str {
        match self {
            Self::Quiet => lang.of_two("no calls", "звонков нет"),
            Self::Heard => lang.of_two("heard whole", "слышно целиком"),
            Self::OneSided => lang.of_two("mostly one side or no sound", "в основном одна сторона или без звука"),
            Self::Lost => lang.of_two("lost by us", "потеряно нами"),
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Quiet => "s-none",
            Self::Heard => "s-ok",
            Self::OneSided => "s-warn",
            Self::Lost => "s-bad",
        }
    }
}

/// Returns the start of the strip that ends now: about 24 hours ago, at the beginning of a quarter of an hour.
pub(in super::super) fn begin(now: Timestamp) -> Timestamp {
    let slot = SLOT.as_micros() as i64;
    Timestamp::from_micros(now.as_micros().div_euclid(slot) * slot) - SLOT * (SLOTS - 1)
}

/// Returns the strip of the last 24 hours, with its legend, as HTML.
pub(in super::super) fn strip(lang: Lang, counts: &[SlotCount], now: Timestamp) -> Markup {
    let all = ranges(counts, now);
    let start = begin(now);
    let share = |at: Timestamp| format!("{:.2}%", at.since(start).as_secs_f64() * 100.0 / length(now).as_secs_f64());
    let width = |range: &StripRange| {
        format!("{:.2}%", range.to.since(range.from).as_secs_f64() * 100.0 / length(now).as_secs_f64())
    };
    html! {
        svg.strip.low role="img" aria-label=(label(lang, &all)) {
            defs { pattern id="h2" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" { path.s-hatch d="M0 0v6" {} } }
            @for range in &all {
                rect class=(range.state.class()) x=(share(range.from)) width=(width(range)) y="30" height="14" {}
                @if matches!(range.state, SlotState::OneSided | SlotState::Lost) {
                    rect fill="url(#h2)" x=(share(range.from)) width=(width(range)) y="30" height="14" {} }
            }
            @for at in hours(now) { text x=(share(at)) y="62" text-anchor="middle" { (local(at).strftime("%-H:%M")) } }
            text x="100%" y="62" text-anchor="end" { (lang.of_two("now", "сейчас")) }
        }
        p.legend.small.muted {
            span.v.ok { (mark("ok")) span { (SlotState::Heard.words(lang)) } } " "
            span.v.warn { (mark("caller")) span { (SlotState::OneSided.words(lang)) } } " "
            span.v.bad { (mark("lost")) span { (SlotState::Lost.words(lang)) } }
        }
    }
}

fn length(now: Timestamp) -> Duration {
    now.since(begin(now)).max(SLOT)
}

fn ranges(counts: &[SlotCount], now: Timestamp) -> Vec<StripRange> {
    let mut all: Vec<StripRange> = Vec::new();
    for n in 0..SLOTS {
        let from = begin(now) + SLOT * n;
        let to = (from + SLOT).min(now);
        let state = SlotState::of(counts.iter().filter(|count| count.begin == from));
        match all.last_mut() {
            Some(last) if last.state == state => last.to = to,
            _ => all.push(StripRange { from, to, state }),
        }
    }
    all
}

/// Returns the times that get a label in the strip: every fourth hour of the day, e.g. 8:00 and 12:00. Times near the
/// left or right edge get no label.
fn hours(now: Timestamp) -> Vec<Timestamp> {
    let all = (0..SLOTS).map(|n| begin(now) + SLOT * n);
    let is_labelled = |at: &Timestamp| {
        let time = local(*at);
        let is_inside = now.since(*at) > LABEL_MARGIN && at.since(begin(now)) > LABEL_MARGIN / 3;
        time.minute() == 0 && time.hour() % 4 == 0 && is_inside
    };
    all.filter(is_labelled).collect()
}

/// Returns the strip of the last 24 hours as text for screen readers: the times at which calls could not be heard
/// completely.
fn label(lang: Lang, all: &[StripRange]) -> String {
    let hour = |at: Timestamp| local(at).strftime("%-H:%M").to_string();
    let bad = all.iter().filter(|range| matches!(range.state, SlotState::OneSided | SlotState::Lost));
    let times: Vec<String> =
        bad.map(|range| format!("{}–{}: {}", hour(range.from), hour(range.to), range.state.words(lang))).collect();
    let title = lang.of_two("Calls of the last 24 hours", "Звонки за 24 часа");
    match times.is_empty() {
        true => format!("{title}: {}", lang.of_two("nothing is missing", "ничего не пропало")),
        false => format!("{title}: {}", times.join("; ")),
    }
}

/// Length of a slot, i.e. of one of the equal pieces into which the 24-hour strip is divided: a quarter of an hour.
pub(in super::super) const SLOT: Duration = Duration::from_secs(900);
/// Number of slots (quarters of an hour) in a strip of 24 hours. The last slot is the current quarter of an hour.
const SLOTS: u32 = 96;
/// Length of the part at the end of the 24-hour strip in which times have no labels: about four hours. On a narrow
/// screen, the label "now" needs this space.
const LABEL_MARGIN: Duration = Duration::from_secs(15_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_quarters_are_one_range_and_losses_go_before_all_else() {
        let now = Timestamp::from_secs(1_795_424_400 + 100);
        let slot = |n: u32, class, calls| SlotCount { begin: begin(now) + SLOT * n, class, calls };
        let counts = [
            slot(0, HeardClass::Both, 3),
            slot(1, HeardClass::Both, 2),
            slot(1, HeardClass::One, 1),
            slot(2, HeardClass::One, 2),
            slot(2, HeardClass::Both, 1),
            slot(3, HeardClass::Lost, 1),
            slot(3, HeardClass::Both, 9),
            slot(95, HeardClass::Unanswered, 4),
        ];
        let all = ranges(&counts, now);
        let states: Vec<SlotState> = all.iter().map(|range| range.state).collect();
        assert_eq!(states, [SlotState::Heard, SlotState::OneSided, SlotState::Lost, SlotState::Quiet]);
        assert_eq!((all[0].from, all[0].to), (begin(now), begin(now) + SLOT * 2));
        assert_eq!(all[3].to, now);
        let page = strip(Lang::En, &counts, now).into_string();
        assert!(page.contains("lost by us\"") && page.matches("url(#h2)").count() == 2, "{page}");
        assert!(label(Lang::Ru, &ranges(&[], now)).ends_with("ничего не пропало"));
    }

    #[test]
    fn times_leave_room_for_the_word_now_on_a_telephone() {
        // On a narrow screen the strip is 300 pixels wide. "сейчас" and half of "0:00" take 52 pixels, which is a
        // little over 4 h.
        let room = Duration::from_secs(14_990);
        let moments = (0..96).map(|n| Timestamp::from_secs(1_795_424_400) + SLOT * n);
        assert!(moments.into_iter().all(|now| hours(now).iter().all(|at| now.since(*at) > room)));
    }
}
