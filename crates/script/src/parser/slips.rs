//! What is often written instead of this language: other languages' words, and signs that were left out.
//!
//! A syntax error names what stands there and what could. When that is one of the usual slips, it also says what to write.

use crate::lexer::{Kind, Punct};

const LOOP: &str = "a loop goes over a range or a map: `for ($i : 0..10) { ... }`, `for ($kv : @map) { ... }`";

/// What to write instead, where `what` (a token of this kind) stands behind `before` and `expected` could.
pub(super) fn hint(before: &str, kind: Kind, what: &str, expected: &str) -> Option<String> {
    let before = before.trim_end();
    let last = last_word(before);
    let fixed = match (kind, what) {
        (Kind::Unknown, "'") => "text is written in double quotes: `\"...\"`",
        (Kind::Punct(Punct::Hash), _) => "a comment begins with `//`",
        (Kind::Ident, "and") => "write `&&` for and",
        (Kind::Ident, "or") => "write `||` for or",
        (Kind::Punct(Punct::LBrace), _) if matches!(called(before), Some("elif" | "elsif" | "elseif")) => {
            "write `else if (...)`"
        }
        (Kind::Ident, _) if expected == "a variable" && matches!(last, "for" | "(") => LOOP,
        (Kind::Ident, "in") | (Kind::Punct(Punct::Assign), _) if expected == ":" => LOOP,
        (Kind::Punct(Punct::Assign), _) if expected == "/" || expected.starts_with(')') => "`==` compares",
        (Kind::Punct(Punct::Slash), _) if expected == "an expression" && last == "{" => {
            "a predicate stands in front of the block: `PROBE /CONDITION/ { ... }`"
        }
        (Kind::Map, _) if last == "let" => {
            "a map needs no `let` to be assigned; its kind is declared outside of probes: `let @x = hash(100);`"
        }
        (Kind::Ident, _) if matches!(last, "function" | "func" | "def" | "void" | "static") && expected == "{" => {
            "a function is written `fn name($a : int64) : int64 { ... }`"
        }
        (Kind::Str | Kind::Number | Kind::Var | Kind::Map | Kind::Param, _)
            if expected == "; or }" && is_word(last) =>
        {
            return Some(format!("a function is called with parentheses: `{last}(...)`"));
        }
        _ => return None,
    };
    Some(fixed.to_owned())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
}

/// The word that `text` ends with, or its last character.
fn last_word(text: &str) -> &str {
    let start = text.rfind(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    match start {
        None => text,
        Some(at) if at + text[at..].chars().next().map_or(1, char::len_utf8) == text.len() => &text[at..],
        // `$x` and `@x` are no words.
        Some(at) if matches!(text.as_bytes()[at], b'$' | b'@') => &text[at..],
        Some(at) => &text[at + text[at..].chars().next().map_or(1, char::len_utf8)..],
    }
}

/// The function that is called at the end of `text`, which ends with its `)`.
fn called(text: &str) -> Option<&str> {
    let mut depth = 0u32;
    for (at, char) in text.char_indices().rev() {
        match char {
            ')' => depth += 1,
            '(' if depth == 1 => return Some(last_word(text[..at].trim_end())),
            '(' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_found() {
        assert_eq!(last_word("begin { print"), "print");
        assert_eq!(last_word("for ("), "(");
        assert_eq!(last_word("a = $x"), "$x");
        assert_eq!(last_word(""), "");
        assert_eq!(last_word("…"), "…");
        assert_eq!(last_word("…a"), "a");
    }

    #[test]
    fn a_call_at_the_end_is_found() {
        assert_eq!(called("if (1) { } elif (f(2))"), Some("elif"));
        assert_eq!(called("elif"), None);
        assert_eq!(called("x))"), None);
    }
}
