//! callspan hears the SIP and RTP of a mirror port and gives every call one stereo recording.
//!
//! # The data's way
//!
//! ```text
//! NIC or pcap file
//!   capture   [IO]  Frame        bytes with a capture time; Tick; ClockStep
//!   decode          Datagram     untunnelled, defragmented: UDP payloads and TCP byte streams
//!   sip  sdp  rtp                what the parties agreed; what one packet says
//!   call            the Engine: dialogs -> legs -> conversations; CallEvents, packets for the spool
//!   spool     [IO]  one pcapng for each leg: the only thing the hot path writes
//!   render          spool -> two timelines -> decoded stereo samples (pure, two passes)
//!   recording [IO]  samples -> a finished file (.part, fsync, rename), its call record
//!   delivery        the pure state machine: poll_action(now) -> request, handle_outcome(now, outcome)
//!   journal   [IO]  SQLite: conversations, legs, recordings, and the rows of delivery
//!   pyrus     [IO]  the HTTP client that executes the requests
//!   fake_pyrus [IO] a faithful fake of the Pyrus API, for tests and for trying out
//!   ops       [IO]  configuration, logs, counters
//!   service   [IO]  the recorder's threads; the one loop that drives source -> engine -> spool
//!   cmd       [IO]  the commands
//! ```
//!
//! `codec`, `net` and `time` are the base that every module may name: codec facts, addresses, moments.
//!
//! A room knows only those above it; `sip`, `sdp` and `rtp` never see each other and meet in
//! `call`; `call` knows no file, SQL or HTTP; `pyrus` does not know how calls are captured.
//! Effects (clock, file, socket, thread) exist only in rooms marked \[IO\]. `tests/it/architecture`
//! holds these rules.
//!
//! # Glossary
//!
//! - **capture timeline**: the clock of the mirror: the first frame's stamp plus monotonic progress
//!   ([`time::Timestamp`]). Nothing in the core reads any other clock.
//! - **dialog**: a SIP relationship of two user agents (RFC 3261 section 12): Call-ID and both tags.
//! - **leg**: one dialog as seen at one hop of its way. A leg has two sides, *caller* (who sent the
//!   first INVITE) and *callee*.
//! - **conversation**: what a person calls "the call": one or more legs. It has one call record.
//! - **anchor leg**: the leg whose sound and times the conversation takes.
//! - **offer, answer**: the two halves of an SDP negotiation (RFC 3264).
//! - **stream**: the RTP packets of one SSRC on one flow (RFC 3550).
//! - **decision**: what the engine decided about a leg, written into its spool so that rendering
//!   decides nothing ([`call::decision::Decision`]).
//! - **spool**: the packets and decisions of a leg, as a pcapng file.
//! - **record**: the JSON that says what became of a call ([`call::record::CallRecord`]).
//! - **verdict**: in one word whether and why (not) a call can be heard ([`call::record::CallVerdict`]).

#![cfg_attr(not(feature = "service"), allow(dead_code, reason = "the service uses more of the core"))]

pub mod call;
pub mod capture;
#[cfg(feature = "service")]
pub mod cmd;
pub mod codec;
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
pub mod time;
