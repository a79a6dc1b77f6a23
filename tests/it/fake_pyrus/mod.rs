//! The fake Pyrus against a client that sends exact bytes: the conditions of each endpoint, each switch, each fault, and
//! the detection of a client that breaks the protocol.

mod client;
mod control;
mod endpoints;
mod faults;
mod framing;
mod strict;
mod switches;
mod with_reqwest;

use callspan::fake_pyrus::{Fake, Options};

fn fake() -> Fake {
    Fake::start(Options::default()).expect("loopback ports are free")
}

fn fake_with(change: impl FnOnce(&mut Options)) -> Fake {
    let mut options = Options::default();
    change(&mut options);
    Fake::start(options).expect("loopback ports are free")
}

fn no_violation(fake: &Fake) {
    assert_eq!(fake.violations(), Vec::<String>::new());
}
