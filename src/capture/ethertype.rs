//! EtherType numbers (IANA registry "IEEE 802 Numbers").

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
/// EtherType of a VLAN tag of old Juniper switches, for a customer's network within the provider's.
pub(crate) const VLAN_OLD_NESTED: u16 = 0x8200;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const MPLS: u16 = 0x8847;
pub(crate) const MPLS_UPSTREAM: u16 = 0x8848;
pub(crate) const PPPOE_DISCOVERY: u16 = 0x8863;
pub(crate) const PPPOE: u16 = 0x8864;
pub(crate) const VLAN_SERVICE: u16 = 0x88a8;
pub(crate) const LLDP: u16 = 0x88cc;
pub(crate) const VLAN_OLD_QINQ: u16 = 0x9100;
pub(crate) const VLAN_OLD_QINQ_2: u16 = 0x9200;
pub(crate) const VLAN_OLD_QINQ_3: u16 = 0x9300;
/// EtherType of the VN-Tag of Cisco's fabric extenders (a draft of IEEE 802.1BR).
pub(crate) const VN_TAG: u16 = 0x8926;
/// EtherType of the E-TAG (IEEE 802.1BR).
pub(crate) const E_TAG: u16 = 0x893f;
/// EtherType of Cisco MetaData, which names the security group of the sender (TrustSec).
pub(crate) const CISCO_METADATA: u16 = 0x8909;
pub(crate) const FABRIC_PATH: u16 = 0x8903;
/// EtherType of provider backbone bridging, "MAC in MAC" (IEEE 802.1ah).
pub(crate) const PBB: u16 = 0x88e7;
/// EtherType of the network service header (RFC 8300).
pub(crate) const NSH: u16 = 0x894f;
/// EtherType of MACsec, which encrypts frames (IEEE 802.1AE).
pub(crate) const MACSEC: u16 = 0x88e5;
/// EtherType of TRILL, which routes frames between switches (RFC 6325).
pub(crate) const TRILL: u16 = 0x22f3;

/// Returns the length, bytes, of the tag that the EtherType `kind` announces. The length includes the next EtherType,
/// which ends the tag. Returns `None` if `kind` announces no tag.
pub(crate) fn tag_length(kind: u16, data: &[u8]) -> Option<usize> {
    match kind {
        VLAN | VLAN_SERVICE | VLAN_OLD_NESTED | VLAN_OLD_QINQ | VLAN_OLD_QINQ_2 | VLAN_OLD_QINQ_3 => Some(4),
        VN_TAG => Some(6),
        E_TAG => Some(8),
        // The tag contains version 1, the length of the options in units of 4 bytes, and the options.
        CISCO_METADATA => match data {
            [1, units @ 1..=MAX_METADATA_UNITS, ..] => Some(2 + 4 * usize::from(*units) + 2),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether this EtherType belongs to a VLAN tag.
pub(crate) const fn is_vlan(kind: u16) -> bool {
    matches!(kind, VLAN | VLAN_SERVICE | VLAN_OLD_NESTED | VLAN_OLD_QINQ | VLAN_OLD_QINQ_2 | VLAN_OLD_QINQ_3)
}

/// Maximum number of units of options in a Cisco MetaData header. Switches send one unit.
const MAX_METADATA_UNITS: u8 = 8;
