//! Delivery against the fake Pyrus: the real executor, the real journal, real sockets on loopback.
//!
//! Pyrus reports an error in two ways, as HTTP 200 and as HTTP 400. Each test of such an error runs with both.

mod ambiguous;
mod happy;
mod limits;
mod network;
mod refused;
mod scale;
mod secrets;
mod token;
mod uploads;
mod world;
