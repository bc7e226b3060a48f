//! Names of C++ and Rust as their sources write them.

use super::matches;

/// The most bytes of a mangled name that are looked at: names grow with the square of templates.
const MAX_NAME_BYTES: usize = 4096;

/// A language whose symbols are mangled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Cpp,
    Rust,
}

impl Language {
    pub(super) fn of(word: &str) -> Option<Language> {
        match word {
            "cpp" => Some(Language::Cpp),
            "rust" => Some(Language::Rust),
            _ => None,
        }
    }
}

/// Whether a symbol is a function that `pattern` means: its name with its parameters (`ns::f(int)`), or without them, when the
/// pattern has none.
pub(super) fn matches_demangled(language: Language, pattern: &str, symbol: &str) -> bool {
    if symbol.len() > MAX_NAME_BYTES {
        return false;
    }
    match language {
        Language::Rust => {
            let Ok(name) = rustc_demangle::try_demangle(symbol) else { return false };
            // Without the hash behind it.
            matches(pattern, &format!("{name:#}"))
        }
        Language::Cpp => {
            if !symbol.starts_with("_Z") {
                return matches(pattern, symbol);
            }
            let Ok(parsed) = cpp_demangle::Symbol::new(symbol) else { return false };
            let Ok(name) = parsed.demangle() else { return false };
            matches(pattern, &name) || (!pattern.contains('(') && matches(pattern, without_parameters(&name)))
        }
    }
}

/// `ns::f` of `ns::f(int, char (*)(long)) const`; `operator()` keeps its own parentheses.
fn without_parameters(name: &str) -> &str {
    let mut depth = 0;
    let end = name.trim_end_matches(" const").len();
    for (at, byte) in name.bytes().enumerate().take(end).rev() {
        match byte {
            b')' => depth += 1,
            b'(' => {
                depth -= 1;
                if depth == 0 {
                    return &name[..at];
                }
            }
            _ => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_source_find_mangled_symbols() {
        let cpp = |pattern, symbol| matches_demangled(Language::Cpp, pattern, symbol);
        assert!(cpp("ns::add", "_ZN2ns3addEii"));
        assert!(cpp("ns::add(int, int)", "_ZN2ns3addEii"));
        assert!(cpp("ns::a*", "_ZN2ns3addEii"));
        assert!(!cpp("ns::add(long)", "_ZN2ns3addEii"));
        assert!(cpp("main", "main"));
        assert!(cpp("f", "_Z1fPFvlE"));
        assert!(!cpp("f", "_ZN"));
        assert!(matches_demangled(Language::Rust, "foo::bar", "_ZN3foo3bar17h0123456789abcdefE"));
    }
}
