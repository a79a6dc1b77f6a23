//! Encryption of the streams of a dialog: SRTP with keys in the description (RFC 4568), DTLS-SRTP (RFC 5763) and ZRTP
//! (RFC 6189).

use super::Negotiation;
use super::audio_description::AudioLine;
use super::audio_line_use::line_of;
use crate::call::decision::{Decision, MissingKeyReason, SrtpContext};
use crate::call::record::Side;
use crate::net::Flow;
use crate::sdp::{self, MediaProtocol};

/// Encryption of the audio that a side sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StreamSecurity {
    /// The audio is sent unencrypted.
    Plain,
    /// The sides agreed on no encryption, although one of them announced these keys. Some senders use them all the same.
    PlainDespiteKeys(Vec<SrtpContext>),
    /// The audio is encrypted by SRTP.
    Keys {
        /// The keys on which the sides agreed.
        context: SrtpContext,
        /// Keys in an unanswered offer of the sender. If the mirror lost the answer, they are in force.
        offered: Vec<SrtpContext>,
    },
    /// The audio is encrypted with keys that the capture does not show.
    Undecryptable(MissingKeyReason),
}

impl StreamSecurity {
    /// Returns whether the sides agreed on no encryption.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain | Self::PlainDespiteKeys(_))
    }

    /// Returns the encryption if the sender may use offered keys, too.
    fn with_offered(self, mut offered: Vec<SrtpContext>) -> Self {
        match self {
            Self::Keys { context, .. } => {
                offered.retain(|keys| *keys != context);
                Self::Keys { context, offered }
            }
            Self::Plain if !offered.is_empty() => Self::PlainDespiteKeys(offered),
            Self::PlainDespiteKeys(keys) => Self::PlainDespiteKeys([keys, offered].concat()),
            Self::Plain | Self::Undecryptable(_) => self,
        }
    }

    /// Returns the decision that stores this encryption of a stream in the spool.
    pub(crate) fn decision(self, stream: u32) -> Decision {
        match self {
            Self::Plain => Decision::Plain { stream, unused_keys: Vec::new() },
            Self::PlainDespiteKeys(unused_keys) => Decision::Plain { stream, unused_keys },
            Self::Keys { context, offered } => Decision::Srtp { stream, context, offered },
            Self::Undecryptable(why) => Decision::Encrypted { stream, why },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MediaProtection {
    #[default]
    Plain,
    Sdes,
    Dtls,
    SavpWithoutKeys,
}

impl Negotiation {
    /// Returns the encryption of the audio that `sender` sends on the first common m-line.
    pub(crate) fn security(&self, sender: Side) -> StreamSecurity {
        self.security_of_line(self.line(sender), self.line(sender.other()))
    }

    /// Returns the encryption of a stream that `sender` sends on a flow (source, destination). Each m-line may have its
    /// own keys.
    pub(crate) fn security_of_flow(&self, sender: Side, flow: Flow) -> StreamSecurity {
        let common = self.common_lines(sender);
        let agreed = match line_of(&common, flow) {
            None | Some(0) => self.security(sender),
            Some(line) => self.security_of_line(Some(common[line].0), Some(common[line].1)),
        };
        agreed.with_offered(self.offered_keys(sender))
    }

    /// Returns the keys in an in-dialog offer of a side that was not answered yet.
    fn offered_keys(&self, sender: Side) -> Vec<SrtpContext> {
        let offer = self.pending[sender.channel()].as_ref().and_then(|pending| pending.offer.as_ref());
        let keys = offer.into_iter().flat_map(|offer| &offer.lines).flat_map(|line| &line.crypto);
        keys.map(|(_, context)| context.clone()).collect()
    }

    /// Returns the encryption of an m-line. `own` is the description of the m-line by its sender, `other` the
    /// description by the other side.
    fn security_of_line(&self, own: Option<&AudioLine>, other: Option<&AudioLine>) -> StreamSecurity {
        if self.zrtp {
            return StreamSecurity::Undecryptable(MissingKeyReason::Zrtp);
        }
        let Some(own) = own else {
            // The sender's answer with its SRTP keys was not captured yet. If the receiver offered SRTP, the keys are
            // therefore unknown.
            let asked = other.is_some_and(|line| line.protection != MediaProtection::Plain);
            return if asked { StreamSecurity::Undecryptable(MissingKeyReason::NoKeys) } else { StreamSecurity::Plain };
        };
        let other_protection = other.map_or(own.protection, |o| o.protection);
        match (own.protection, other_protection) {
            (MediaProtection::Sdes, MediaProtection::Plain) | (MediaProtection::Plain, _) => {
                plain_despite_keys(own, other)
            }
            (MediaProtection::Dtls, MediaProtection::Plain) => StreamSecurity::Plain,
            (MediaProtection::Dtls, _) => StreamSecurity::Undecryptable(MissingKeyReason::DtlsSrtp),
            (MediaProtection::SavpWithoutKeys, _) => StreamSecurity::Undecryptable(MissingKeyReason::NoKeys),
            (MediaProtection::Sdes, _) => {
                // The SDP answer names the chosen crypto tag. The keys of a side encrypt the packets that this side
                // sends (RFC 4568 section 6.1).
                let chosen = other.and_then(|o| o.crypto.first()).map(|(tag, _)| *tag);
                let context = own.crypto.iter().find(|(tag, _)| Some(*tag) == chosen).or_else(|| own.crypto.first());
                // A sender encrypts header extensions only for a receiver that announces it (RFC 9335 section 4).
                let cryptex = other.map_or(own.cryptex, |receiver| receiver.cryptex);
                context.map_or(StreamSecurity::Undecryptable(MissingKeyReason::NoKeys), |(_, c)| StreamSecurity::Keys {
                    context: SrtpContext { cryptex, ..c.clone() },
                    offered: Vec::new(),
                })
            }
        }
    }
}

/// Returns the encryption of an m-line for which one side announced keys at most. The sender's own keys come first.
fn plain_despite_keys(own: &AudioLine, other: Option<&AudioLine>) -> StreamSecurity {
    let lines = std::iter::once(own).chain(other);
    let keys: Vec<SrtpContext> = lines.flat_map(|line| &line.crypto).map(|(_, context)| context.clone()).collect();
    if keys.is_empty() { StreamSecurity::Plain } else { StreamSecurity::PlainDespiteKeys(keys) }
}

pub(super) fn protection(media: &sdp::MediaDescription) -> MediaProtection {
    match media.protocol {
        _ if !media.crypto.is_empty() => MediaProtection::Sdes,
        MediaProtocol::UdpTlsRtpSavp | MediaProtocol::UdpTlsRtpSavpf => MediaProtection::Dtls,
        _ if media.fingerprint => MediaProtection::Dtls,
        MediaProtocol::RtpSavp | MediaProtocol::RtpSavpf => MediaProtection::SavpWithoutKeys,
        _ => MediaProtection::Plain,
    }
}
