//! Declarations of C: structs, unions, enums, typedefs.
//!
//! Functions and variables, which headers declare too, are passed over. A declarator is read from the inside out, as C writes it:
//! `int (*f[4])(void)` is four pointers to functions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::cursor::Cursor;
use super::expr;
use super::token::{Token, TokenKind};
use crate::Span;
use crate::ast::{Expr, Tag};
use crate::diagnostic::Diagnostic;
use crate::types::Space;

/// How deep declarations may nest.
const MAX_DEPTH: u32 = 64;

/// How many members, constants and typedefs there may be in all.
const MAX_NAMES: usize = 1 << 18;

/// A type as declared; sizes are not known yet.
#[derive(Clone, Debug)]
pub(crate) enum CType {
    /// C's own words or a typedef.
    Name(String),
    Tagged(Tag, String),
    /// Declared in place.
    Struct(usize),
    /// Declared in place.
    Enum(usize),
    Pointer(Box<CType>, Space),
    /// Without a length it is flexible.
    Array(Box<CType>, Option<Expr>),
    /// Only behind a pointer.
    Function,
}

#[derive(Clone, Debug)]
pub(crate) struct CStruct {
    pub(crate) tag: Tag,
    /// Empty for anonymous ones.
    pub(crate) name: String,
    pub(crate) members: Vec<CMember>,
    pub(crate) attributes: Attributes,
}

#[derive(Clone, Debug)]
pub(crate) struct CMember {
    /// Empty for anonymous ones.
    pub(crate) name: String,
    pub(crate) ty: CType,
    pub(crate) bits: Option<Expr>,
    pub(crate) attributes: Attributes,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct CEnum {
    /// Empty for anonymous ones.
    pub(crate) name: String,
    pub(crate) constants: Vec<(String, Option<Expr>, Span)>,
    pub(crate) attributes: Attributes,
}

/// What `__attribute__` says about a layout.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) packed: bool,
    /// `None` inside stands for the machine's greatest alignment.
    pub(crate) aligned: Option<Option<Expr>>,
    space: Option<Space>,
}

/// Everything that was declared.
#[derive(Default)]
pub(crate) struct Declarations {
    pub(crate) structs: Vec<CStruct>,
    pub(crate) enums: Vec<CEnum>,
    /// Structs and unions by tag and name.
    pub(crate) by_tag: HashMap<(bool, String), usize>,
    pub(crate) enum_by_name: HashMap<String, usize>,
    pub(crate) typedefs: HashMap<String, CType>,
}

/// Words that only a type can begin with.
pub(crate) fn is_type_word(word: &str) -> bool {
    is_base(word) || is_qualifier(word) || matches!(word, "struct" | "union" | "enum")
}

/// Words that are typedefs by their look, where the grammar cannot tell.
pub(crate) fn is_typedef_like(word: &str) -> bool {
    let fixed = matches!(
        word,
        "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64" | "uint" | "ulong" | "ushort" | "bool"
    );
    let kernel = word.strip_prefix("__").is_some_and(|rest| {
        let digits = rest.trim_start_matches("be").trim_start_matches("le").trim_start_matches(['u', 's']);
        matches!(digits, "8" | "16" | "32" | "64")
    });
    let sized = ["uint", "int"]
        .iter()
        .any(|it| word.strip_prefix(it).is_some_and(|bits| matches!(bits, "8" | "16" | "32" | "64")));
    fixed || kernel || sized || (word.ends_with("_t") && word.len() > 2)
}

fn is_base(word: &str) -> bool {
    matches!(
        word,
        "void"
            | "char"
            | "short"
            | "int"
            | "long"
            | "float"
            | "double"
            | "signed"
            | "__signed__"
            | "unsigned"
            | "_Bool"
            | "bool"
            | "__int128"
    )
}

fn is_qualifier(word: &str) -> bool {
    matches!(
        word,
        "const" | "volatile" | "restrict" | "__restrict" | "__restrict__" | "_Atomic" | "__const" | "__volatile__"
    ) || space_of(word).is_some()
        || matches!(word, "__force" | "__bitwise" | "__iomem" | "__private" | "__randomize_layout")
}

