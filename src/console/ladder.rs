//! The ladder diagram of a call: the SIP messages of its legs between hosts, in order of time, made from the call
//! record.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;

use super::access::{self, Viewer};
use super::server::ConsoleState;
use crate::call::leg_end::{LegEnd, LegEndRole};
use crate::call::record::{CallRecord, EndedBy, EventKind, LegRecord, Side};
use crate::time::Timestamp;

/// The ladder diagram of a call: its hosts, and the SIP messages between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct CallLadder {
    /// Addresses of the hosts, in the order in which they appear.
    pub(super) machines: Vec<IpAddr>,
    /// Role and telephone numbers of each host, in the order of `machines`.
    pub(super) names: Vec<LadderName>,
    /// SIP messages of the call, oldest first.
    pub(super) messages: Vec<LadderMessage>,
    /// The recorded sound; `None` if there is no recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sound: Option<LadderSound>,
}

/// Role, side and numbers of a host in the diagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LadderName {
    /// Role of the host: PBX, telephone extension or outside party.
    pub(super) role: LegEndRole,
    /// Side of the call to which the host belongs; `None` for a PBX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) side: Option<Side>,
    /// Numbers of the parties at this host, at most [`MAX_NUMBERS`].
    pub(super) numbers: Vec<String>,
    /// Display name of the party at this host; `None` if the record has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

/// The recorded sound, drawn between the two hosts of the leg that supplies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LadderSound {
    /// Wall-clock time at which the first recording of the call begins.
    pub(super) from_at: Timestamp,
    /// Wall-clock time at which the last recording of the call ends.
    pub(super) to_at: Timestamp,
    /// Index of the caller's host in [`CallLadder::machines`].
    pub(super) from: usize,
    /// Index of the callee's host in [`CallLadder::machines`].
    pub(super) to: usize,
    /// Codecs of the recorded sound, from both sides, without repeats.
    pub(super) codecs: Vec<String>,
}

/// A SIP message between two hosts of the diagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LadderMessage {
    /// Capture time at which the message was sent.
    pub(super) at: Timestamp,
    /// Number of the message's leg in the call record, counted from 1.
    pub(super) leg: usize,
    /// Index of the sending host in [`CallLadder::machines`].
    pub(super) from: usize,
    /// Index of the receiving host in [`CallLadder::machines`].
    pub(super) to: usize,
    /// Method of a SIP request or status of a response, e.g. `INVITE` or `486`.
    pub(super) text: String,
    /// Whether the record says which host sent the message. This is unknown for some BYEs.
    pub(super) is_directed: bool,
}

impl CallLadder {
    /// Creates the ladder diagram of a call record.
    pub(super) fn of(record: &CallRecord) -> Self {
        let mut ladder = Self::default();
        for (n, leg) in (1..).zip(record.legs.iter().take(MAX_LEGS)) {
            ladder.add_leg(n, leg, record);
        }
        ladder.add_events(record);
        ladder.name_machines(record);
        ladder.add_sound(record);
        ladder.messages.sort_by_key(|message| message.at);
        ladder.messages.truncate(MAX_MESSAGES);
        ladder
    }

    fn add_leg(&mut self, n: usize, leg: &LegRecord, record: &CallRecord) {
        let (Some(caller), Some(callee)) = (leg.caller_addr, leg.callee_addr) else { return };
        let ends = [self.place(caller.ip()), self.place(callee.ip())];
        let mut add = |at: Option<Timestamp>, sender: Option<Side>, text: String| {
            let Some(at) = at else { return };
            let [from, to] = if sender == Some(Side::Callee) { [ends[1], ends[0]] } else { ends };
            self.messages.push(LadderMessage { at, leg: n, from, to, text, is_directed: sender.is_some() });
        };
        add(leg.invited_at, Some(Side::Caller), String::from("INVITE"));
        if n == 1 {
            let is_before = |at: &Timestamp| leg.answered_at.or(leg.ended_at).is_none_or(|end| *at <= end);
            add(record.ringing_at.filter(is_before), Some(Side::Callee), String::from("180 Ringing"));
        }
        match (leg.answered_at, leg.sip_status) {
            (Some(at), _) => {
                add(Some(at), Some(Side::Callee), String::from("200 OK"));
                add(leg.ended_at, who_ended(leg, record), String::from("BYE"));
            }
            (None, Some(status)) if status >= 300 => add(leg.ended_at, Some(Side::Callee), status.to_string()),
            (None, _) => add(leg.ended_at, None, String::from("end")),
        }
    }

