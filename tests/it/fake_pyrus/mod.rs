//! The fake Pyrus against a client whose every byte is known: each endpoint's conditions, each
//! switch, each fault, and that a wrong client is found out.

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