fn space_of(word: &str) -> Option<Space> {
    match word {
        "__user" => Some(Space::User),
        "__rcu" | "__percpu" | "__kernel" => Some(Space::Kernel),
        _ => None,
    }
}

/// Reads all declarations of `tokens`. A mistake ends its declaration and no other; those of the script are reported, those of
/// included files are passed over, since headers hold much that is no type.
pub(crate) fn read(tokens: &[Token], is_included: &dyn Fn(Span) -> bool) -> (Declarations, Vec<Diagnostic>) {
    let mut reader = Reader { cursor: Cursor::new(tokens), depth: MAX_DEPTH, names: 0, out: Declarations::default() };
    let mut diagnostics = Vec::new();
    while let Some(token) = reader.cursor.peek() {
        let (start, span) = (reader.cursor.at, token.span);
        if let Err(message) = reader.declaration() {
            let span = reader.cursor.tokens.get(reader.cursor.at).map_or(span, |token| token.span);
            if !is_included(span) {
                diagnostics.push(Diagnostic::error(span, message));
            }
            reader.cursor.at = start;
            reader.depth = MAX_DEPTH;
            reader.skip();
        }
    }
    (reader.out, diagnostics)
}

struct Reader<'t> {
    cursor: Cursor<'t>,
    depth: u32,
    names: usize,
    out: Declarations,
}

/// Part of a declarator, from the inside out.
enum Layer {
    Pointer(Space),
    Array(Option<Expr>),
    Function,
}

