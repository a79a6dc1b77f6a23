//! The HTML of the ladder diagram of a call: a drawing, and a list for narrow screens and screen readers.

use maud::{Markup, html};

use super::super::ladder::{CallLadder, LadderMessage, LadderName, LadderSound};
use super::super::text::{Lang, clock_ms, length};
use crate::call::leg_end::LegEndRole;
use crate::time::Timestamp;

/// Returns the ladder diagram as a drawing and as a list.
pub(super) fn ladder(lang: Lang, ladder: &CallLadder) -> Markup {
    if ladder.messages.is_empty() {
        return html! {};
    }
    let has_drawing = ladder.machines.len() <= MAX_COLUMNS;
    html! {
        @if has_drawing { (drawing(lang, ladder)) }
        ol class=(if has_drawing { "ladder-list" } else { "ladder-list all" }) {
            @for row in rows(ladder) { @match row {
                LadderRow::Message(n) => li { span.muted { (time(lang, ladder, n)) }
                    span { (short_name(lang, ladder, ladder.messages[n].from)) " → " (short_name(lang, ladder, ladder.messages[n].to)) ": "
                        (words(lang, &ladder.messages[n])) " " span.muted { "(" (lang.of_two("leg", "плечо")) " " (ladder.messages[n].leg) ")" } } },
                LadderRow::Sound(sound) => li { span.muted { (lang.of_two("sound", "звук")) } span { (sound_words(lang, sound)) } },
            } }
        }
    }
}

/// A row of the ladder diagram: a message or the sound.
#[derive(Clone, Copy)]
enum LadderRow<'a> {
    /// The message at this index of [`CallLadder::messages`].
    Message(usize),
    /// The bar of the recorded sound.
    Sound(&'a LadderSound),
}

/// Returns the rows from top to bottom. The row of the sound stands at the time at which the sound begins.
fn rows(ladder: &CallLadder) -> Vec<LadderRow<'_>> {
    let mut rows: Vec<_> = (0..ladder.messages.len()).map(LadderRow::Message).collect();
    if let Some(sound) = &ladder.sound {
        let before = ladder.messages.iter().filter(|message| message.at <= sound.from_at).count();
        rows.insert(before, LadderRow::Sound(sound));
    }
    rows
}

fn drawing(lang: Lang, ladder: &CallLadder) -> Markup {
    let step = (WIDTH - LEFT - RIGHT) / ladder.machines.len().max(1) as u32;
    let x = |machine: usize| LEFT + step / 2 + step * machine as u32;
    let half = (step / 2).min(MAX_BOX / 2 + BOX_GAP) - BOX_GAP;
    let mut height = TOP;
    let place = |row| {
        let y = height;
        height += row_height(&row);
        (y, row)
    };
    let placed: Vec<_> = rows(ladder).into_iter().map(place).collect();
    html! {
        svg.ladder viewBox={ "0 0 " (WIDTH) " " (height) } aria-hidden="true" {
            @for (n, machine) in ladder.machines.iter().enumerate() {
                rect.box x=(x(n) - half) y="2" width=(half * 2) height="36" rx="4" {}
                text.b x=(x(n)) y="17" text-anchor="middle" { (fitted(&full_name(lang, ladder, n), half * 2)) }
                text.mutedt x=(x(n)) y="32" text-anchor="middle" { (fitted(&machine.to_string(), half * 2)) }
                line.life x1=(x(n)) x2=(x(n)) y1="38" y2=(height) {}
            }
            @for (y, row) in placed {
                @match row {
                    LadderRow::Message(n) => (message_row(lang, ladder, n, y, &x)),
                    LadderRow::Sound(sound) => (sound_row(lang, sound, y, &x)),
                }
            }
        }
    }
}

const fn row_height(row: &LadderRow<'_>) -> u32 {
    match row {
        LadderRow::Message(_) => ROW,
        LadderRow::Sound(_) => 2 * ROW,
    }
}

fn message_row(lang: Lang, ladder: &CallLadder, n: usize, y: u32, x: &dyn Fn(usize) -> u32) -> Markup {
    let message = &ladder.messages[n];
    let (from, to) = (x(message.from), x(message.to));
    let is_right = to >= from;
    let end = if is_right { to.saturating_sub(7) } else { to + 7 };
    let tip = if is_right { format!("M{to} {y}l-8 -4v8z") } else { format!("M{to} {y}l8 -4v8z") };
    html! {
        text x="4" y=(y + 4) class=(if is_absolute(ladder, n) { "" } else { "mutedt" }) { (time(lang, ladder, n)) }
        line.arr x1=(from) x2=(end) y1=(y) y2=(y) stroke-dasharray=[(!message.is_directed).then_some("3 3")] {}
        @if message.is_directed { path.tip d=(tip) {} }
        text x=((from + to) / 2) y=(y - 4) text-anchor="middle" { (words(lang, message)) }
        text.mutedt x=(WIDTH - 4) y=(y + 4) text-anchor="end" { (lang.of_two("leg", "плечо")) " " (message.leg) }
    }
}

fn sound_row(lang: Lang, sound: &LadderSound, y: u32, x: &dyn Fn(usize) -> u32) -> Markup {
    let (a, b) = (x(sound.from).min(x(sound.to)), x(sound.from).max(x(sound.to)));
    html! {
        line.rtp1 x1=(a + 6) x2=(b.saturating_sub(6)) y1=(y) y2=(y) {}
        line.rtp2 x1=(a + 6) x2=(b.saturating_sub(6)) y1=(y + 5) y2=(y + 5) {}
        text.mutedt x=((a + b) / 2) y=(y + 20) text-anchor="middle" { (sound_words(lang, sound)) }
    }
}

