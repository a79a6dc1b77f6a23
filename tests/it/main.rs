//! The integration tests: one binary, one module for each subject.

#![allow(unreachable_pub, reason = "a test binary: nothing is reached from outside")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod architecture;
mod captures;
mod cases;
mod central;
mod cli;
mod codecs;
mod crash;
mod delivery;
mod fake_pyrus;
mod faults;
mod fuzz_smoke;
mod hep;
mod licences;
mod live;
mod metamorphic;
mod mirror;
mod retention;
mod scale;
mod scenarios;
mod segments;
mod sip_torture;
mod sound;
mod spool_tshark;
mod supervision;
mod support;
mod test_call;
mod units;
mod world;
