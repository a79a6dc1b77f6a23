//! The waveform of a recording: both channels on one timeline, with the events of the call, as an SVG drawing.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::super::call::CallFacts;
use super::super::text::{Lang, length};
use crate::call::record::{CallRecord, EventKind, Side};
use crate::time::Timestamp;

/// A mark on the timeline of a recording. Positions are in seconds from the start of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct TimelineMark {
    /// Kind of the mark, which decides how it is drawn.
    pub(in super::super) kind: MarkKind,
    /// Start of the mark (e.g. of a hold) in seconds from the start of the recording's timeline.
    pub(in super::super) from: f64,
    /// End of the mark, seconds; `None` for an event at one moment.
    pub(in super::super) to: Option<f64>,
    /// The side that caused the event; `None` if unknown or if the mark concerns both sides.
    pub(in super::super) side: Option<Side>,
    /// Text with details of the event; `None` if there are none.
    pub(in super::super) detail: Option<String>,
}

/// Kind of a mark on the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum MarkKind {
    /// A time in which the call was on hold, drawn as a hatched band.
    Hold,
    /// A pause of the recording, drawn as a dashed box.
    Pause,
    /// DTMF keys, drawn as one dot for each key.
    Keys,
    /// Start of the segment (part) with this number, drawn as a double line.
    Part(u32),
    /// Missing packets of one side, drawn as a bar in the lane of the side: number of packets, and duration of the
    /// concealment in milliseconds.
    Loss { packets: u64, concealed_ms: u64 },
    /// An event for which there is no separate kind of mark, drawn as a dashed line.
    Event(EventKind),
}

/// The timeline of a recording, on which its segments follow each other without gaps.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Timeline {
    /// Start and end of each segment (file of the recording) on the timeline, seconds.
    pub(in super::super) parts: Vec<(f64, f64)>,
    /// Wall-clock time of the first sample of each segment, i.e. file of the recording.
    starts: Vec<Timestamp>,
    /// Marks on the timeline, sorted by their start.
    pub(in super::super) marks: Vec<TimelineMark>,
}

impl Timeline {
    /// Returns the timeline of a call's recording.
    pub(in super::super) fn of(record: &CallRecord) -> Self {
        let mut line = Self::default();
        let mut at = 0.0;
        for file in &record.recordings {
            line.parts.push((at, at + file.duration_s));
            line.starts.push(file.starts_at);
            if at > 0.0 {
                line.add(MarkKind::Part(file.part), at, None);
            }
            at += file.duration_s;
        }
        line.add_events(record);
        for pause in &record.paused {
            let to = pause.to.map(|to| line.place(to));
            line.add(MarkKind::Pause, line.place(pause.from), to);
        }
        line.add_losses(record);
        line.marks.retain(|mark| mark.from <= at && mark.to.is_none_or(|to| to > 0.0));
        line.marks.sort_by(|a, b| a.from.total_cmp(&b.from));
        line.marks.truncate(MAX_MARKS);
        line
    }

    /// Returns the length of the timeline, seconds.
    pub(in super::super) fn end(&self) -> f64 {
        self.parts.last().map_or(0.0, |(_, to)| *to)
    }

    /// Returns the position of a wall-clock time on the timeline, seconds from its start.
    fn place(&self, at: Timestamp) -> f64 {
        let part = self.starts.iter().rposition(|start| *start <= at).unwrap_or(0);
        let (Some((from, to)), Some(start)) = (self.parts.get(part), self.starts.get(part)) else { return 0.0 };
        (from + at.nanos_since(*start) as f64 / 1e9).clamp(0.0, *to)
    }

    fn add(&mut self, kind: MarkKind, from: f64, to: Option<f64>) {
        self.marks.push(TimelineMark { kind, from, to, side: None, detail: None });
    }

    fn add_losses(&mut self, record: &CallRecord) {
        for side in [Side::Caller, Side::Callee] {
            for loss in &record.sides.get(side).losses {
                self.marks.push(TimelineMark {
                    kind: MarkKind::Loss { packets: loss.packets, concealed_ms: loss.concealed_ms },
                    from: self.place(loss.from),
                    to: Some(self.place(loss.to)),
                    side: Some(side),
                    detail: None,
                });
            }
        }
    }

    fn add_events(&mut self, record: &CallRecord) {
        for event in &record.events {
            let at = self.place(event.at);
            let is_open = |mark: &&mut TimelineMark, kind: MarkKind| mark.kind == kind && mark.side == event.side;
            match event.kind {
                EventKind::Pause | EventKind::Unpause => continue, // pauses are drawn from `record.paused`
                EventKind::Resume => {
                    let mut open = self.marks.iter_mut().rev();
                    if let Some(hold) = open.find(|mark| is_open(mark, MarkKind::Hold) && mark.to.is_none()) {
                        hold.to = Some(at);
                        continue;
                    }
                }
                EventKind::Dtmf => {
                    let mut earlier = self.marks.iter_mut().rev();
                    let keys = earlier.find(|mark| is_open(mark, MarkKind::Keys));
                    if let Some(keys) = keys.filter(|keys| at - keys.to.unwrap_or(keys.from) < KEYS_TOGETHER_S) {
                        keys.to = Some(at);
                        continue;
                    }
                }
                _ => {}
            }
            let kind = match event.kind {
                EventKind::Hold => MarkKind::Hold,
                EventKind::Dtmf => MarkKind::Keys,
                other => MarkKind::Event(other),
            };
            self.marks.push(TimelineMark { kind, from: at, to: None, side: event.side, detail: event.detail.clone() });
        }
    }
}

