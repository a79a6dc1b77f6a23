//! Bad days of the machine: disks that are full or read-only, a journal that is damaged, encryption that is cut off. The pieces of `callspan run`
//! work in this process, on file systems that the tests mount (as root; else they say so and are skipped).

mod disk;
mod encryption;
mod journal;
mod station;
