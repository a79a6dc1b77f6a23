//! The ladder diagram of a call as a drawing, and as a list for narrow pages and screen readers.

use maud::{Markup, html};

use super::super::ladder::{CallLadder, LadderMessage};
use super::super::text::{Lang, clock_time};
use crate::time::Timestamp;

/// Returns the ladder diagram as a drawing and as a list.
pub(super) fn ladder(lang: Lang, ladder: &CallLadder) -> Markup {
    if ladder.messages.is_empty() {
        return html! {};
    }
    let step = (WIDTH - LEFT - RIGHT) / ladder.machines.len().max(1) as u32;
    let x = |machine: usize| LEFT + step / 2 + step * machine as u32;
    let height = TOP + ROW * ladder.messages.len() as u32 + 8;
    html! {
        @if ladder.machines.len() <= MAX_COLUMNS {
            svg.ladder viewBox={ "0 0 " (WIDTH) " " (height) } aria-hidden="true" {
                @for (n, machine) in ladder.machines.iter().enumerate() {
                    rect.box x=(x(n) - (step / 2).min(70) + 6) y="2" width=((step / 2).min(70) * 2 - 12) height="24" rx="4" {}
                    text.b x=(x(n)) y="18" text-anchor="middle" { (machine) }
                    line.life x1=(x(n)) x2=(x(n)) y1="26" y2=(height) {}
                }
                @for (n, message) in ladder.messages.iter().enumerate() {
                    (row(lang, ladder, n, message, &x))
                }
            }
        }
        ol class=(if ladder.machines.len() <= MAX_COLUMNS { "ladder-list" } else { "ladder-list all" }) {
            @for (n, message) in ladder.messages.iter().enumerate() {
                li { span.muted { (time(lang, ladder, n)) }
                    span { (ladder.machines[message.from]) " → " (ladder.machines[message.to]) ": " (words(lang, message))
                        " " span.muted { "(" (lang.of_two("leg", "плечо")) " " (message.leg) ")" } } }
            }
        }
    }
}

fn row(lang: Lang, ladder: &CallLadder, n: usize, message: &LadderMessage, x: &dyn Fn(usize) -> u32) -> Markup {
    let y = TOP + ROW * n as u32;
    let (from, to) = (x(message.from), x(message.to));
    let is_right = to >= from;
    let end = if is_right { to.saturating_sub(7) } else { to + 7 };
    let tip = if is_right { format!("M{to} {y}l-8 -4v8z") } else { format!("M{to} {y}l8 -4v8z") };
    html! {
        text x="4" y=(y + 4) class=(if n == 0 { "" } else { "mutedt" }) { (time(lang, ladder, n)) }
        line.arr x1=(from) x2=(end) y1=(y) y2=(y) stroke-dasharray=[(!message.is_directed).then_some("3 3")] {}
        @if message.is_directed { path.tip d=(tip) {} }
        text x=((from + to) / 2) y=(y - 4) text-anchor="middle" { (words(lang, message)) }
        text.mutedt x=(WIDTH - 4) y=(y + 4) text-anchor="end" { (lang.of_two("leg", "плечо")) " " (message.leg) }
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

/// Returns the time of message `n`: of the first message the time of day, of later ones the time since the message
/// before.
fn time(lang: Lang, ladder: &CallLadder, n: usize) -> String {
    let at: Timestamp = ladder.messages[n].at;
    match n.checked_sub(1).and_then(|before| ladder.messages.get(before)) {
        None => clock_time(at),
        Some(before) => format!("+{} {}", lang.decimal(at.since(before.at).as_secs_f64(), 3), lang.of_two("s", "с")),
    }
}

/// Width of the drawing, SVG units.
const WIDTH: u32 = 720;
/// Width of the column for times, SVG units.
const LEFT: u32 = 80;
/// Width of the column for leg numbers, SVG units.
const RIGHT: u32 = 56;
/// Vertical position of the first row, SVG units.
const TOP: u32 = 50;
/// Height of a row, SVG units.
const ROW: u32 = 24;
/// Maximum number of hosts in a drawing. More would overlap, so only the list is shown.
const MAX_COLUMNS: usize = 5;
