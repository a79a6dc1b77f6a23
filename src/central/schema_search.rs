//! Version 7 of the index: every filter of the console's list has an index in the order of the list, newest first.
//!
//! Without such an index, PostgreSQL would read all calls for a filter that few of them meet, e.g. a failed delivery. The
//! class of a call says how much can be heard. It is in the indexes by which calls are counted, so that a count does not
//! read the calls themselves.

/// SQL that adds the indexes of filters, and the class of a call to the indexes of sites and extensions.
pub(super) const V7: &str = r#"
DROP INDEX callspan.calls_by_site, callspan.calls_by_extension, callspan.calls_by_from_extension,
    callspan.calls_by_to_extension;
CREATE INDEX calls_by_site ON callspan.calls (site, begin_at DESC, id DESC) INCLUDE (heard);
CREATE INDEX calls_by_extension ON callspan.calls (extension, begin_at DESC, id DESC) INCLUDE (site, heard);
CREATE INDEX calls_by_from_extension ON callspan.calls (from_extension, begin_at DESC, id DESC) INCLUDE (site, heard)
    WHERE from_extension IS NOT NULL;
CREATE INDEX calls_by_to_extension ON callspan.calls (to_extension, begin_at DESC, id DESC) INCLUDE (site, heard)
    WHERE to_extension IS NOT NULL;
CREATE INDEX calls_by_heard ON callspan.calls (heard, begin_at DESC, id DESC);
CREATE INDEX calls_by_outcome ON callspan.calls (outcome, begin_at DESC, id DESC);
CREATE INDEX calls_by_delivery ON callspan.calls (delivery, begin_at DESC, id DESC);
CREATE INDEX calls_by_direction ON callspan.calls (direction, begin_at DESC, id DESC);
CREATE INDEX calls_by_length ON callspan.calls (length_s);
"#;
