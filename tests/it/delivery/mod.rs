//! Delivery against the fake Pyrus: the real executor, the real journal, real sockets on loopback.
//!
//! Each test that meets an error of Pyrus's own runs twice: with such errors as HTTP 200 and as 400.

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
