//! Records that did not fit into the ring buffer, by probe, and how often helpers failed, by site.

use skep_engine::{MapId, Session};

/// The counters of an array of u64, each summed over all CPUs. Empty when it cannot be read.
pub(super) fn counters(session: &dyn Session, map: Option<MapId>) -> Vec<u64> {
    let Some(map) = map.and_then(|id| session.map(id)) else { return Vec::new() };
    let facts = map.facts();
    let mut counts = vec![0u64; facts.max_entries as usize];
    for (key, value) in map.entries().unwrap_or_default() {
        let index = key.first_chunk::<4>().map_or(usize::MAX, |key| u32::from_ne_bytes(*key) as usize);
        if let Some(count) = counts.get_mut(index) {
            *count = value.as_chunks::<8>().0.iter().map(|cpu| u64::from_ne_bytes(*cpu)).sum();
        }
    }
    counts
}

/// What was told about losses already.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<u64>);

impl Told {
    /// Probes that lost more since the last time, by number, and how much more.
    pub(super) fn news(&mut self, counts: &[u64]) -> Vec<(usize, u64)> {
        self.0.resize(counts.len().max(self.0.len()), 0);
        let mut news = Vec::new();
        for (index, (count, told)) in counts.iter().zip(&mut self.0).enumerate() {
            if count > told {
                news.push((index, count - *told));
                *told = *count;
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let mut told = Told::default();
        assert_eq!(told.news(&[0, 5]), [(1, 5)]);
        assert_eq!(told.news(&[0, 5]), []);
        assert_eq!(told.news(&[1, 7]), [(0, 1), (1, 2)]);
    }
}
