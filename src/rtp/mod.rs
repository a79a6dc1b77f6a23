//! Room `rtp`.
