//! Many short lists in two allocations.

/// A list for each of a fixed number of keys.
#[derive(Clone, Debug)]
pub(crate) struct Lists<T> {
    /// Where each list starts, and where the last one ends.
    starts: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy> Lists<T> {
    /// Sorts pairs by key; each list keeps the order of its pairs. Keys beyond `n_keys` are
    /// dropped.
    pub fn new(n_keys: usize, pairs: &[(u32, T)]) -> Lists<T> {
        let known = || pairs.iter().filter(|(key, _)| (*key as usize) < n_keys);
        let mut starts = vec![0; n_keys + 1];
        for (key, _) in known() {
            starts[*key as usize + 1] += 1;
        }
        for key in 0..n_keys {
            starts[key + 1] += starts[key];
        }
        // The position of the next item of each list.
        let mut next = starts.clone();
        let fill = known().next().map(|&(_, item)| item);
        let mut items: Vec<T> = fill.map_or(Vec::new(), |item| vec![item; known().count()]);
        for &(key, item) in known() {
            let at = &mut next[key as usize];
            items[*at as usize] = item;
            *at += 1;
        }
        Lists { starts, items }
    }

    /// Returns the number of items in all lists.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the list of `key`, empty for an unknown key.
    pub fn of(&self, key: u32) -> &[T] {
        let mut bounds = self.starts.iter().skip(key as usize).map(|&at| at as usize);
        match (bounds.next(), bounds.next()) {
            (Some(start), Some(end)) => self.items.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_drop_unknown_keys() {
        let lists = Lists::new(
            4,
            &[(3, 'a'), (1, 'b'), (3, 'c'), (9, 'x'), (1, 'd'), (1, 'e')],
        );
        assert_eq!(lists.of(0), []);
        assert_eq!(lists.of(1), ['b', 'd', 'e']);
        assert_eq!(lists.of(3), ['a', 'c']);
        assert_eq!(lists.of(4), []);
        assert_eq!(lists.of(u32::MAX), []);
        assert!(Lists::<u8>::new(0, &[]).of(0).is_empty());
    }
}
