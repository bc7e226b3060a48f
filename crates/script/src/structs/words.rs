//! Types in C's words: `const unsigned long *`, `struct foo`, `pid_t`.

use skep_btf::Kind;

use super::Structs;
use crate::ast::Tag;
use crate::types::{Space, Type};

/// How many stars a type may have.
const MAX_POINTERS: usize = 8;

/// Typedefs that mean the same everywhere, so that nobody needs to look for them.
const FIXED: [(&[&str], u8, bool); 8] = [
    (&["u8", "__u8", "uint8_t", "u_int8_t", "uchar", "u_char"], 1, false),
    (&["s8", "__s8", "int8_t"], 1, true),
    (&["u16", "__u16", "uint16_t", "u_int16_t", "ushort", "u_short", "__be16", "__le16"], 2, false),
    (&["s16", "__s16", "int16_t"], 2, true),
    (&["u32", "__u32", "uint32_t", "u_int32_t", "uint", "u_int", "__be32", "__le32"], 4, false),
    (&["s32", "__s32", "int32_t"], 4, true),
    (
        &["u64", "__u64", "uint64_t", "u_int64_t", "ulong", "u_long", "size_t", "uintptr_t", "__be64", "__le64"],
        8,
        false,
    ),
    (&["s64", "__s64", "int64_t", "ssize_t", "intptr_t", "ptrdiff_t"], 8, true),
];

impl Structs<'_> {
    /// The type that `text` spells; `None` when a word of it is no type.
    pub(super) fn type_of_words(&self, text: &str) -> Option<Type> {
        let mut space = Space::None;
        let mut words = Vec::new();
        let spaced = text.replace('*', " * ");
        for word in spaced.split_ascii_whitespace() {
            match word {
                "const" | "volatile" | "restrict" | "__restrict" | "__seg_gs" | "__force" | "register" => {}
                "__user" => space = Space::User,
                "__rcu" | "__percpu" | "__kernel" => space = Space::Kernel,
                _ => words.push(word),
            }
        }
        let stars = words.iter().rev().take_while(|word| **word == "*").count();
        let base = &words[..words.len() - stars];
        if stars > MAX_POINTERS {
            return None;
        }
        // A pointer to what is not known is still a pointer.
        let mut ty = match (self.base(base), base, stars) {
            (Some(ty), _, _) => ty,
            (None, [tag @ ("struct" | "union"), name], 1..) => Type::Struct(self.unknown(tag, name)),
            _ => return None,
        };
        for _ in 0..stars {
            ty = ty.pointer(space);
        }
        Some(ty)
    }

    fn base(&self, words: &[&str]) -> Option<Type> {
        match words {
            ["struct", name] => self.tagged(Tag::Struct, name),
            ["union", name] => self.tagged(Tag::Union, name),
            ["enum", name] => self.tagged(Tag::Enum, name),
            [name] => self.word(name),
            words => arithmetic(words),
        }
    }

    fn word(&self, name: &str) -> Option<Type> {
        if let Some(ty) = self.script_typedef(name) {
            return Some(ty);
        }
        if let Some(ty) = arithmetic(&[name]) {
            return Some(ty);
        }
        if let Some((_, size, signed)) = FIXED.iter().find(|(names, ..)| names.contains(&name)) {
            return Some(Type::Int { size: *size, signed: *signed });
        }
        let found = self.machine.find(name, &[Kind::TYPEDEF]).map(|place| self.convert(place));
        found.or_else(|| self.user_typedef(name))
    }
}

/// C's own arithmetic types, in any order of their words; `void` too.
pub(crate) fn arithmetic(words: &[&str]) -> Option<Type> {
    let (mut signed, mut long, mut base) = (None, 0, None);
    for word in words {
        match *word {
            "signed" | "__signed__" if signed.is_none() => signed = Some(true),
            "unsigned" if signed.is_none() => signed = Some(false),
            "long" if long < 2 => long += 1,
            "int" | "char" | "short" | "void" | "bool" | "_Bool" | "float" | "double" | "__int128" => match base {
                // `short int`
                Some("int") if *word == "short" => base = Some("short"),
                Some("short") if *word == "int" => {}
                None => base = Some(*word),
                Some(_) => return None,
            },
            _ => return None,
        }
    }
    let int = |size, by_default| Some(Type::Int { size, signed: signed.unwrap_or(by_default) });
    match (base, long) {
        (None, 0) => signed.and_then(|_| int(4, true)),
        (Some("int"), 0) => int(4, true),
        (None | Some("int"), _) => int(8, true),
        (Some("char"), 0) => int(1, true),
        (Some("short"), 0) => int(2, true),
        (Some("bool" | "_Bool"), 0) if signed.is_none() => Some(Type::Bool),
        (Some("__int128"), 0) => Some(Type::Array { elem: std::sync::Arc::new(Type::U64), count: 2 }),
        (Some("float"), 0) if signed.is_none() => Some(Type::Float { size: 4 }),
        (Some("double"), 0) if signed.is_none() => Some(Type::Float { size: 8 }),
        (Some("void" | "double"), _) if signed.is_none() => Some(Type::Void),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_c_come_in_any_order() {
        let text = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            arithmetic(&words).map(|ty| ty.to_string())
        };
        let int = |name: &str| Some(name.to_owned());
        assert_eq!(text("unsigned"), int("uint32"));
        assert_eq!(text("long unsigned int"), int("uint64"));
        assert_eq!(text("unsigned long long"), int("uint64"));
        assert_eq!(text("short unsigned int"), int("uint16"));
        assert_eq!(text("int short"), int("int16"));
        assert_eq!(text("signed char"), int("int8"));
        assert_eq!(text("_Bool"), int("bool"));
        assert_eq!(
            (text("long long long"), text("int char"), text("foo"), text("unsigned bool")),
            (None, None, None, None)
        );
    }
}
