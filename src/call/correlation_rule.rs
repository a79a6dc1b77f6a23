//! The rules of correlation: every reason for which a leg joins a call, or two calls are related.
//!
//! The call record (`legs[].joined_by`, `relations[].why`) and the spool name the rule that applied. The table below is
//! the only list of rules in the code. `docs/correlation.md` explains each rule, and a test compares the two.

use serde::{Deserialize, Serialize};

/// How much the evidence of a correlation rule proves, from weakest to strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvidenceStrength {
    /// The rule proves that the leg does not belong to this call.
    Contradiction,
    /// The leg does not join this call, but its own call is related to this call.
    Relation,
    /// The leg joins this call if no other call has evidence.
    Weak,
    /// The leg joins this call if no other call has strong evidence.
    Strong,
    /// The leg joins this call in any case, whatever other rules find.
    Proof,
}

impl EvidenceStrength {
    /// Returns the word for this strength of evidence in `docs/correlation.md`, e.g. `weak`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::Relation => "relation",
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Proof => "proof",
        }
    }
}

/// Declares the rules: variant, name, strength, and a sentence that explains the rule to an administrator.
macro_rules! correlation_rules {
    ($($variant:ident = $name:literal, $strength:ident, $sentence:literal;)+) => {
        /// A rule of correlation, by which a leg joins a call or two calls are related.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum CorrelationRule {
            $(#[doc = $sentence] #[serde(rename = $name)] $variant,)+
            /// A rule that only another version of callspan knows. It occurs in records that the other version wrote.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl CorrelationRule {
            /// All rules, in the order in which the engine applies them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name of the rule in call records and in the spool files of legs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Unknown => "unknown",
                }
            }

            /// Returns how much the evidence of this rule proves, e.g. `Weak`.
            pub const fn strength(self) -> EvidenceStrength {
                match self {
                    $(Self::$variant => EvidenceStrength::$strength,)+
                    Self::Unknown => EvidenceStrength::Weak,
                }
            }

            /// Returns the sentence that explains the rule to an administrator.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                    Self::Unknown => "A rule of another version of callspan.",
                }
            }
        }
    };
}

correlation_rules! {
    SameDialog = "same_dialog", Proof, "Call-ID and From tag are the same: one dialog at two places of the network.";
    TagReuse = "tag_reuse", Contradiction, "The dialog with this Call-ID and From tag was answered before: this INVITE begins another call.";
    CorrelationHeader = "correlation_header", Proof, "A configured correlation header has the same value.";
    SessionId = "session_id", Proof, "The Session-ID header has the same value.";
    RecordingSession = "recording_session", Strong, "A recorder's own session (SIPREC) carries the sound of this call.";
    Replaces = "replaces", Proof, "The Replaces header names the other dialog.";
    Refer = "refer", Proof, "A REFER of the other call asked for this leg.";
    ReferReplaces = "refer_replaces", Relation, "A REFER joined this call with the other one (attended transfer).";
    SameCallId = "same_call_id", Strong, "The Call-ID is the same, and the other leg is live, or was refused and is tried again.";
    OwnCall = "own_call", Contradiction, "The other leg goes to the same address, but belongs to a separate call.";
    AlreadyRinging = "already_ringing", Contradiction, "The call already rings this telephone: a second leg to it is for another caller.";
    AnotherDevice = "another_device", Strong, "The PBX rings another device of the extension that rings already, and one caller waits.";
    OnwardBoth = "onward_both", Strong, "The host that received the other leg sent this one at once, with the same two numbers.";
    Hairpin = "hairpin", Weak, "The PBX sends an extension's call back to the proxy that brought it, in the name of an outside number.";
    Diverted = "diverted", Weak, "The Diversion or History-Info header names the number that the other leg called.";
    OnwardOne = "onward_one", Weak, "The host that received the other leg sent this one at once, with one of its numbers.";
    ForWaitingCaller = "for_waiting_caller", Weak, "The caller of the other leg waits at the host that sent this leg, and this leg has that caller's number.";
    NextTrunk = "next_trunk", Weak, "The same number was called before without success: the PBX tries another trunk.";
    NewestUnserved = "newest_unserved", Weak, "Several callers fit. This caller came last, and the PBX already rang telephones for the others.";
    MachinePair = "machine_pair", Strong, "The host that received the other leg and the host that sent this one are one machine, as configured or learnt.";
    ClickToCall = "click_to_call", Weak, "The PBX called one of two parties first, and calls the other now.";
    TriedAgain = "tried_again", Weak, "The other leg was refused a moment before, and its sender tries again.";
    Consultation = "consultation", Relation, "The party talked in the other call when this one began.";
    AgreeingNumbers = "agreeing_numbers", Weak, "No other leg fits: two hosts without a known link sent calls of the same numbers within half a second.";
    Parked = "parked", Relation, "This call goes to the place to which the other call was transferred.";
    DirectedPickup = "directed_pickup", Relation, "The dialled pickup code ends in the extension that rang.";
    MomentsDisagree = "moments_disagree", Contradiction, "The legs were joined by their numbers alone, and were not answered or ended together.";
    LateCause = "late_cause", Weak, "The leg that caused this one was captured after it.";
    LateSibling = "late_sibling", Weak, "The PBX sent this leg because another leg was answered or ended; the mirror showed this leg a moment before.";
    BothMedia = "both_media", Proof, "Both legs announce the same two media addresses: the parties send their sound past the machines.";
    MediaAddress = "media_address", Strong, "Both legs announce one media address, and one host links them.";
    MediaContent = "media_content", Proof, "The voices of both legs have the same bytes: one machine relays them.";
    SameMoments = "same_moments", Strong, "The legs were answered, and ended, together.";
    RingOutcome = "ring_outcome", Strong, "The telephone was answered at the moment at which this caller was.";
    GroupPickup = "group_pickup", Relation, "A pickup code was answered at the moment at which this ringing call was taken.";
    ForwardedOutside = "forwarded_outside", Relation, "The PBX called an outside number in the name of the dialled number, and both were answered together.";
    Ambiguous = "ambiguous", Relation, "The leg could belong to either call, and nothing decides between them.";
    TooManyLegs = "too_many_legs", Relation, "The other call has as many legs as a call may have.";
    Survives = "survives", Relation, "The leg went on after its call had ended.";
    OtherSound = "other_sound", Relation, "The leg carried other sound than the recording of this call.";
    Continues = "continues", Relation, "The dialog had ended by silence and was heard again.";
}