    /// Adds the SIP messages by which a party held, resumed or transferred the call. The record says which side sent
    /// such a message, but not on which leg. So the message is drawn on the leg that ends at the telephone or the
    /// provider of that side.
    fn add_events(&mut self, record: &CallRecord) {
        for event in &record.events {
            let text = match event.kind {
                EventKind::Hold => "INVITE (hold)",
                EventKind::Resume => "INVITE (resume)",
                EventKind::Transfer => "REFER",
                _ => continue,
            };
            let known = event.side.and_then(|side| outermost(record, side, event.at));
            let Some(n) = known.or_else(|| record.legs.iter().position(|leg| leg.rendered)) else { continue };
            let leg = &record.legs[n];
            let (Some(caller), Some(callee)) = (leg.caller_addr, leg.callee_addr) else { continue };
            let ends = [self.place(caller.ip()), self.place(callee.ip())];
            let [from, to] = if event.side == Some(Side::Callee) { [ends[1], ends[0]] } else { ends };
            let is_directed = known.is_some();
            self.messages.push(LadderMessage {
                at: event.at,
                leg: n + 1,
                from,
                to,
                text: text.to_owned(),
                is_directed,
            });
        }
    }

    /// Names the hosts at the ends of the legs, e.g. as PBX. In records of earlier versions, which have no roles, the
    /// host in the middle counts as the PBX. This host is the callee of one leg and the caller of another.
    fn name_machines(&mut self, record: &CallRecord) {
        let ends: Vec<_> = record.legs.iter().take(MAX_LEGS).flat_map(ends_of).collect();
        let name = |ip: &IpAddr| {
            let here: Vec<_> = ends.iter().filter(|end| end.0 == *ip).collect();
            let side = here.first().map(|end| end.1);
            let is_between = here.iter().any(|end| Some(end.1) != side);
            let role = |role| here.iter().any(|end| end.2.as_ref().is_some_and(|end| end.role == role));
            if role(LegEndRole::Pbx) || (is_between && here.iter().all(|end| end.2.is_none())) {
                return LadderName { role: LegEndRole::Pbx, side: None, numbers: Vec::new(), name: None };
            }
            let known = [LegEndRole::Extension, LegEndRole::Outside].into_iter().find(|known| role(*known));
            let mut numbers: Vec<String> = Vec::new();
            for number in here.iter().filter_map(|end| end.2.as_ref()?.number.clone()) {
                if numbers.len() < MAX_NUMBERS && !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            let name = display_name(record, &numbers);
            LadderName { role: known.unwrap_or(LegEndRole::Unknown), side, numbers, name }
        };
        self.names = self.machines.iter().map(name).collect();
    }

    fn add_sound(&mut self, record: &CallRecord) {
        let (Some(first), Some(last)) = (record.recordings.first(), record.recordings.last()) else { return };
        let Some(leg) = record.legs.iter().find(|leg| leg.rendered) else { return };
        let ends = leg.caller_addr.zip(leg.callee_addr).map(|(caller, callee)| [caller.ip(), callee.ip()]);
        let place = |ip: IpAddr| self.machines.iter().position(|known| *known == ip);
        let Some((Some(from), Some(to))) = ends.map(|[caller, callee]| (place(caller), place(callee))) else { return };
        let mut codecs: Vec<String> = record.sides.caller.codecs.clone();
        codecs.extend(
            record.sides.callee.codecs.iter().filter(|codec| !record.sides.caller.codecs.contains(codec)).cloned(),
        );
        self.sound = Some(LadderSound { from_at: first.starts_at, to_at: last.ends_at, from, to, codecs });
    }

    fn place(&mut self, ip: IpAddr) -> usize {
        if let Some(at) = self.machines.iter().position(|known| *known == ip) {
            return at;
        }
        self.machines.push(ip);
        self.machines.len() - 1
    }
}

/// Returns the two ends of a leg: for each end the host, the side of the call, and the role if known.
fn ends_of(leg: &LegRecord) -> impl Iterator<Item = (IpAddr, Side, Option<LegEnd>)> {
    let side = |side: Side| if leg.sides_swapped { side.other() } else { side };
    let end = |addr: Option<crate::net::Endpoint>, at: Side, end: &Option<LegEnd>| {
        addr.map(|addr| (addr.ip(), side(at), end.clone()))
    };
    let ends = [end(leg.caller_addr, Side::Caller, &leg.caller), end(leg.callee_addr, Side::Callee, &leg.callee)];
    ends.into_iter().flatten()
}

/// Returns the display name of the party with one of these numbers; `None` if the record has none.
fn display_name(record: &CallRecord, numbers: &[String]) -> Option<String> {
    let [number] = numbers else { return None };
    let is = |other: &Option<String>| other.as_ref() == Some(number);
    match (is(&record.from), is(&record.internal) || is(&record.to)) {
        (true, _) => record.from_name.clone(),
        (false, true) => record.to_name.clone(),
        (false, false) => None,
    }
}

/// Returns the index of the outermost answered leg of a side at the time `at`. The host at the end of this leg, e.g. a
/// telephone, takes part in no other leg. Returns `None` if there is no such leg or more than one.
fn outermost(record: &CallRecord, side: Side, at: Timestamp) -> Option<usize> {
    let is_open =
        |leg: &&LegRecord| leg.answered_at.is_some_and(|from| from <= at) && leg.ended_at.is_none_or(|to| at <= to);
    let open: Vec<&LegRecord> = record.legs.iter().take(MAX_LEGS).filter(is_open).collect();
    let address = |leg: &LegRecord, end: Side| {
        let found = if end == Side::Caller { leg.caller_addr } else { leg.callee_addr };
        found.map(|endpoint| endpoint.ip())
    };
    let is_last = |leg: &LegRecord| {
        let own = address(leg, side);
        own.is_some() && open.iter().all(|other| address(other, side.other()) != own)
    };
    let mut last = record.legs.iter().enumerate().filter(|(_, leg)| is_open(leg) && is_last(leg));
    let first = last.next()?;
    last.next().is_none().then_some(first.0) // with two such legs, the right leg is unknown
}

/// Returns the side that ended a leg. If the leg ended together with the call, this is the side that ended the call.
/// Otherwise it is unknown (`None`).
fn who_ended(leg: &LegRecord, record: &CallRecord) -> Option<Side> {
    let (leg_end, call_end) = (leg.ended_at?, record.ended_at?);
    if call_end.distance(leg_end) > TOGETHER {
        return None;
    }
    match record.ended_by? {
        EndedBy::Caller => Some(Side::Caller),
        EndedBy::Callee => Some(Side::Callee),
        _ => None,
    }
}

/// Responds with the ladder diagram of a call as JSON.
pub(super) async fn api(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    match super::call::record(&state, &viewer, &id).await {
        Ok(Some(record)) => Json(CallLadder::of(&record)).into_response(),
        Ok(None) => access::missing(None, true),
        Err(error) => access::failed(&error),
    }
}

/// Maximum number of legs in the diagram. The messages of further legs are left out.
const MAX_LEGS: usize = 16;
/// Maximum number of phone numbers of a host in the diagram. Further numbers are left out, because a gateway has many.
const MAX_NUMBERS: usize = 3;
/// Maximum number of SIP messages in the ladder diagram. Nobody would read more.
const MAX_MESSAGES: usize = 60;
/// If a leg ends at most this time before or after its call, the party that ended the call counts as having ended the
/// leg.
const TOGETHER: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::EventRecord;

