//! The fake Pyrus against a client whose every byte is known: each endpoint's conditions, each
//! switch, each fault, and that a wrong client is found out.

#[path = "fake_pyrus/client.rs"]
mod client;
#[path = "fake_pyrus/control.rs"]
mod control;
#[path = "fake_pyrus/endpoints.rs"]
mod endpoints;
#[path = "fake_pyrus/faults.rs"]
mod faults;
#[path = "fake_pyrus/framing.rs"]
mod framing;
#[path = "fake_pyrus/strict.rs"]
mod strict;
#[path = "fake_pyrus/switches.rs"]
mod switches;
#[path = "fake_pyrus/with_reqwest.rs"]
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
