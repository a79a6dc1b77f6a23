//! Searches in a sorted list that nearly always have the result of the last search, or the next one.

use std::cell::Cell;

/// The result of the last search in a sorted list. Consecutive packets nearly always have the same result, or the next
/// one, so most searches need two comparisons.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentIndex(Cell<usize>);

impl RecentIndex {
    /// Returns the number of elements at the beginning of a list for which `is_before` is true, as
    /// [`slice::partition_point`] does.
    pub(super) fn partition_point<T>(&self, sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
        let fits = |&at: &usize| {
            let begins_before = at == 0 || sorted.get(at - 1).is_some_and(&is_before);
            begins_before && !sorted.get(at).is_some_and(&is_before)
        };
        let recent = self.0.get();
        let near = [recent, recent + 1].into_iter().find(fits);
        let found = near.unwrap_or_else(|| sorted.partition_point(&is_before));
        self.0.set(found);
        found
    }
}

impl PartialEq for RecentIndex {
    /// All are equal: an index only makes the next search faster.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn searches_have_the_same_result_as_a_binary_search(
            mut sorted in proptest::collection::vec(0..100_u8, 0..20),
            searched in proptest::collection::vec(0..110_u8, 1..60),
        ) {
            sorted.sort_unstable();
            let recent = RecentIndex::default();
            for value in searched {
                let expected = sorted.partition_point(|&element| element <= value);
                prop_assert_eq!(recent.partition_point(&sorted, |&element| element <= value), expected);
            }
        }
    }
}
