//! Room `fake_pyrus`.
