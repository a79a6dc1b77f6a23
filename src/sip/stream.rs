//! Messages out of byte streams.
