//! Tests of the fake Pyrus with a client that sends exact bytes: the conditions of each endpoint, each switch and each
//! fault. Also tests that the fake notices a client that breaks the protocol.

mod client;
mod control;
mod endpoints;
mod faults;
mod framing;
mod strict;
mod switches;
mod with_reqwest;

use callspan::fake_pyrus::{FakeOptions, FakePyrus};

fn fake() -> FakePyrus {
    FakePyrus::start(FakeOptions::default()).expect("loopback ports are free")
}

fn fake_with(change: impl FnOnce(&mut FakeOptions)) -> FakePyrus {
    let mut options = FakeOptions::default();
    change(&mut options);
    FakePyrus::start(options).expect("loopback ports are free")
}

fn no_violation(fake: &FakePyrus) {
    assert_eq!(fake.violations(), Vec::<String>::new());
}
