//! Delivery against the fake Pyrus: the real executor, the real journal, real sockets on loopback.

mod happy;
mod world;