fn sound_words(lang: Lang, sound: &LadderSound) -> String {
    let end = length(sound.to_at.since(sound.from_at).as_secs_f64());
    format!("0:00–{end} {}, {}", lang.of_two("sound", "звук"), sound.codecs.join(", "))
}

/// Returns the name of a host: its role, number and display name.
fn full_name(lang: Lang, ladder: &CallLadder, machine: usize) -> String {
    let Some(name) = ladder.names.get(machine) else { return String::new() };
    let mut full = named(lang, name).unwrap_or_else(|| lang.of_two("unknown", "неизвестно").to_owned());
    match (name.role, name.side, &name.name) {
        (LegEndRole::Outside, Some(side), _) => full = format!("{full}, {}", lang.side(side)),
        (LegEndRole::Extension | LegEndRole::Unknown, _, Some(display)) => full = format!("{full} {display}"),
        _ => {}
    }
    full
}

/// Returns the name of a host for a sentence: its role or number; if both are unknown, its address.
fn short_name(lang: Lang, ladder: &CallLadder, machine: usize) -> String {
    let name = ladder.names.get(machine).and_then(|name| named(lang, name));
    name.unwrap_or_else(|| ladder.machines[machine].to_string())
}

fn named(lang: Lang, name: &LadderName) -> Option<String> {
    match name.role {
        LegEndRole::Pbx => Some(lang.of_two("PBX", "АТС").to_owned()),
        LegEndRole::Outside => Some(lang.of_two("provider", "провайдер").to_owned()),
        LegEndRole::Extension => Some(name.numbers.join(", ")),
        LegEndRole::Unknown if !name.numbers.is_empty() => Some(name.numbers.join(", ")),
        LegEndRole::Unknown => name.side.map(|side| lang.side(side).to_owned()),
    }
}

/// Shortens a text with an ellipsis so that it fits a width in SVG units.
fn fitted(text: &str, width: u32) -> String {
    if text.chars().map(character_width).sum::<u32>() <= width {
        return text.to_owned();
    }
    let mut used = character_width('…');
    let is_inside = |letter: &char| {
        used += character_width(*letter);
        used <= width
    };
    let mut short: String = text.chars().take_while(is_inside).collect();
    short.push('…');
    short
}

/// Returns an upper estimate of the width of a character in bold 12 px, SVG units.
const fn character_width(letter: char) -> u32 {
    match letter {
        ' ' | ',' | '.' | ':' | '-' | 'i' | 'j' | 'l' => 5,
        'm' | 'w' | 'M' | 'W' | '@' | '…' | 'ж' | 'м' | 'ф' | 'ш' | 'щ' | 'ы' | 'ю' => 13,
        '0'..='9' => 8,
        'a'..='z' => 7,
        'A'..='Z' | 'а'..='я' | 'ё' => 9,
        _ => 13,
    }
}

fn words(lang: Lang, message: &LadderMessage) -> String {
    match message.text.as_str() {
        "INVITE (hold)" => format!("INVITE, {}", lang.of_two("hold", "ожидание")),
        "INVITE (resume)" => format!("INVITE, {}", lang.of_two("resume", "возврат")),
        "end" => lang.of_two("end", "конец").to_owned(),
        other => other.to_owned(),
    }
}

/// Returns whether a message shows its absolute time. Only the first message, and each message after a long pause, do
/// so.
fn is_absolute(ladder: &CallLadder, n: usize) -> bool {
    let before = n.checked_sub(1).and_then(|before| ladder.messages.get(before));
    before.is_none_or(|before| ladder.messages[n].at.since(before.at).as_secs_f64() >= LONG_PAUSE_SECONDS)
}

/// Returns the text for the time of a message. For the first message it is the time of day. After a long pause it is
/// the position in the recording. Otherwise it is the time since the previous message.
fn time(lang: Lang, ladder: &CallLadder, n: usize) -> String {
    let at: Timestamp = ladder.messages[n].at;
    let sound = ladder.sound.as_ref().filter(|sound| n > 0 && sound.from_at <= at);
    match (is_absolute(ladder, n), sound) {
        (true, Some(sound)) => length(at.since(sound.from_at).as_secs_f64()),
        (true, None) => clock_ms(at),
        (false, _) => {
            let before = ladder.messages[n - 1].at;
            format!("+{} {}", lang.decimal(at.since(before).as_secs_f64(), 3), lang.of_two("s", "с"))
        }
    }
}

/// Width of the drawing, SVG units.
const WIDTH: u32 = 720;
/// Width of the column for times, SVG units.
const LEFT: u32 = 92;
/// Width of the column for leg numbers, SVG units.
const RIGHT: u32 = 56;
/// Vertical position of the diagram's first row, SVG units.
const TOP: u32 = 62;
/// Height of a row of the diagram, SVG units.
const ROW: u32 = 24;
/// Maximum width of a host's box, SVG units.
const MAX_BOX: u32 = 150;
/// Space between the box of a host and the border of its column, SVG units.
const BOX_GAP: u32 = 4;
/// Maximum number of hosts in a drawing. With more hosts the columns would overlap, so the page shows only the list of
/// messages.
const MAX_COLUMNS: usize = 5;
/// Minimum length of a long pause between two messages, seconds. After such a pause, an absolute time says more than
/// the time since the previous message.
const LONG_PAUSE_SECONDS: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_cyrillic_and_capitals_fit_their_boxes() {
        assert_eq!(fitted("provider, caller", 114), "provider, caller");
        assert_eq!(fitted("203.0.113.10", 114), "203.0.113.10");
        // In bold 12 px, all letters of this name would take 161 units. So the name is shortened to fit into 114 units.
        assert_eq!(fitted("провайдер, звонивший", 114), "провайдер, з…");
        assert_eq!(fitted("WWWWWWWWWWWW", 114), "WWWWWWW…");
    }
}
