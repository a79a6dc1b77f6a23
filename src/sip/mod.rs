//! Room `sip`.
