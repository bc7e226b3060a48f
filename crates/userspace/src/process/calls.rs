//! Sets of system calls.

/// Some system calls, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Every one.
    All,
    /// Those with the numbers of this list, which is sorted.
    Some(Vec<u32>),
}

impl Default for Calls {
    fn default() -> Calls {
        Calls::Some(Vec::new())
    }
}

impl FromIterator<u32> for Calls {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Calls {
        let mut numbers: Vec<u32> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup();
        Calls::Some(numbers)
    }
}

impl Calls {
    /// Whether a call is one of them.
    pub fn has(&self, nr: u32) -> bool {
        match self {
            Calls::All => true,
            Calls::Some(numbers) => numbers.binary_search(&nr).is_ok(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Calls::Some(numbers) if numbers.is_empty())
    }

    /// Those of both.
    #[must_use]
    pub fn and(&self, other: &Calls) -> Calls {
        match (self, other) {
            (Calls::Some(a), Calls::Some(b)) => a.iter().chain(b).copied().collect(),
            _ => Calls::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_their_set() {
        let some: Calls = [257, 1, 1].into_iter().collect();
        assert!(some.has(1) && some.has(257) && !some.has(2));
        assert!(Calls::default().is_empty() && !some.is_empty() && !Calls::All.is_empty());
        assert_eq!(some.and(&Calls::from_iter([3])), Calls::from_iter([1, 3, 257]));
        assert_eq!(some.and(&Calls::All), Calls::All);
        assert!(Calls::All.has(u32::MAX));
    }
}
