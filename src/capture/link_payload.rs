//! Link-layer headers: where the EtherType is in them, and where the data begin.

use super::ethertype::tag_length;
use crate::net::be16;

/// The data after a link-layer header or tag, with their EtherType.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkPayload<'a> {
    pub(crate) ethertype: u16,
    pub(crate) data: &'a [u8],
}

impl<'a> LinkPayload<'a> {
    /// Returns the payload of an Ethernet frame; `None` if the frame is too short.
    #[inline]
    pub(crate) fn of_ethernet(frame: &'a [u8]) -> Option<Self> {
        Some(Self { ethertype: be16(frame, 12)?, data: &frame[14..] })
    }

    /// Returns the payload of a frame with a Linux cooked header, version 1; `None` if the frame is too short.
    #[inline]
    pub(crate) fn of_cooked(frame: &'a [u8]) -> Option<Self> {
        Some(Self { ethertype: be16(frame, 14)?, data: &frame[16..] })
    }

    /// Returns the payload of a frame with a Linux cooked header, version 2; `None` if the frame is too short.
    #[inline]
    pub(crate) fn of_cooked_v2(frame: &'a [u8]) -> Option<Self> {
        Some(Self { ethertype: be16(frame, 0)?, data: frame.get(20..)? })
    }

    /// Returns the length of the tag with which the data begin, bytes; `None` if they begin with no tag.
    #[inline]
    pub(crate) fn tag_length(self) -> Option<usize> {
        tag_length(self.ethertype, self.data)
    }

    /// Returns the payload after a tag of this length; `None` if the data are too short.
    #[inline]
    pub(crate) fn after_tag(self, length: usize) -> Option<Self> {
        Some(Self { ethertype: be16(self.data, length - 2)?, data: &self.data[length..] })
    }
}
