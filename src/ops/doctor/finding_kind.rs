//! Kinds of findings: the names by which scripts recognise them.

use serde::{Serialize, Serializer};

/// Defines [`FindingKind`] with the name of each kind.
macro_rules! finding_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Kind of a finding, e.g. no VoIP. Its name stays the same between versions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum FindingKind {
            $($(#[$doc])* $variant,)+
        }

        impl FindingKind {
            /// Returns the name of the kind for scripts, e.g. `no_voip`.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

finding_kinds! {
    /// The source of the packets (interface or capture file) gave a warning.
    Source = "source",
    /// The kernel of the recorder dropped frames before callspan read them.
    KernelDrops = "kernel_drops",
    /// An interface has no link.
    NoLink = "no_link",
    /// An interface merges several received packets into one.
    Offload = "offload",
    /// The card could not be queried, because ethtool is missing.
    NoEthtool = "no_ethtool",
    /// The network card lost frames.
    CardDrops = "card_drops",
    /// Frames arrived damaged.
    DamagedFrames = "damaged_frames",
    /// The clock of the recorder is not synchronised.
    ClockUnsynchronised = "clock_unsynchronised",
    /// The clock of the recorder was set during the check.
    ClockSteps = "clock_steps",
    /// The clock of a capture file jumps ahead.
    ClockStepAhead = "clock_step_ahead",
    /// The computer that wrote a capture file had not set its clock yet.
    ClockNotSet = "clock_not_set",
    /// Frames are longer than Ethernet allows.
    LongFrames = "long_frames",
    /// Several RTP packets arrived merged into one packet.
    JoinedRtp = "joined_rtp",
    /// Outgoing frames were captured before the network card cut them into segments.
    SegmentationOffload = "segmentation_offload",
    /// No frames arrived.
    NoFrames = "no_frames",
    /// One of several interfaces shows no calls, but another interface shows calls.
    SilentTap = "silent_tap",
    /// Frames have an unsupported link type.
    UnknownLink = "unknown_link",
    /// There is neither SIP nor RTP.
    NoVoip = "no_voip",
    /// Only one direction of the traffic is mirrored.
    OneDirection = "one_direction",
    /// The capture truncates frames, because its snapshot length is too short.
    CutBySnaplen = "cut_by_snaplen",
    /// The mirror port truncates frames before the recorder gets them.
    CutByMirror = "cut_by_mirror",
    /// Packets arrive more than once.
    Duplicates = "duplicates",
    /// Datagrams arrive in fragments.
    Fragments = "fragments",
    /// Fragments of datagrams are missing.
    FragmentsIncomplete = "fragments_incomplete",
    /// RTP packets were lost before they reached the recorder.
    LostBeforeUs = "lost_before_us",
    /// The frames have VLAN tags.
    Vlans = "vlans",
    /// The mirrored packets arrive in tunnels.
    Tunnels = "tunnels",
    /// Packets are in a kind of tunnel that callspan does not remove.
    UnknownTunnel = "unknown_tunnel",
    /// SIP is wrapped in another protocol.
    WrappedSip = "wrapped_sip",
    /// Frames are encrypted with MACsec.
    Macsec = "macsec",
    /// Packets are encrypted with IPsec.
    Ipsec = "ipsec",
    /// A table of limited size was full, so calls or packets were dropped or not counted.
    TablesFull = "tables_full",
    /// The calls show that several IP addresses belong to one machine, e.g. one PBX.
    OneMachine = "one_machine",
    /// SIP is encrypted with TLS.
    SipOverTls = "sip_over_tls",
    /// TLS runs at ports that may carry SIP.
    TlsElsewhere = "tls_elsewhere",
    /// There is RTP but no SIP.
    RtpWithoutSip = "rtp_without_sip",
    /// There is RTP, but no packet of it belongs to a signalled call.
    RtpOfNoCall = "rtp_of_no_call",
    /// There are calls, but no RTP that belongs to a call.
    SipWithoutRtp = "sip_without_rtp",
    /// The media uses other addresses than the signalling announces.
    MediaBehindNat = "media_behind_nat",
    /// Calls have the media of one side only.
    OneSide = "one_side",
    /// The media could not be judged, because no call was answered, or the answered calls were too short or faxes.
    NoAnsweredCall = "no_answered_call",
    /// RTP of calls arrived, but a recording would have no sound.
    MediaNotHeard = "media_not_heard",
    /// SIP runs over SCTP.
    SipOverSctp = "sip_over_sctp",
    /// Calls have media over TCP.
    RtpOverTcp = "rtp_over_tcp",
    /// RTP is encrypted, and its keys are not known.
    EncryptedMedia = "encrypted_media",
    /// RTP is encrypted, and its keys are in the signalling.
    SrtpWithKeys = "srtp_with_keys",
    /// Calls use codecs for which callspan has no decoder.
    UnknownCodec = "unknown_codec",
    /// SIP messages are malformed.
    BrokenSip = "broken_sip",
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
