//! The users for which a successful REGISTER was captured, and the hosts at which they registered.
//!
//! A PBX registers the number of a trunk with its provider, and a telephone registers its extension with a PBX. A
//! single REGISTER does not show which of the two it is. But a provider usually accepts the REGISTERs of one host of the
//! site, while a PBX accepts those of many telephones.

use std::collections::HashMap;
use std::net::IpAddr;

use super::MAX_LEARNED;
use super::pattern::MAX_NUMBER_CHARS;

/// The hosts of a successful registration (REGISTER).
#[derive(Clone, Copy, Debug)]
pub(super) struct UserRegistration {
    /// Host that sent the REGISTER, i.e. the telephone, or the PBX for the number of a trunk.
    pub(super) registrant: IpAddr,
    /// Host that accepted the REGISTER, e.g. the PBX, or the provider for the number of a trunk.
    pub(super) registrar: IpAddr,
}

/// The hosts from which users have registered at one registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registrants {
    /// All users have registered from this host.
    One(IpAddr),
    /// Users have registered from several hosts.
    Several,
}

/// Users that the configuration does not list as extensions, and for which a successful REGISTER was captured.
#[derive(Clone, Debug, Default)]
pub(super) struct RegisteredUsers {
    /// The users, each with its hosts.
    pub(super) users: HashMap<String, UserRegistration>,
    registrars: HashMap<IpAddr, Registrants>,
}

impl RegisteredUsers {
    /// Adds a user, or replaces the hosts of a known user.
    pub(super) fn insert(&mut self, user: &str, registration: UserRegistration) {
        let is_full = self.users.len() >= MAX_LEARNED && !self.users.contains_key(user);
        if is_full || user.len() > MAX_NUMBER_CHARS {
            return;
        }
        let UserRegistration { registrant, registrar } = registration;
        let before = self.users.insert(user.to_owned(), registration);
        // A telephone may move to another host, and a mirror may show a REGISTER before and behind a NAT. So a further
        // host of the same user does not count.
        let is_moved = before.is_some_and(|before| before.registrar == registrar);
        if self.registrars.len() >= MAX_LEARNED && !self.registrars.contains_key(&registrar) {
            return;
        }
        let known = self.registrars.entry(registrar).or_insert(Registrants::One(registrant));
        if *known != Registrants::One(registrant) && !is_moved {
            *known = Registrants::Several;
        }
    }

    /// Returns the hosts of a user's registration.
    pub(super) fn get(&self, user: &str) -> Option<&UserRegistration> {
        self.users.get(user)
    }

    /// Returns the hosts of all registrations.
    pub(super) fn registrations(&self) -> impl Iterator<Item = &UserRegistration> {
        self.users.values()
    }

    /// Records that users of several hosts have registered at this host.
    pub(super) fn mark_shared(&mut self, registrar: IpAddr) {
        if self.registrars.len() < MAX_LEARNED {
            self.registrars.insert(registrar, Registrants::Several);
        }
    }

    /// Returns whether users of several hosts have registered at this host, so that it is a PBX with telephones.
    pub(super) fn is_shared(&self, registrar: IpAddr) -> bool {
        self.registrars.get(&registrar) == Some(&Registrants::Several)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A user may register at ever new hosts, e.g. because a REGISTER is forged.
    #[test]
    fn one_user_at_ever_new_registrars_stays_within_the_bound() {
        let mut users = RegisteredUsers::default();
        let registrant = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for registrar in (0..=MAX_LEARNED as u32).map(|n| IpAddr::V4(Ipv4Addr::from(n))) {
            users.insert("anna", UserRegistration { registrant, registrar });
        }
        assert_eq!((users.users.len(), users.registrars.len()), (1, MAX_LEARNED));
    }
}
