//! Facts about the caller of a leg beside the number that the record shows.

use std::net::IpAddr;

use crate::call::correlation_keys::{has_digits, same_number};
use crate::call::numbers::NumberPlan;
use crate::call::party::normal;
use crate::sip::{NameAddr, SipMessage};

/// Whether the caller withholds the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CallerPrivacy {
    /// The caller does not withhold the number.
    #[default]
    Shown,
    /// The caller withholds the number, but a header of the network names it.
    Named,
    /// The caller withholds the number, and no header names it. So `from` is only a word.
    Nobody,
}

/// Facts about the caller beside the number, as known when the message was captured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CallerFacts {
    /// Whether the caller withholds the number.
    pub(super) privacy: CallerPrivacy,
    /// Whether the caller is an extension.
    pub(super) is_extension: bool,
    /// Host that has registered the caller's number, if the number may be the number of a trunk.
    pub(super) registrant: Option<IpAddr>,
    /// A second number of the caller ([`second_number`]); `None` if the message names one number only.
    pub(super) second_number: Option<String>,
}

/// Returns a number of the caller that differs from `shown`, the number in the record.
///
/// `From` may have the number that the called party sees, and an identity header the number of the line or of the
/// company (RFC 3325). A PBX may pass on either of them.
pub(super) fn second_number(
    request: &SipMessage<'_>,
    caller: Option<&NameAddr>,
    shown: Option<&str>,
    plan: &NumberPlan,
) -> Option<String> {
    let identities = IDENTITIES.iter().flat_map(|name| request.addresses(name)).filter(is_calling_party);
    let addresses = caller.cloned().into_iter().chain(identities);
    let mut numbers = addresses.filter_map(|address| normal(&address, plan));
    numbers.find(|number| has_digits(Some(number)) && !same_number(Some(number), shown))
}

/// Returns whether an address names the calling party. In `Remote-Party-ID`, a parameter says which party it names.
pub(super) fn is_calling_party(address: &NameAddr) -> bool {
    address.params.get("party").is_none_or(|party| party.eq_ignore_ascii_case("calling"))
}

/// Headers that name the caller to the caller's own network, even if the caller hides the number from others (RFC
/// 3325). Older devices send `Remote-Party-ID`.
pub(super) const IDENTITIES: [&str; 3] = ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"];