/// Reduces the peaks of a channel to at most `pieces` pieces. Each new piece has the lowest and highest sample of the
/// pieces that it replaces.
pub(in super::super) fn reduced(channel: &[(i8, i8)], pieces: usize) -> Vec<(i8, i8)> {
    let count = pieces.min(channel.len());
    let piece = |n: usize| {
        let (from, to) = (n * channel.len() / count, ((n + 1) * channel.len()).div_ceil(count));
        let all = channel.get(from..to.max(from + 1)).unwrap_or_default();
        (all.iter().map(|p| p.0).min().unwrap_or(0), all.iter().map(|p| p.1).max().unwrap_or(0))
    };
    (0..count).map(piece).collect()
}

/// Returns the waveform of a call's recording as SVG.
pub(in super::super) fn waveform(lang: Lang, facts: &CallFacts, line: &Timeline) -> Markup {
    let end = line.end().max(0.001);
    let percent = |s: f64| format!("{:.3}%", (s / end * 100.0).clamp(0.0, 100.0));
    let t = |en, ru| lang.of_two(en, ru);
    let label = format!(
        "{} {}. {}",
        t("Sound of both sides over", "Звук обеих сторон,"),
        length(end),
        t("What happened is listed below.", "События перечислены ниже.")
    );
    html! {
        div.wave {
            svg.whole role="img" aria-label=(label) {
                defs { pattern id="ht" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" { path.hatch d="M0 0v7" {} } }
                (ticks(end, &percent))
                rect.lane x="0" y="66" width="100%" height="78" {}
                rect.lane x="0" y="164" width="100%" height="78" {}
                (lane(facts, line, 0, "pk-l", 66))
                (lane(facts, line, 1, "pk-r", 164))
                @for mark in &line.marks { (shape(lang, mark, end, &percent)) }
                rect.played x="0" width="0%" y="66" height="176" opacity=".35" {}
                text.lab-l x="6" y="60" { "L \u{a0}" (t("caller", "звонивший")) }
                text.lab-r x="6" y="158" { "R \u{a0}" (t("callee", "ответивший")) }
                @for (n, mark) in line.marks.iter().enumerate() {
                    rect.evf x=(percent(mark.from)) y="25" width="16" height="16" rx="3" transform="translate(-8 0)" {}
                    text.numt x=(percent(mark.from)) y="37" text-anchor="middle" { (n + 1) }
                }
                line.head-line data-head x1="0%" x2="0%" y1="16" y2="242" {}
                (shares(lang, facts))
            }
        }
    }
}

fn ticks(end: f64, percent: &dyn Fn(f64) -> String) -> Markup {
    let step = TICK_STEPS.into_iter().find(|step| end / step <= 9.0).unwrap_or(end / 9.0);
    let count = (end / step).floor() as usize;
    html! {
        @for n in 0..=count {
            @let at = n as f64 * step;
            line.tick x1=(percent(at)) x2=(percent(at)) y1="16" y2="21" {}
            @if at < end * 0.96 {
                text class={ "mutedt " (if n % 3 == 0 { "" } else { "wide-only" }) } x=(percent(at)) y="12" dx="3" { (length(at)) }
            }
        }
    }
}

/// Returns the drawing of one channel: the waveforms of all files of the recording, one after the other.
fn lane(facts: &CallFacts, line: &Timeline, channel: usize, class: &str, y: u32) -> Markup {
    let end = line.end().max(0.001);
    let mut path = String::new();
    for (peaks, (from, to)) in facts.peaks.iter().zip(&line.parts) {
        let Some(peaks) = peaks else { continue };
        let share = (to - from) / end;
        let pieces = reduced(&peaks.channels[channel], ((PIECES as f64 * share).ceil() as usize).max(1));
        let width = share * PIECES as f64 / pieces.len().max(1) as f64;
        for (n, (low, high)) in pieces.iter().enumerate() {
            let x = from / end * PIECES as f64 + (n as f64 + 0.15) * width;
            let (top, bottom) = (50.0 - lifted(*high), 50.0 - lifted(*low));
            // Writing to a String never fails.
            let _ = write!(path, "M{x:.2} {top:.1}h{:.2}V{:.1}h-{0:.2}z", width * 0.7, bottom.max(top + 1.8));
        }
    }
    html! {
        svg x="0" y=(y) width="100%" height="78" viewBox={ "0 0 " (PIECES) " 100" } preserveAspectRatio="none" {
            path class=(class) d=(path) {}
        }
    }
}

/// Returns the height at which a sample is drawn, 0 to 50. It grows with the square root of the sample, so that quiet
/// voices are visible.
fn lifted(sample: i8) -> f64 {
    (f64::from(sample).abs() / 128.0).sqrt() * 50.0 * f64::from(sample).signum()
}

fn shape(lang: Lang, mark: &TimelineMark, end: f64, percent: &dyn Fn(f64) -> String) -> Markup {
    let (x, width) = (percent(mark.from), percent(mark.to.unwrap_or(end) - mark.from));
    html! {
        @match mark.kind {
            MarkKind::Hold => {
                rect.band x=(x) width=(width) y="66" height="176" {}
                rect fill="url(#ht)" x=(x) width=(width) y="66" height="176" {}
            }
            MarkKind::Pause => {
                rect.gap x=(x) width=(width) y="66" height="176" {}
                @if mark.to.unwrap_or(end) - mark.from > end / 8.0 {
                    text.wide-only x=(percent(mark.from + (mark.to.unwrap_or(end) - mark.from) / 2.0)) y="157" text-anchor="middle" {
                        (lang.of_two("paused, not recorded", "пауза, не записано")) }
                }
            }
            MarkKind::Keys => { circle.evf cx=(x) cy=(if mark.side == Some(Side::Callee) { "236" } else { "138" }) r="3" {} }
            MarkKind::Loss { .. } => {
                rect.lossm x=(x) width=(width) y=(if mark.side == Some(Side::Callee) { "164" } else { "66" }) height="5" {}
            }
            MarkKind::Part(_) => {
                line.ev x1=(x) x2=(x) y1="42" y2="242" transform="translate(-2 0)" {}
                line.ev x1=(x) x2=(x) y1="42" y2="242" transform="translate(2 0)" {}
            }
            MarkKind::Event(_) => { line.ev.dash x1=(x) x2=(x) y1="42" y2="242" {} }
        }
    }
}

fn shares(lang: Lang, facts: &CallFacts) -> Markup {
    let share = |side: Side| {
        let side = facts.record.sides.get(side);
        let (talk, silence) = (side.talk_s?, side.silence_s?);
        (talk + silence > 0.0).then(|| format!("{:.0} %", talk * 100.0 / (talk + silence)))
    };
    let words = |side: Side| share(side).map(|share| format!("{} {share}", lang.side(side)));
    let text = [Side::Caller, Side::Callee].into_iter().filter_map(words).collect::<Vec<_>>().join(", ");
    html! { text.mutedt x="6" y="260" { (text) } }
}

/// Maximum number of pieces into which the drawing divides the whole recording. Each piece is one or two pixels wide.
pub(in super::super) const PIECES: usize = 700;
/// Maximum number of marks on the timeline. More marks would overlap.
const MAX_MARKS: usize = 200;
/// Maximum time between two DTMF keys that are drawn in one mark, seconds.
const KEYS_TOGETHER_S: f64 = 5.0;
/// Possible distances between two ticks of the time axis, seconds.
const TICK_STEPS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::{EventRecord, LossRecord, PauseRecord, RecordingFile, SideRecord, SideRecords};

    fn at(s: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + s)
    }

    fn file(part: u32, from: i64, to: i64) -> RecordingFile {
        RecordingFile { part, ..RecordingFile::sample("", at(from), (to - from) as f64) }
    }

    #[test]
    fn events_of_all_parts_are_on_one_timeline() {
        let lost = LossRecord { from: at(65), to: at(66), packets: 50, concealed_ms: 60 };
        let event = |s, kind| EventRecord { at: at(s), kind, side: Some(Side::Callee), detail: None };
        let record = CallRecord {
            recordings: vec![file(1, 0, 60), file(2, 60, 90)],
            events: vec![
                event(10, EventKind::Hold),
                event(15, EventKind::Resume),
                event(20, EventKind::Dtmf),
                event(22, EventKind::Dtmf),
                event(70, EventKind::Transfer),
            ],
            paused: vec![PauseRecord { from: at(30), to: Some(at(40)) }],
            sides: SideRecords {
                callee: SideRecord { losses: vec![lost], ..SideRecord::default() },
                ..SideRecords::default()
            },
            ..CallRecord::default()
        };
        let line = Timeline::of(&record);
        let marks: Vec<_> = line.marks.iter().map(|mark| (mark.kind, mark.from, mark.to)).collect();
        assert_eq!(line.end(), 90.0);
        assert_eq!(
            marks,
            [
                (MarkKind::Hold, 10.0, Some(15.0)),
                (MarkKind::Keys, 20.0, Some(22.0)),
                (MarkKind::Pause, 30.0, Some(40.0)),
                (MarkKind::Part(2), 60.0, None),
                (MarkKind::Loss { packets: 50, concealed_ms: 60 }, 65.0, Some(66.0)),
                (MarkKind::Event(EventKind::Transfer), 70.0, None),
            ]
        );
    }

    #[test]
    fn fewer_pieces_keep_the_lowest_and_highest_samples() {
        assert_eq!(reduced(&[(-1, 2), (-9, 1), (0, 7), (-2, 0)], 2), [(-9, 2), (-2, 7)]);
        assert_eq!(reduced(&[], 5), []);
    }
}
