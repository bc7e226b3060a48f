//! The words that attach points begin with.

/// The word that an attach point begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the provider of its name, see the table of probes in the manual")]
pub enum Provider {
    Begin,
    End,
    Signal,
    Test,
    Bench,
    Kprobe,
    Kretprobe,
    Fentry,
    Fexit,
    Tracepoint,
    RawTracepoint,
    Uprobe,
    Uretprobe,
    Usdt,
    Profile,
    Interval,
    Software,
    Hardware,
    Watchpoint,
    Iter,
}

/// Every provider: its name, the other words for it, and how many parts may follow.
const TABLE: [(Provider, &str, &[&str], usize, usize); 20] = [
    (Provider::Begin, "begin", &[], 0, 0),
    (Provider::End, "end", &[], 0, 0),
    (Provider::Signal, "self", &[], 2, 2),
    (Provider::Test, "test", &[], 1, 1),
    (Provider::Bench, "bench", &[], 1, 1),
    (Provider::Kprobe, "kprobe", &["k"], 1, 2),
    (Provider::Kretprobe, "kretprobe", &["kr"], 1, 2),
    (Provider::Fentry, "fentry", &["f", "kfunc"], 1, 3),
    (Provider::Fexit, "fexit", &["fr", "kretfunc"], 1, 3),
    (Provider::Tracepoint, "tracepoint", &["t"], 2, 2),
    (Provider::RawTracepoint, "rawtracepoint", &["rt"], 1, 2),
    (Provider::Uprobe, "uprobe", &["u"], 1, 3),
    (Provider::Uretprobe, "uretprobe", &["ur"], 1, 3),
    (Provider::Usdt, "usdt", &["U"], 1, 3),
    (Provider::Profile, "profile", &["p"], 1, 2),
    (Provider::Interval, "interval", &["i"], 1, 2),
    (Provider::Software, "software", &["s"], 1, 2),
    (Provider::Hardware, "hardware", &["h"], 1, 2),
    (Provider::Watchpoint, "watchpoint", &["w"], 3, 3),
    (Provider::Iter, "iter", &["it"], 1, 2),
];

impl Provider {
    /// The provider of this word, in any case. `u` and `U` are two: a uprobe and USDT.
    pub fn of(word: &str) -> Option<Provider> {
        let exact = TABLE.iter().find(|row| row.2.contains(&word));
        let row = exact.or_else(|| {
            TABLE.iter().find(|row| {
                row.1.eq_ignore_ascii_case(word) || row.2.iter().any(|alias| alias.eq_ignore_ascii_case(word))
            })
        });
        row.map(|row| row.0)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Provider> {
        TABLE.iter().map(|row| row.0)
    }

    /// Its name in full: the builtin `probetype`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Every word for some provider, for hints.
    pub(super) fn words() -> impl Iterator<Item = &'static str> {
        TABLE.iter().flat_map(|row| std::iter::once(row.1).chain(row.2.iter().copied().filter(|word| word.len() > 2)))
    }

    /// How many parts may follow, least and most.
    pub fn parts(self) -> (usize, usize) {
        (self.row().3, self.row().4)
    }

    fn row(self) -> &'static (Provider, &'static str, &'static [&'static str], usize, usize) {
        // The table is in the order of the enum; a test holds it there.
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_aliases_find_their_provider() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, n);
            assert_eq!(Provider::of(row.1), Some(row.0));
            assert_eq!(Provider::of(&row.1.to_uppercase()), Some(row.0));
        }
        assert_eq!(Provider::of("u"), Some(Provider::Uprobe));
        assert_eq!(Provider::of("U"), Some(Provider::Usdt));
        assert_eq!(Provider::of("KFUNC"), Some(Provider::Fentry));
        assert_eq!(Provider::of("kproeb"), None);
    }
}
