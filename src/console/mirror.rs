//! The part of the health page about the mirror port. For each interface it shows counters, the directions of the
//! packets, repeated packets and tunnels. It also shows what the recorder learnt about the site.

use std::net::IpAddr;

use maud::{Markup, html};

use super::control::ServiceStatus;
use super::pages;
use super::text::{Lang, date_time, length};
use crate::call::topology::MachinePair;
use crate::ops::mirror_report::DirectionCounts;
use crate::ops::status::ServiceReport;
use crate::ops::tap_flow::DirectionFlow;
use crate::ops::taps::TapReport;
use crate::time::Timestamp;

/// Facts about the mirror port that the health page shows.
#[derive(Debug, Default)]
pub(super) struct MirrorFacts {
    /// Contents of the status file that the service writes; empty if the file does not exist.
    pub(super) report: ServiceReport,
    /// Pairs of IP addresses that belong to one machine, as the recorder learnt from calls.
    pub(super) machines: Vec<MachinePair>,
    /// Start of the newest call in the journal (database of calls); `None` without calls.
    pub(super) newest_call: Option<Timestamp>,
}

impl MirrorFacts {
    /// Returns the HTML of the facts about the mirror port: a table of the interfaces, and a list of the other facts.
    pub(super) fn html(&self, lang: Lang, interfaces: &[String], status: &ServiceStatus, now: Timestamp) -> Markup {
        let t = |en, ru| lang.of_two(en, ru);
        html! {
            h2 { (t("Mirror", "Зеркало")) }
            @if !self.report.taps.is_empty() { (self.taps(lang, now)) }
            dl.facts {
                @if self.report.taps.is_empty() { (fact(t("Ports", "Порты"), &ports(lang, interfaces))) }
                @for tap in &self.report.taps { (fact(&tap.name, &packets(lang, tap))) }
                (fact(t("Frames", "Кадров"), &lang.grouped(status.frames)))
                (fact(t("Sound packets of calls", "Пакетов звука"), &lang.grouped(status.rtp_packets)))
                (fact(t("Lost by the kernel", "Потеряно ядром"), &lang.grouped(status.dropped_by_kernel)))
                (fact(t("Lost by the interface", "Потеряно картой"), &lang.grouped(status.dropped_by_interface)))
                @if let Some(directions) = self.report.mirror.directions {
                    (fact(t("Directions of SIP", "Направления SIP"), &direction(lang, directions.sip)))
                    (fact(t("Directions of sound", "Направления звука"), &direction(lang, directions.rtp)))
                }
                @if let Some(at) = self.report.last_sip_at { (fact(t("Last SIP", "Последний SIP"), &ago(lang, now, at))) }
                (fact(t("Repeated packets", "Повторных пакетов"), &self.repeated(lang)))
                (fact(t("Tunnels and tags", "Туннели и метки"), &self.tunnels(lang)))
                (fact(t("Learnt", "Узнано"), &self.learnt(lang)))
                (fact(t("Calls under way", "Звонков сейчас"), &lang.grouped(status.calls_live as u64)))
                @if let Some(at) = self.newest_call { (fact(t("Newest call", "Последний звонок"), &date_time(at))) }
            }
            @if self.machines.len() > SHOWN_MACHINES {
                details.plain-d { summary { (t("All learnt machines", "Все узнанные машины")) }
                    ul.list { @for pair in self.machines.iter().take(MAX_MACHINES) { li { (machine(lang, pair)) } } }
                }
            }
        }
    }

    /// Returns the table of the capture interfaces, with packets a second to and from the PBX.
    fn taps(&self, lang: Lang, now: Timestamp) -> Markup {
        let t = |en, ru| lang.of_two(en, ru);
        let heads = [
            t("Port", "Порт"),
            t("To the PBX", "К АТС"),
            t("From the PBX", "От АТС"),
            t("All frames", "Все кадры"),
            t("Lost here", "Потери"),
        ];
        html! {
            table.keep role="table" {
                caption.vh { (t("Capture interfaces: packets a second", "Карты захвата: пакетов в секунду")) }
                thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
                tbody role="rowgroup" { @for tap in &self.report.taps { tr role="row" {
                    th role="rowheader" scope="row" { (tap.name)
                        @if !tap.is_up { span.sub.bad { (t("down", "не работает")) } }
                    }
                    @for cell in self.flow_cells(lang, tap, now) { td role="cell" { (cell) } }
                    td role="cell" { (lang.grouped(tap.lost())) }
                } } }
            }
        }
    }

    /// Returns the table cells of a capture interface that show packets a second: to the PBX, from the PBX, and all
    /// frames.
    fn flow_cells(&self, lang: Lang, tap: &TapReport, now: Timestamp) -> [Markup; 3] {
        let Some(flow) = tap.flow else { return [(); 3].map(|()| html! { "–" }) };
        let all = per_second(lang, flow.frames_per_s);
        if self.report.pbx_hosts.is_empty() {
            let unknown = html! { span.muted { (lang.of_two("no PBX learnt yet", "АТС ещё не узнана")) } };
            return [unknown, html! { "–" }, all];
        }
        let since_start = now.since(self.report.started_at).as_secs_f64();
        let direction = |own: DirectionFlow, other: DirectionFlow| {
            let silent = if own.packets == 0 { Some(since_start) } else { own.silent_s(now) };
            let Some(silent) = silent else { return per_second(lang, own.per_s) };
            let words = html! { (per_second(lang, 0)) ", " (lang.of_two("for", "уже")) " " (length(silent)) };
            // A direction without packets is marked only if the opposite direction has packets: then the mirror port
            // probably copies one direction only.
            let is_proven = own.packets > 0 || other.packets > MANY_PACKETS;
            let is_bad = is_proven && other.per_s > 0 && silent > ONE_WAY_AFTER_S;
            html! { @if is_bad { span.v.bad { (pages::mark("bad")) span { (words) } } } @else { span.muted { (words) } } }
        };
        [direction(flow.to_pbx, flow.from_pbx), direction(flow.from_pbx, flow.to_pbx), all]
    }