impl Reader<'_> {
    fn expect(&mut self, sign: &str, what: &str) -> Result<(), String> {
        if self.cursor.eat(sign) {
            return Ok(());
        }
        Err(match self.cursor.peek() {
            Some(token) => format!("expected {sign} {what}, not {}", token.shown()),
            None => format!("expected {sign} {what}"),
        })
    }

    fn word(&self) -> Option<&str> {
        self.cursor.peek().and_then(Token::ident).map(|it| &**it)
    }

    fn count(&mut self) -> Result<(), String> {
        self.names += 1;
        if self.names > MAX_NAMES { Err("the C part declares too much".to_owned()) } else { Ok(()) }
    }

    /// Passes over one declaration: to its `;`, or behind the body of a function.
    fn skip(&mut self) {
        let mut depth = 0u32;
        while let Some(token) = self.cursor.peek() {
            let sign = match &token.kind {
                TokenKind::Sign(sign) => *sign,
                _ => "",
            };
            self.cursor.at += 1;
            match sign {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" => {
                    depth = depth.saturating_sub(1);
                    // The end of a function has no `;`.
                    if depth == 0 && !self.cursor.is(";") {
                        return;
                    }
                }
                ";" if depth == 0 => return,
                _ => {}
            }
        }
    }

    fn declaration(&mut self) -> Result<(), String> {
        if self.cursor.eat(";") {
            return Ok(());
        }
        let mut typedef = false;
        while let Some(word) = self.word() {
            match word {
                "typedef" => typedef = true,
                "extern" | "static" | "inline" | "__inline" | "__inline__" | "__extension__" | "_Noreturn" => {}
                _ => break,
            }
            self.cursor.at += 1;
        }
        if matches!(self.word(), Some("_Static_assert" | "static_assert" | "asm" | "__asm__")) {
            self.skip();
            return Ok(());
        }
        let tagged = matches!(self.word(), Some("struct" | "union" | "enum"));
        let (base, attributes) = self.specifiers()?;
        if self.cursor.eat(";") {
            return Ok(());
        }
        // `struct x { ... }` right before the next declaration or the end: the script's language lets its `;` go.
        if tagged && !typedef && self.cursor.at > 0 && self.cursor.tokens[self.cursor.at - 1].is("}") {
            let next = self.word();
            if next.is_none_or(is_type_word) || next == Some("typedef") {
                return Ok(());
            }
        }
        loop {
            let (name, ty) = self.declarator(base.clone(), attributes.space)?;
            if typedef && !name.is_empty() {
                self.count()?;
                self.out.typedefs.insert(name, ty);
            } else if self.cursor.is("{") {
                self.skip();
                return Ok(());
            }
            if self.cursor.eat("=") {
                self.skip();
                return Ok(());
            }
            self.attributes()?;
            if !self.cursor.eat(",") {
                break;
            }
        }
        self.expect(";", "behind a declaration")
    }

    /// The type in front of the names, and what attributes say about it.
    fn specifiers(&mut self) -> Result<(CType, Attributes), String> {
        self.depth = self.depth.checked_sub(1).ok_or("declarations are nested too deep")?;
        let mut attributes = Attributes::default();
        let mut words: Vec<String> = Vec::new();
        let mut found = None;
        while let Some(word) = self.word().map(str::to_owned) {
            match word.as_str() {
                "__attribute__" | "__attribute" => attributes.merge(self.attributes()?),
                "__extension__" => self.cursor.at += 1,
                "struct" | "union" | "enum" if found.is_none() && words.is_empty() => {
                    self.cursor.at += 1;
                    found = Some(self.tagged(&word)?);
                }
                it if is_qualifier(it) => {
                    attributes.space = space_of(it).or(attributes.space);
                    self.cursor.at += 1;
                }
                it if is_base(it) && found.is_none() => {
                    self.cursor.at += 1;
                    words.push(word);
                }
                _ if found.is_none() && words.is_empty() => {
                    self.cursor.at += 1;
                    found = Some(CType::Name(word));
                }
                _ => break,
            }
        }
        self.depth += 1;
        match found {
            Some(ty) => Ok((ty, attributes)),
            None if words.is_empty() => Err(match self.cursor.peek() {
                Some(token) => format!("expected a type, not {}", token.shown()),
                None => "expected a type".to_owned(),
            }),
            None => Ok((CType::Name(words.join(" ")), attributes)),
        }
    }

    /// What follows `struct`, `union` or `enum`.
    fn tagged(&mut self, word: &str) -> Result<CType, String> {
        let mut attributes = self.attributes()?;
        let name = match self.word() {
            Some(name) => {
                let name = name.to_owned();
                self.cursor.at += 1;
                name
            }
            None => String::new(),
        };
        attributes.merge(self.attributes()?);
        let tag = match word {
            "struct" => Tag::Struct,
            "union" => Tag::Union,
            _ => Tag::Enum,
        };
        // `enum x : u8`
        if tag == Tag::Enum && self.cursor.eat(":") {
            self.specifiers()?;
        }
        if !self.cursor.eat("{") {
            return if name.is_empty() {
                Err(format!("expected a name or {{ behind {word}"))
            } else {
                Ok(CType::Tagged(tag, name))
            };
        }
        if tag == Tag::Enum {
            return self.enumeration(name, attributes);
        }
        // Its number is known before its members, which may point back at it.
        let number = self.out.structs.len();
        self.out.structs.push(CStruct {
            tag,
            name: name.clone(),
            members: Vec::new(),
            attributes: Attributes::default(),
        });
        let mut members = Vec::new();
        while !self.cursor.is("}") {
            if self.cursor.peek().is_none() {
                return Err(format!("{word} {name} has no end"));
            }
            self.members(&mut members)?;
        }
        self.cursor.at += 1;
        attributes.merge(self.attributes()?);
        self.out.structs[number].members = members;
        self.out.structs[number].attributes = attributes;
        if !name.is_empty() {
            match self.out.by_tag.entry((tag == Tag::Union, name)) {
                Entry::Occupied(first) => return Err(format!("redefinition of '{}'", first.key().1)),
                Entry::Vacant(place) => _ = place.insert(number),
            }
        }
        Ok(CType::Struct(number))
    }

    /// One line of members: `int a, *b, c : 3;`.
    fn members(&mut self, members: &mut Vec<CMember>) -> Result<(), String> {
        if self.cursor.eat(";") {
            return Ok(());
        }
        let (base, attributes) = self.specifiers()?;
        if self.cursor.is(";") || self.cursor.is("}") {
            let span = self.span();
            // Only an anonymous struct or union has members without a name.
            if let CType::Struct(_) = base {
                self.count()?;
                members.push(CMember { name: String::new(), ty: base, bits: None, attributes, span });
            }
            self.cursor.eat(";");
            return Ok(());
        }
        loop {
            self.count()?;
            let span = self.span();
            let (name, ty) = match self.cursor.is(":") {
                true => (String::new(), base.clone()),
                false => self.declarator(base.clone(), attributes.space)?,
            };
            let bits = match self.cursor.eat(":") {
                true => Some(self.constant(&[",", ";", "}"])?),
                false => None,
            };
            let mut own = attributes.clone();
            own.merge(self.attributes()?);
            members.push(CMember { name, ty, bits, attributes: own, span });
            if !self.cursor.eat(",") {
                break;
            }
        }
        // Compilers only warn when the last member has none.
        if self.cursor.is("}") {
            return Ok(());
        }
        self.expect(";", "behind a member")
    }

    fn enumeration(&mut self, name: String, mut attributes: Attributes) -> Result<CType, String> {
        let mut constants = Vec::new();
        while !self.cursor.eat("}") {
            let span = self.span();
            let Some(constant) = self.word().map(str::to_owned) else {
                return Err(format!("expected a constant of enum {name}"));
            };
            self.count()?;
            self.cursor.at += 1;
            self.attributes()?;
            let value = match self.cursor.eat("=") {
                true => Some(self.constant(&[",", "}"])?),
                false => None,
            };
            constants.push((constant, value, span));
            if !self.cursor.eat(",") && !self.cursor.is("}") {
                return Err("expected , or } behind an enum's constant".to_owned());
            }
        }
        attributes.merge(self.attributes()?);
        let number = self.out.enums.len();
        if !name.is_empty() && self.out.enum_by_name.insert(name.clone(), number).is_some() {
            return Err(format!("redefinition of '{name}'"));
        }
        self.out.enums.push(CEnum { name, constants, attributes });
        Ok(CType::Enum(number))
    }

    /// A name and its type.
    fn declarator(&mut self, base: CType, space: Option<Space>) -> Result<(String, CType), String> {
        let mut layers = Vec::new();
        let name = self.layers(&mut layers, space.unwrap_or_default())?;
        let mut ty = base;
        for layer in layers.into_iter().rev() {
            ty = match layer {
                Layer::Pointer(space) => CType::Pointer(Box::new(ty), space),
                Layer::Array(count) => CType::Array(Box::new(ty), count),
                Layer::Function => CType::Function,
            };
        }
        Ok((name, ty))
    }

    /// The layers of a declarator, the one next to the name first.
    fn layers(&mut self, layers: &mut Vec<Layer>, mut space: Space) -> Result<String, String> {
        self.depth = self.depth.checked_sub(1).ok_or("declarations are nested too deep")?;
        let mut stars = Vec::new();
        loop {
            if self.cursor.eat("*") {
                if stars.len() as u32 >= MAX_DEPTH {
                    return Err("declarations are nested too deep".to_owned());
                }
                // A tag in front of the star is the pointee's.
                stars.push(Layer::Pointer(std::mem::take(&mut space)));
            } else if let Some(word) = self.word().filter(|word| is_qualifier(word)) {
                space = space_of(word).unwrap_or(space);
                self.cursor.at += 1;
            } else if matches!(self.word(), Some("__attribute__" | "__attribute")) {
                space = self.attributes()?.space.unwrap_or(space);
            } else {
                break;
            }
        }
        let mut inner = Vec::new();
        let mut name = String::new();
        let nested = self.cursor.is("(")
            && self
                .cursor
                .tokens
                .get(self.cursor.at + 1)
                .is_some_and(|next| next.is("*") || next.is("(") || next.ident().is_some());
        if nested {
            self.cursor.at += 1;
            name = self.layers(&mut inner, Space::None)?;
            self.expect(")", "in a declarator")?;
        } else if let Some(word) = self.word() {
            name = word.to_owned();
            self.cursor.at += 1;
        }
        layers.append(&mut inner);
        loop {
            if self.cursor.eat("[") {
                let count = match self.cursor.is("]") {
                    true => None,
                    false => Some(self.constant(&["]"])?),
                };
                self.expect("]", "behind an array's length")?;
                layers.push(Layer::Array(count));
            } else if self.cursor.is("(") {
                self.balanced()?;
                layers.push(Layer::Function);
            } else {
                break;
            }
            if layers.len() as u32 > MAX_DEPTH {
                return Err("declarations are nested too deep".to_owned());
            }
        }
        // Stars are further from the name than what stands behind it.
        layers.extend(stars.into_iter().rev());
        self.depth += 1;
        Ok(name)
    }

    /// The expression before one of `ends` outside all brackets.
    fn constant(&mut self, ends: &[&str]) -> Result<Expr, String> {
        let start = self.cursor.at;
        let mut depth = 0;
        while let Some(token) = self.cursor.peek() {
            if depth == 0 && ends.iter().any(|end| token.is(end))
                || token.ident().is_some_and(|it| &**it == "__attribute__")
            {
                break;
            }
            match &token.kind {
                TokenKind::Sign("(" | "[" | "{") => depth += 1,
                TokenKind::Sign(")" | "]" | "}") => depth -= 1,
                _ => {}
            }
            self.cursor.at += 1;
        }
        expr::parse(&self.cursor.tokens[start..self.cursor.at])
    }

    /// Passes over parentheses and what is in them.
    fn balanced(&mut self) -> Result<(), String> {
        let mut depth = 0;
        while let Some(token) = self.cursor.peek() {
            let (opens, closes) = (token.is("("), token.is(")"));
            self.cursor.at += 1;
            depth += i64::from(opens) - i64::from(closes);
            if depth == 0 {
                return Ok(());
            }
        }
        Err("a parenthesis is not closed".to_owned())
    }

    /// `__attribute__((packed, aligned(8)))`, any number of them.
    fn attributes(&mut self) -> Result<Attributes, String> {
        let mut found = Attributes::default();
        while let Some(word) = self.word() {
            match word {
                "__attribute__" | "__attribute" => {}
                "__packed" => {
                    found.packed = true;
                    self.cursor.at += 1;
                    continue;
                }
                _ => break,
            }
            self.cursor.at += 1;
            let start = self.cursor.at;
            self.balanced()?;
            let inside = &self.cursor.tokens[start..self.cursor.at];
            for (at, token) in inside.iter().enumerate() {
                let Some(name) = token.ident() else { continue };
                match &**name {
                    "packed" | "__packed__" => found.packed = true,
                    "aligned" | "__aligned__" => {
                        let rest = &inside[at + 1..];
                        found.aligned = Some(match parenthesized(rest) {
                            Some(value) => Some(expr::parse(value)?),
                            None => None,
                        });
                    }
                    "btf_type_tag" => {
                        let tag = inside.get(at + 2).map(|token| &token.kind);
                        if let Some(TokenKind::Str(tag)) = tag {
                            found.space = space_of(&format!("__{}", String::from_utf8_lossy(tag))).or(found.space);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    fn span(&self) -> Span {
        self.cursor.peek().map(|token| token.span).unwrap_or_default()
    }
}

/// What stands inside the parentheses that `tokens` begin with.
fn parenthesized(tokens: &[Token]) -> Option<&[Token]> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += i32::from(token.is("(")) - i32::from(token.is(")"));
        match depth {
            0 if at == 0 => return None,
            0 => return Some(&tokens[1..at]),
            _ => {}
        }
    }
    None
}

impl Attributes {
    fn merge(&mut self, other: Attributes) {
        self.packed |= other.packed;
        if other.aligned.is_some() {
            self.aligned = other.aligned;
        }
        self.space = other.space.or(self.space);
    }
}
