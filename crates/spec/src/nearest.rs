//! The nearest names to one that does not exist.
//!
//! Near is a small edit distance: insertions, deletions, replacements and swaps of neighbours (restricted
//! Damerau-Levenshtein), at most a third of the name's length. A name that begins or ends with the wanted one counts as
//! near too, since kernels rename functions by adding a prefix or a suffix (`do_unlinkat`, `__do_unlinkat`,
//! `tcp_connect.isra.0`).

/// Up to three of `names` that are nearest to `wanted`, the nearest first.
pub fn nearest<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    const KEPT: usize = 3;
    let mut found: Vec<(usize, &str)> = Vec::with_capacity(KEPT + 1);
    let mut limit = (wanted.len() / 3).clamp(1, 8);
    for name in names {
        if name.is_empty() || name == wanted {
            continue;
        }
        let distance = if wanted.len() >= 4 && (name.ends_with(wanted) || name.starts_with(wanted)) {
            // Behind a name with one letter wrong, before one with two.
            2
        } else {
            match distance(wanted.as_bytes(), name.as_bytes(), limit) {
                Some(distance) => distance * 2 - 1,
                None => continue,
            }
        };
        if found.iter().any(|&(_, it)| it == name) {
            continue;
        }
        let at = found.partition_point(|&(it, other)| (it, other.len()) <= (distance, name.len()));
        found.insert(at, (distance, name));
        found.truncate(KEPT);
        if found.len() == KEPT {
            limit = limit.min(found[KEPT - 1].0.div_ceil(2));
        }
    }
    found.into_iter().map(|(_, name)| name).collect()
}

/// ``did you mean `a`, `b`?`` for the nearest names; `None` when nothing is near.
pub fn did_you_mean<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let found = nearest(wanted, names);
    if found.is_empty() {
        return None;
    }
    let list: Vec<String> = found.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("did you mean {}?", list.join(" or ")))
}

/// The edit distance when it is at most `limit` and not 0.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 0..a.len() {
        row[0] = i + 1;
        let mut smallest = row[0];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
            smallest = smallest.min(best);
        }
        if smallest > limit {
            return None;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    Some(last[b.len()]).filter(|&it| it <= limit && it > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_by_distance_and_far_ones_not_at_all() {
        let names = ["do_unlinkat", "do_linkat", "vfs_unlink", "__do_unlinkat", "schedule"];
        assert_eq!(nearest("do_unlinkt", names), ["do_unlinkat", "do_linkat", "__do_unlinkat"]);
        assert_eq!(nearest("do_unlinkat", names), ["__do_unlinkat", "do_linkat"]);
        assert_eq!(nearest("xyz", names), [""; 0]);
    }

    #[test]
    fn swapped_letters_are_one_edit() {
        assert_eq!(distance(b"scehdule", b"schedule", 3), Some(1));
        assert_eq!(distance(b"abc", b"abc", 3), None);
        assert_eq!(distance(b"", b"ab", 3), Some(2));
    }

    #[test]
    fn a_hint_names_what_is_near() {
        assert_eq!(did_you_mean("opne", ["open", "close"]).as_deref(), Some("did you mean `open`?"));
        assert_eq!(did_you_mean("zzzz", ["open"]), None);
    }
}
