//! Events about sound that was heard and that no recording has.

use std::time::Duration;

use crate::call::leg::Leg;
use crate::call::record::{EventKind, EventRecord};
use crate::call::roles::CallRoles;
use crate::call::sound_outline::RestOfSound;

/// Returns the event for a busy or reorder tone that is left out of the recording; `None` if no such tone was heard.
///
/// The tone begins with the end of the recorded leg. It may be on several legs, e.g. before and behind a proxy. Then
/// the event has the length of the longest.
pub(crate) fn left_out_tone(legs: &[&Leg], roles: &CallRoles<'_>) -> Option<EventRecord> {
    let at = roles.recorded_leg(legs)?.media.last_at()?;
    let has_tone = |leg: &&&Leg| leg.media.rest_since(at) == RestOfSound::Tone;
    let length = |leg: &&Leg| leg.media.last_at().map_or(Duration::ZERO, |last| last.since(at));
    let longest = legs.iter().filter(has_tone).map(length).max()?;
    let detail = Some(format!("{:.1} s", longest.as_secs_f64()));
    Some(EventRecord { at, kind: EventKind::ToneLeftOut, side: None, detail })
}
