//! The order in which the open spool files were last used. With it, the writer finds the file to close without looking
//! at all legs.

use std::collections::BTreeMap;

use super::descriptors::max_open_files;
use crate::call::event::LegId;

/// Number of a use of a file. Each write gets the next higher number.
pub(super) type FileUse = u64;

/// The legs whose files are open, in the order of their last use.
#[derive(Debug)]
pub(super) struct OpenFiles {
    by_use: BTreeMap<FileUse, LegId>,
    max: usize,
    last_use: FileUse,
}

impl OpenFiles {
    pub(super) fn new() -> Self {
        Self { by_use: BTreeMap::new(), max: max_open_files(), last_use: 0 }
    }

    /// Counts one more use of a file and returns its number. A higher number means a later use.
    pub(super) fn next_use(&mut self) -> FileUse {
        self.last_use += 1;
        self.last_use
    }

    /// Returns whether a file must be closed before another file is opened.
    pub(super) fn is_full(&self) -> bool {
        self.by_use.len() >= self.max
    }

    /// Returns whether no file is open.
    pub(super) fn is_empty(&self) -> bool {
        self.by_use.is_empty()
    }

    /// Notes that the file of a leg, last used at `before`, is now last used at `after`. `None` means that the file is
    /// closed.
    pub(super) fn update(&mut self, leg: LegId, before: Option<FileUse>, after: Option<FileUse>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.by_use.remove(&before);
        }
        if let Some(after) = after {
            self.by_use.insert(after, leg);
        }
    }

    /// Removes the leg whose open file was unused for the longest time, and returns it.
    pub(super) fn take_least_recent(&mut self) -> Option<LegId> {
        self.by_use.pop_first().map(|(_, leg)| leg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_unused_for_longest_is_closed_first() {
        let mut open = OpenFiles { by_use: BTreeMap::new(), max: 3, last_use: 0 };
        let uses: Vec<FileUse> = (0..3).map(|_| open.next_use()).collect();
        for (leg, at) in (0..).map(LegId).zip(&uses) {
            assert!(!open.is_full());
            open.update(leg, None, Some(*at));
        }
        assert!(open.is_full());
        let again = open.next_use();
        open.update(LegId(0), Some(uses[0]), Some(again));
        open.update(LegId(2), Some(uses[2]), None);
        assert!(!open.is_full());
        assert_eq!(open.take_least_recent(), Some(LegId(1)));
        assert_eq!(open.take_least_recent(), Some(LegId(0)));
        assert!(open.is_empty() && open.take_least_recent().is_none());
    }
}
