//! Tests of delivery with the fake Pyrus: the real executor, the real journal, and real sockets on loopback.
//!
//! Pyrus can report its own errors with HTTP 200 or with HTTP 400. Each test of such an error runs with both.

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