    fn repeated(&self, lang: Lang) -> String {
        let (copies, frames) = (self.report.mirror.copies, self.report.frames);
        let share = if frames > 0 { copies as f64 * 100.0 / frames as f64 } else { 0.0 };
        format!("{}, {} %", lang.grouped(copies), lang.decimal(share, 1))
    }

    fn tunnels(&self, lang: Lang) -> String {
        let tunnels = &self.report.mirror.tunnels;
        if tunnels.is_empty() {
            return lang.of_two("none", "нет").to_owned();
        }
        let kind = |(name, packets): (&String, &u64)| format!("{name} ({})", lang.grouped(*packets));
        tunnels.iter().map(kind).collect::<Vec<_>>().join(", ")
    }

    /// Returns what the recorder learnt about the site: addresses of PBXs, the number of telephone extensions, and
    /// addresses that belong to one machine.
    fn learnt(&self, lang: Lang) -> String {
        let mut parts = Vec::new();
        if !self.report.pbx_hosts.is_empty() {
            parts.push(format!("{}: {}", lang.of_two("PBX", "АТС"), self.report.pbx_hosts.join(", ")));
        }
        if self.report.extensions > 0 {
            let words = ["extension registered", "extensions registered"];
            parts.push(lang.count(
                self.report.extensions,
                words,
                ["внутренний номер", "внутренних номера", "внутренних номеров"],
            ));
        }
        parts.extend(self.machines.iter().take(SHOWN_MACHINES).map(|pair| machine(lang, pair)));
        if parts.is_empty() { lang.of_two("nothing yet", "пока ничего").to_owned() } else { parts.join("; ") }
    }
}

/// Returns the counters of a capture interface since the start as a text, e.g. `SIP 40, RTP 900, copies 0`.
fn packets(lang: Lang, tap: &TapReport) -> String {
    let copies = lang.of_two("copies", "копий");
    format!("SIP {}, RTP {}, {copies} {}", lang.grouped(tap.sip), lang.grouped(tap.rtp), lang.grouped(tap.copies))
}

/// Returns a number of packets a second as a text, e.g. `2,410/s`.
fn per_second(lang: Lang, packets: u64) -> Markup {
    html! { span.nowrap { (lang.grouped(packets)) (lang.of_two("/s", "/с")) } }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

/// Returns a text about the directions that the mirror port shows, e.g. `both, 12 pairs of hosts`.
fn direction(lang: Lang, counts: DirectionCounts) -> String {
    let pairs = |n| lang.count(n, ["pair of hosts", "pairs of hosts"], ["пара узлов", "пары узлов", "пар узлов"]);
    match counts {
        DirectionCounts { pairs: 0, .. } => {
            lang.of_two("too few packets to say", "слишком мало пакетов, чтобы сказать").to_owned()
        }
        DirectionCounts { pairs: all, one_way: 0 } => format!("{}, {}", lang.of_two("both", "оба"), pairs(all)),
        DirectionCounts { pairs: all, one_way } => {
            let only = lang.of_two("one only", "только одно");
            format!("{only}: {one_way} {} {}", lang.of_two("of", "из"), pairs(all))
        }
    }
}

fn machine(lang: Lang, pair: &MachinePair) -> String {
    let name = |ip: IpAddr| ip.to_string();
    let (and, one) = (lang.of_two("and", "и"), lang.of_two("are one machine", "— одна машина"));
    let times = lang.count(u64::from(pair.seen), ["time", "times"], ["раз", "раза", "раз"]);
    let seen = lang.of_two("seen", "видно");
    format!("{} {and} {} {one} ({seen} {times})", name(pair.a), name(pair.b))
}

/// Formats the time since `at`, e.g. `0:07 ago`.
fn ago(lang: Lang, now: Timestamp, at: Timestamp) -> String {
    format!("{} {}", length(now.since(at).as_secs_f64()), lang.of_two("ago", "назад"))
}

fn ports(lang: Lang, names: &[String]) -> String {
    if names.is_empty() {
        lang.of_two("none is captured here", "здесь ничего не захватывается").to_owned()
    } else {
        names.join(", ")
    }
}

/// Time without packets in one direction after which the page marks it, seconds. Keep-alive messages between telephones
/// and the PBX come more often.
const ONE_WAY_AFTER_S: f64 = 60.0;
/// Number of packets (about 20 s of speech) in one direction after which a missing other direction is reported. A
/// smaller number proves nothing, because the address of the PBX may have been learnt only just now.
const MANY_PACKETS: u64 = 1_000;
/// Number of learnt machines (pairs of addresses) that are always visible. If there are more, the user can unfold a
/// list of all.
const SHOWN_MACHINES: usize = 3;
/// Maximum number of learnt machines (pairs of addresses) in the list that the user can unfold.
const MAX_MACHINES: usize = 100;