impl CorrelationRule {
    /// Returns whether the rule joins legs only by their hosts, numbers and times. Two strangers may have all of them in
    /// common, so sound may prove such a join wrong.
    ///
    /// This holds for every weak rule, and for the strong rules that compare nothing else.
    pub(crate) const fn rests_on_numbers(self) -> bool {
        matches!(self.strength(), EvidenceStrength::Weak)
            || matches!(self, Self::AnotherDevice | Self::OnwardBoth | Self::MachinePair)
    }

    /// Returns whether media content may prove a join by this rule wrong. This holds for joins by numbers. It also
    /// holds for joins by a REFER, because the INVITE to the REFER's target may belong to a later call.
    pub(crate) const fn is_corrected_by_content(self) -> bool {
        self.rests_on_numbers() || matches!(self, Self::Refer)
    }

    /// Returns whether the rule may join a leg to the leg that caused it by one number only, e.g. by the caller's
    /// number. Such a join is undone if both numbers of another leg agree with that cause.
    pub(crate) const fn may_rest_on_one_number(self) -> bool {
        matches!(self, Self::OnwardOne | Self::Hairpin | Self::ForWaitingCaller | Self::LateCause)
    }

    /// Returns whether answers at the same time confirm a join by this rule. The leg and another leg of the call must
    /// be answered at about the same time.
    pub(crate) const fn is_confirmed_by_answer(self) -> bool {
        matches!(
            self,
            Self::OnwardBoth | Self::Diverted | Self::ForWaitingCaller | Self::AnotherDevice | Self::MachinePair
        )
    }

    /// Returns whether rules about numbers are forbidden for a call that this rule has related to an earlier call. They
    /// are forbidden if the leg that caused the call is known, or if the call's own leg could belong to several calls.
    pub(crate) const fn closes_call_it_relates(self) -> bool {
        matches!(self, Self::Replaces | Self::Refer | Self::Ambiguous)
    }

    /// Returns whether the rule applies only if one host received one of the two legs and sent the other.
    pub(crate) const fn needs_common_host(self) -> bool {
        matches!(self, Self::OnwardBoth | Self::OnwardOne | Self::Diverted | Self::ForWaitingCaller | Self::NextTrunk)
    }
}

impl std::fmt::Display for CorrelationRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
