//! Room `delivery`.
