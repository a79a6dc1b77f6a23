//! callspan reads SIP and RTP from a mirror port and makes one stereo recording per call.
//!
//! # The path of the data
//!
//! ```text
//! NIC or capture file
//!   capture    [IO]  frames with a capture time
//!   decode           removes tunnels, reassembles: UDP payloads and TCP byte streams
//!   sip  sdp  rtp    parse messages, session descriptions and packets
//!   call             the engine: dialogs -> legs -> conversations; call events, packets for the spool
//!   spool      [IO]  one pcapng file per leg, the only output of the capture thread
//!   render           spool -> two timelines -> decoded stereo samples, in two passes
//!   recording  [IO]  samples -> a finished file (.part, fsync, rename) and its call record
//!   delivery         the pure state machine of the uploads to Pyrus
//!   archive          the pure state machine of the copies in a central archive
//!   journal    [IO]  SQLite: conversations, legs, recordings, and the rows of delivery
//!   pyrus      [IO]  the HTTP client that executes the actions of delivery
//!   central    [IO]  the clients of the archive: object store and PostgreSQL
//!   fake_pyrus [IO]  a fake of the Pyrus API, for tests and for the demo
//!   ops        [IO]  configuration, logs, counters, alarms, doctor
//!   service    [IO]  the threads of the recorder
//!   console    [IO]  pages and API to find a call and hear it; accounts and their audit
//!   cmd        [IO]  the commands of the binary
//! ```
//!
//! Every module may use `codec` (facts about codecs), `net` (addresses, numbers in network byte order), `time`, and
//! `text` (forms of texts).
//!
//! A module depends only on modules above it. `sip`, `sdp` and `rtp` do not depend on each other and meet in `call`.
//! `call` uses no file, SQL or HTTP. `pyrus` knows nothing about capture. Only modules marked \[IO\] use clocks, files,
//! sockets or threads. `tests/it/architecture` checks these rules.
//!
//! # Glossary
//!
//! Time and traffic:
//!
//! - **capture time**: nanoseconds since the Unix epoch by the clock of the capture ([`time::Timestamp`]): the stamp of
//!   the first frame plus monotonic progress. The core reads no other clock.
//! - **wall clock**: the UTC time that records show. It can be set during a call; the capture time cannot.
//! - **endpoint**: an IP address and a port ([`net::Endpoint`]).
//! - **flow**: the packets from one endpoint to another endpoint.
//! - **hop**: one pair of hosts that exchange the SIP messages of a dialog, e.g. provider and PBX.
//! - **machine**: one PBX, proxy or telephone; it may have several IP addresses (*hosts*). Which addresses belong to
//!   one machine is configured or learnt.
//! - **topology**: the knowledge which hosts belong to one machine ([`call::topology`]).
//! - **mirror port**: the switch port (SPAN) that copies the traffic to the recorder. It can lose, double, cut or
//!   reorder frames.
//! - **recorder**: the computer that runs callspan. Outside of `call`, comments also call it *this machine*.
//! - **tap**: one source of live frames: a network interface, or the socket for HEP agents.
//! - **hole**: bytes of a TCP stream that were not captured, while later bytes were.
//!
//! Signalling (RFC 3261) and media (RFC 3264, RFC 3550):
//!
//! - **dialog**: a relationship of two user agents, named by Call-ID and both tags (RFC 3261 section 12). An **early
//!   dialog** has a provisional response only; an **in-dialog request** carries both tags.
//! - **tombstone**: the memory of an ended dialog, so that its late messages begin no new call.
//! - **scan**: many unanswered INVITEs from one source address. They get one call record together.
//! - **fork**: a proxy sends one INVITE to several targets; each target that answers makes its own (early) dialog.
//! - **leg**: one dialog as captured at one hop (`call::leg`). The PBX ends a dialog and starts another, so that a
//!   call has several legs.
//! - **side**: an end of a leg ([`call::record::Side`]). The *caller* sent the first INVITE and is the left channel;
//!   the *callee* received it and is the right channel.
//! - **conversation**, **call**: the legs that belong together, with one call record.
//! - **correlation**: the decision to which conversation a new leg belongs. The leg **joins** that conversation.
//! - **cause** of a leg: the earlier leg because of which a machine started this leg. E.g. a PBX receives a call on one
//!   leg and rings a telephone on another: the first leg is the cause of the second.
//! - **evidence**: the finding of one rule of correlation that a leg belongs to a conversation. A **weak join** rests
//!   on numbers alone; until other evidence confirms it, the leg can leave the conversation again.
//! - **announced** call: an event has reported the call to journal and delivery.
//! - **left call**: a live call of an earlier process that has no spool. A leg with one of its Call-IDs continues it.
//! - **recording session**: a call in which an SBC or telephone sends the sound of another call to a recorder (SIPREC).
//! - **anchor leg**: the leg that supplies sound and times of the conversation.
//! - **extension**: a number of our own PBX; **outside** numbers are all others.
//! - **directed pickup**: an extension answers a call that rings at another extension.
//! - **offer**, **answer**: the two session descriptions of a negotiation (RFC 3264). A **hold** is an offer of
//!   `sendonly`, `inactive` or the address 0.0.0.0.
//! - **early media**: RTP before the 2xx to the INVITE.
//! - **print** of a voice: the hash of a short block of its payload ([`call::voice_prints`]).
//! - **sketch** of a voice: the blocks of its payload with the lowest hashes. The prints are made from them.
//! - **relay**: a machine sends the voice of one leg on another leg. Equal bytes of voice on both legs prove it.
//! - **block** of a voice: a short piece of payload. The blocks of two streams are compared to prove a relay.
//! - **outline** of a sound: the loudness and pitch of both sides of a leg in each tenth of a second
//!   (`call::sound_outline`). Legs with different bytes are compared by it.
//! - **stream**: the RTP packets of one SSRC on one flow ([`call::streams::RtpStream`]).
//! - **payload type**: the number (0 to 127) in an RTP packet that stands for a codec. **payload format**: the codec
//!   with its clock and parameters.
//! - **telephone-event**: RTP packets that carry DTMF digits (RFC 4733).
//! - **redundant audio**: RTP packets that repeat earlier audio (RED, RFC 2198).
//! - **concealment**: sound that replaces lost packets.
//! - **media time**: the time that the RTP timestamps of a stream give; the **lag** of a packet is its arrival minus
//!   its media time. A **track** is a set of packets of about the same lag.
//! - **media timeout**: the end of a call after a time without media, because no BYE was captured.
//!
//! Recording and delivery:
//!
//! - **decision**: a result of the engine about a leg, stored in its spool file, so that rendering repeats no
//!   signalling logic ([`call::decision::Decision`]).
//! - **spool**: the pcapng files with the packets and decisions of the legs.
//! - **rolling file**: the file of the spool with the signalling of all legs that have no media yet.
//! - **chunk** of a spool: a buffer with whole pcapng blocks of one leg, in memory until it is written.
//! - **render worker**: a process without rights that decodes the packets of one call.
//! - **segment**: one file of a long recording (`part` in the call record).
//! - **record**, **call record**: the JSON description of a call ([`call::record::CallRecord`]).
//! - **verdict**: the summary in a record whether the call can be heard, and if not, why
//!   ([`call::record::CallVerdict`]).
//! - **problem**: a defect of a recording or record ([`call::record::ProblemKind`]).
//! - **journal**: the SQLite database of the service.
//! - **sidecar record**: the JSON file with the call record beside a recording.
//! - **finding**: a problem that the doctor or the check of the configuration reports.
//! - **hold** of a record: a request to keep the files of a call ([`call::record::RetentionHold`]).
//! - **leftover**: a file that is to be removed, because no row of the journal names it.
//! - **parked** delivery: a person must act before the delivery can succeed. A **dead** delivery was given up.
//! - **dead letter**: a message to a webhook, mail or Telegram that was given up.
//! - **held-back** alarm: the alarm command did not run for this alarm, because it ran for the same kind shortly
//!   before.
//! - **site**: one recorder of several that copy their calls to a **central archive**. The archive is an object store
//!   with the recordings, and an **index**: a PostgreSQL database with one row for each call.
//! - **scope**: the set of calls that an account of the console may see.

#![cfg_attr(not(feature = "service"), allow(dead_code, reason = "the service uses more of the core"))]

#[cfg(feature = "service")]
pub(crate) mod archive;
pub mod call;
pub mod capture;
#[cfg(feature = "service")]
pub(crate) mod central;
#[cfg(feature = "service")]
pub mod cmd;
pub mod codec;
#[cfg(feature = "service")]
pub mod console;
pub mod decode;
#[cfg(feature = "service")]
pub mod delivery;
#[cfg(feature = "service")]
pub mod fake_pyrus;
#[cfg(feature = "service")]
pub mod journal;
pub mod net;
#[cfg(feature = "service")]
pub mod ops;
#[cfg(feature = "service")]
pub mod pyrus;
#[cfg(feature = "service")]
pub mod recording;
pub mod render;
pub mod rtp;
pub mod sdp;
#[cfg(feature = "service")]
pub mod service;
pub mod sip;
pub mod spool;
pub(crate) mod text;
pub mod time;
