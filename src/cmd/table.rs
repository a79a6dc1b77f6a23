//! Calls as a table for people, with a line of totals.
