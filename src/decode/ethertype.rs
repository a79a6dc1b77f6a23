//! EtherType numbers (IANA registry "IEEE 802 Numbers").

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const VLAN: u16 = 0x8100;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const MPLS: u16 = 0x8847;
pub(super) const MPLS_UPSTREAM: u16 = 0x8848;
pub(super) const PPPOE_DISCOVERY: u16 = 0x8863;
pub(super) const PPPOE: u16 = 0x8864;
pub(super) const VLAN_SERVICE: u16 = 0x88a8;
pub(super) const LLDP: u16 = 0x88cc;
pub(super) const VLAN_OLD_QINQ: u16 = 0x9100;
