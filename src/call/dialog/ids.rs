//! Identifiers of a dialog: Call-ID, tags, and the Via branches of its newest INVITEs without To tag.

use crate::call::dialog::matching::to_tag_of;
use crate::call::record::Side;
use crate::sip::SipMessage;

/// Identifiers by which messages are assigned to a dialog.
#[derive(Clone, Debug)]
pub(super) struct DialogIds {
    /// Value of the Call-ID header.
    pub(super) call_id: String,
    /// Side that sent the first captured request. Without the INVITE, the caller is presumed, unless an earlier process
    /// had stored the dialog's tags.
    pub(super) first_requester: Side,
    /// Tag of the caller, i.e. the From tag of the first INVITE; `None` if it has none.
    pub(super) caller_tag: Option<String>,
    /// Tag of the callee that answered; `None` before the answer.
    pub(super) callee_tag: Option<String>,
    /// Tags of the callees that sent provisional responses, i.e. of early dialogs.
    pub(super) early_tags: Vec<String>,
    /// CSeq number of the newest INVITE without To tag; 0 before the first.
    pub(super) invite_cseq: u32,
    /// Hashes of the Via branches of the two newest INVITEs without To tag, newest first.
    pub(super) branches: [Option<u64>; 2],
}

impl DialogIds {
    /// Reads the identifiers from the first captured message of a dialog. `requester` is the side that sent this request;
    /// for a response, the side that sent the answered request.
    pub(super) fn of_first_message(message: &SipMessage<'_>, requester: Side) -> Self {
        let from_tag = message.from().and_then(|f| f.tag().map(str::to_owned));
        let (caller_tag, callee_tag) = match requester {
            Side::Caller => (from_tag, None),
            Side::Callee => (to_tag_of(message), from_tag),
        };
        Self {
            call_id: message.call_id().to_owned(),
            first_requester: requester,
            caller_tag,
            callee_tag,
            early_tags: Vec::new(),
            invite_cseq: 0,
            branches: [None, None],
        }
    }
}
