//! The rooms of callspan that read what others wrote, compiled from their sources as they are, without those that only
//! serve them (HTTP, the journal, the commands): instrumented, these take a fraction of the time to build.
#![allow(missing_docs, dead_code, unused_imports, reason = "the whole package is built and linted elsewhere")]

#[path = "../../../src/call/mod.rs"]
pub mod call;
#[path = "../../../src/capture/mod.rs"]
pub mod capture;
#[path = "../../../src/decode/mod.rs"]
pub mod decode;
#[path = "../../../src/net.rs"]
pub mod net;
#[path = "../../../src/render/mod.rs"]
pub mod render;
#[path = "../../../src/rtp/mod.rs"]
pub mod rtp;
#[path = "../../../src/sdp/mod.rs"]
pub mod sdp;
#[path = "../../../src/sip/mod.rs"]
pub mod sip;
#[path = "../../../src/spool/mod.rs"]
pub mod spool;
#[path = "../../../src/time.rs"]
pub mod time;