    fn leg(from: &str, to: &str, times: [i64; 3]) -> LegRecord {
        let [invited, answered, ended] = times.map(|s| Timestamp::from_secs(s).to_rfc3339());
        let json = serde_json::json!({ "sip_call_id": "a", "transport": "udp", "user_agents": [], "rendered": true,
            "caller_addr": from, "callee_addr": to, "invited_at": invited, "answered_at": answered, "ended_at": ended });
        serde_json::from_value(json).expect("a leg")
    }

    #[test]
    fn legs_through_a_pbx_are_messages_between_three_machines() {
        let at = Timestamp::from_secs;
        let record = CallRecord {
            legs: vec![
                leg("10.9.0.11:5060", "10.9.0.1:5060", [0, 4, 20]),
                leg("10.9.0.1:5060", "10.9.0.12:5060", [1, 3, 9]),
            ],
            ringing_at: Some(at(2)),
            ended_at: Some(at(20)),
            ended_by: Some(EndedBy::Callee),
            events: vec![EventRecord { at: at(6), kind: EventKind::Hold, side: Some(Side::Callee), detail: None }],
            ..CallRecord::default()
        };
        let ladder = CallLadder::of(&record);
        // A record of an earlier version does not contain the roles of the hosts. Here the middle host belongs to both
        // legs, so it counts as the PBX.
        let roles: Vec<_> = ladder.names.iter().map(|name| (name.role, name.side)).collect();
        let unknown = LegEndRole::Unknown;
        assert_eq!(roles, [(unknown, Some(Side::Caller)), (LegEndRole::Pbx, None), (unknown, Some(Side::Callee))]);
        assert_eq!(
            ladder.machines.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.9.0.11", "10.9.0.1", "10.9.0.12"]
        );
        let rows: Vec<_> =
            ladder.messages.iter().map(|m| (m.leg, m.from, m.to, m.text.as_str(), m.is_directed)).collect();
        assert_eq!(
            rows,
            [
                (1, 0, 1, "INVITE", true),
                (2, 1, 2, "INVITE", true),
                (1, 1, 0, "180 Ringing", true),
                (2, 2, 1, "200 OK", true),
                (1, 1, 0, "200 OK", true),
                // The callee put the call on hold. The callee's telephone is at the end of the second leg, so the
                // message is drawn on this leg.
                (2, 2, 1, "INVITE (hold)", true),
                // The second leg ended long before the call, so the record does not say which side ended this leg. Its
                // BYE has no known direction.
                (2, 1, 2, "BYE", false),
                (1, 1, 0, "BYE", true),
            ]
        );
    }
}
