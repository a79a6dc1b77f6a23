//! Matching of messages to a dialog: by tags (RFC 3261 section 12), and by Via branches before the callee's tag is
//! known.

use std::hash::BuildHasher;

use crate::call::dialog::{AnswerEvidence, Dialog, DialogStart};
use crate::call::record::Side;
use crate::sip::{SipMessage, SipMethod};

impl Dialog {
    /// Returns whether a message may belong to this dialog. After a fork several callees may respond to one INVITE, and
    /// all their responses belong to the dialog of this INVITE (RFC 3261 section 17.1.3).
    pub(crate) fn matches(&self, message: &SipMessage<'_>) -> bool {
        let is_response = message.status().is_some() && self.requester(message) == Side::Caller;
        self.matches_tags(message) || is_response && self.has_branch_of(message)
    }

    /// Returns whether one of the tags of a message is the tag of the callee that answered.
    pub(crate) fn names_callee(&self, message: &SipMessage<'_>) -> bool {
        let Some(callee) = self.ids.callee_tag.as_deref() else { return false };
        let from = message.from();
        let from = from.as_ref().and_then(|f| f.tag());
        to_tag_of(message).as_deref() == Some(callee) || from == Some(callee)
    }

    /// Returns whether the tags of a message match this dialog. One tag must be the caller's. The other tag must be
    /// absent, or belong to the callee or to an early dialog. A dialog without tags (RFC 2543) matches by its Call-ID
    /// alone.
    fn matches_tags(&self, message: &SipMessage<'_>) -> bool {
        let Some(own) = self.ids.caller_tag.as_deref() else { return true };
        let from = message.from();
        let from = from.as_ref().and_then(|f| f.tag());
        let to = message.to();
        let to = to.as_ref().and_then(|t| t.tag());
        let other = match (from, to) {
            (Some(f), other) if f == own => other,
            (other, Some(t)) if t == own => other,
            _ => return false,
        };
        match (other, &self.ids.callee_tag) {
            (Some(tag), Some(known)) => {
                tag == known || self.ids.early_tags.iter().any(|t| t == tag) || !self.is_confirmed()
            }
            _ => true,
        }
    }

    /// Returns whether a request, or a response to it, belongs to a second callee that answered after a fork. The
    /// caller hangs up on this callee at once (RFC 3261 section 13.2.2.4), and the call with the first callee
    /// continues.
    pub(super) fn is_for_lost_fork(&self, message: &SipMessage<'_>) -> bool {
        let (Some(chosen), Some((_, AnswerEvidence::Success))) = (self.ids.callee_tag.as_deref(), self.answered) else {
            return false;
        };
        if message.status().is_some() && message.transaction_method() == Some(&SipMethod::Invite) {
            return false;
        }
        self.callee_tag_in(message).is_some_and(|tag| tag != chosen && self.ids.early_tags.contains(&tag))
    }

    /// Returns the tag of the callee in a message of this dialog; `None` if the message has none.
    pub(super) fn callee_tag_in(&self, message: &SipMessage<'_>) -> Option<String> {
        match self.requester(message) {
            Side::Caller => to_tag_of(message),
            Side::Callee => message.from().and_then(|f| f.tag().map(str::to_owned)),
        }
    }

    /// Returns whether a response answers an INVITE that does not belong to this dialog, judged by its Via branch (RFC
    /// 3261 sections 8.1.1.7 and 16.6). A forking proxy sends several INVITEs with the same Call-ID and tags.
    pub(crate) fn answers_other_invite(&self, message: &SipMessage<'_>) -> bool {
        let first = message.cseq().is_some_and(|cseq| cseq.number <= self.ids.invite_cseq);
        let branch = branch_hash(message);
        first
            && self.requester(message) == Side::Caller
            && branch.is_some()
            && self.ids.branches[0].is_some()
            && !self.ids.branches.contains(&branch)
    }

