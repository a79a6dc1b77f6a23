//! Version 7 of the archive's database: for every filter of the console's list of calls, there is a database index. It
//! has the order of the list, newest first.
//!
//! Without such a database index, PostgreSQL would read all calls even if few calls meet the filter, e.g. calls with a
//! failed delivery. The database indexes by which calls are counted also contain the class of a call, i.e. how much can
//! be heard. So a count does not read the calls themselves.

use super::schema::{IndexDefinition, Migration};

/// The database indexes for the filters of the console's list of calls. The database indexes of sites and telephone
/// extensions also contain the class of a call (how much can be heard).
pub(super) const V7: Migration = Migration { indexes: FILTERS, ..Migration::EMPTY };

const FILTERS: &[IndexDefinition] = &[
    index("calls_by_site", "callspan.calls (site, begin_at DESC, id DESC) INCLUDE (heard)"),
    index("calls_by_extension", "callspan.calls (extension, begin_at DESC, id DESC) INCLUDE (site, heard)"),
    index(
        "calls_by_from_extension",
        "callspan.calls (from_extension, begin_at DESC, id DESC) INCLUDE (site, heard) WHERE from_extension IS NOT NULL",
    ),
    index(
        "calls_by_to_extension",
        "callspan.calls (to_extension, begin_at DESC, id DESC) INCLUDE (site, heard) WHERE to_extension IS NOT NULL",
    ),
    index("calls_by_heard", "callspan.calls (heard, begin_at DESC, id DESC)"),
    index("calls_by_outcome", "callspan.calls (outcome, begin_at DESC, id DESC)"),
    index("calls_by_delivery", "callspan.calls (delivery, begin_at DESC, id DESC)"),
    index("calls_by_direction", "callspan.calls (direction, begin_at DESC, id DESC)"),
    index("calls_by_length", "callspan.calls (length_s)"),
];

const fn index(name: &'static str, on: &'static str) -> IndexDefinition {
    IndexDefinition { name, on }
}