    /// Returns whether a message has the Via branch of an INVITE of this dialog.
    pub(crate) fn has_branch_of(&self, message: &SipMessage<'_>) -> bool {
        let branch = branch_hash(message);
        branch.is_some() && self.ids.branches.contains(&branch)
    }

    /// Returns whether an INVITE without To tag begins another call with the same Call-ID and From tag. Returns true if
    /// the INVITE of this dialog is over, and the new one is another transaction (RFC 3261 section 17.2.3).
    pub(crate) fn is_reused_by(&self, message: &SipMessage<'_>) -> bool {
        let is_other_transaction = branch_hash(message).is_some() && !self.has_branch_of(message);
        self.is_past_invite() && is_other_transaction && self.ids.branches[0].is_some()
    }

    /// Returns whether a further INVITE without To tag cannot concern this dialog. The dialog was answered and is over,
    /// or its 2xx was captured. A request within a dialog has a To tag (RFC 3261 section 12.2.1.1). So a telephone that
    /// sends such an INVITE has forgotten the dialog, e.g. because it was restarted.
    pub(crate) fn is_past_invite(&self) -> bool {
        self.answered.is_some() && self.ended().is_some() || self.has_success()
    }

    /// Returns the hashes of the Via branches of the two newest INVITEs without To tag, newest first.
    pub(crate) const fn branches(&self) -> [Option<u64>; 2] {
        self.ids.branches
    }

    /// Returns the hash of a message's Via branch; `None` if the branch may not be unique, because it lacks the prefix
    /// `z9hG4bK`.
    pub(crate) fn branch_of(message: &SipMessage<'_>) -> Option<u64> {
        branch_hash(message)
    }

    pub(super) fn note_branch(&mut self, message: &SipMessage<'_>) {
        let branch = branch_hash(message);
        if branch.is_some() && !self.ids.branches.contains(&branch) {
            self.ids.branches = [branch, self.ids.branches[0]];
        }
    }

    /// Forgets the INVITE with the Via branch of a message. If no INVITE has it, forgets the newest one.
    pub(super) fn forget_branch(&mut self, message: &SipMessage<'_>) {
        let [newest, older] = self.ids.branches;
        self.ids.branches = [if branch_hash(message) == older { newest } else { older }, None];
    }

    /// Returns the side that sent a request. For a response, returns the side that sent the answered request.
    pub(crate) fn requester(&self, message: &SipMessage<'_>) -> Side {
        let from = message.from();
        let from = from.as_ref().and_then(|f| f.tag());
        match (from, self.ids.caller_tag.as_deref()) {
            (Some(from), Some(own)) if from != own => Side::Callee,
            _ => Side::Caller,
        }
    }

    pub(super) fn note_request_tag(&mut self, message: &SipMessage<'_>) {
        let tag = self.callee_tag_in(message);
        if self.ids.callee_tag.is_none() && self.is_confirmed() || self.start == DialogStart::MidCall {
            self.ids.callee_tag = self.ids.callee_tag.take().or(tag);
        }
    }

    pub(super) fn note_early_tag(&mut self, tag: Option<String>) {
        if let Some(tag) = tag
            && self.ids.early_tags.len() < MAX_EARLY_TAGS
            && !self.ids.early_tags.contains(&tag)
        {
            self.ids.early_tags.push(tag);
        }
    }
}

/// Returns the hash of a Via branch; `None` without the magic cookie `z9hG4bK`, because then the branch is not unique
/// (RFC 3261 section 8.1.1.7).
fn branch_hash(message: &SipMessage<'_>) -> Option<u64> {
    let branch = message.via_branch().filter(|branch| branch.starts_with("z9hG4bK"))?;
    Some(foldhash::fast::FixedState::with_seed(3).hash_one(branch.as_ref()))
}

pub(super) fn to_tag_of(message: &SipMessage<'_>) -> Option<String> {
    message.to().and_then(|t| t.tag().map(str::to_owned))
}

/// Maximum number of early dialogs of one forked INVITE with a stored To tag.
const MAX_EARLY_TAGS: usize = 32;
