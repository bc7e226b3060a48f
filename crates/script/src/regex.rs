//! Regular expressions, for choosing probes by name (`--probe-filter`).
//!
//! The form is that of `std::regex` (ECMAScript, which bpftrace's option takes) without what only captures and assertions are for:
//! `.`, `[a-z]`, `\d \w \s` and their opposites, groups, `|`, `* + ? {n,m}` (also lazy), `^`, `$`. Whether a text matches does
//! not depend on which of several ways is found first, so a match is the set of places where each part may end: from a set of
//! places a part leads to a set of places, and no text takes longer than the product of both lengths (times a counted repeat).

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Groups inside one another.
const MAX_DEPTH: u32 = 64;
/// Counts in `{n,m}`.
const MAX_COUNT: u32 = 1000;

/// A regular expression. It matches a text when it matches some part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regex(Node);

/// Why a text is no regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake(&'static str);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// One letter of these ranges, or of all others.
    One {
        ranges: Vec<(char, char)>,
        inverted: bool,
    },
    Start,
    End,
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

/// Places in a text: whether each is in the set.
type Places = Vec<bool>;

impl Regex {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn new(text: &str) -> Result<Regex, Mistake> {
        let mut parser = Parser { rest: text.chars().peekable(), depth: 0 };
        let node = parser.either()?;
        match parser.rest.peek() {
            None => Ok(Regex(node)),
            Some(_) => Err(Mistake("a `)` closes nothing")),
        }
    }

    /// Whether some part of the text matches.
    pub fn is_match(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.0.ends(&text, &vec![true; text.len() + 1]).contains(&true)
    }
}

impl Node {
    /// Where this may end when it begins at one of the places `from`.
    fn ends(&self, text: &[char], from: &[bool]) -> Places {
        let none = || vec![false; text.len() + 1];
        match self {
            Node::One { ranges, inverted } => {
                let mut ends = none();
                for (at, letter) in text.iter().enumerate().filter(|(at, _)| from[*at]) {
                    ends[at + 1] = ranges.iter().any(|(low, high)| (low..=high).contains(&letter)) != *inverted;
                }
                ends
            }
            Node::Start | Node::End => {
                let at = if *self == Node::Start { 0 } else { text.len() };
                let mut ends = none();
                ends[at] = from[at];
                ends
            }
            Node::Sequence(parts) => parts.iter().fold(from.to_vec(), |from, part| part.ends(text, &from)),
            Node::Either(ways) => ways.iter().fold(none(), |mut all, way| {
                add(&mut all, &mut way.ends(text, from));
                all
            }),
            Node::Repeat { node, least, most } => {
                let mut last = from.to_vec();
                for _ in 0..*least {
                    last = node.ends(text, &last);
                }
                let mut all = last.clone();
                let mut rounds = *least;
                while most.is_none_or(|most| rounds < most) {
                    last = node.ends(text, &last);
                    // A place that is known leads to nothing new.
                    if !add(&mut all, &mut last) {
                        break;
                    }
                    rounds += 1;
                }
                all
            }
        }
    }
}

/// Adds places to a set, and leaves only those that are new in `more`; whether there were any.
fn add(all: &mut [bool], more: &mut [bool]) -> bool {
    for (known, new) in all.iter_mut().zip(more.iter_mut()) {
        *new &= !*known;
        *known |= *new;
    }
    more.contains(&true)
}

struct Parser<'t> {
    rest: Peekable<Chars<'t>>,
    depth: u32,
}

impl Parser<'_> {
    fn either(&mut self) -> Result<Node, Mistake> {
        let mut ways = vec![self.sequence()?];
        while self.rest.next_if_eq(&'|').is_some() {
            ways.push(self.sequence()?);
        }
        Ok(if ways.len() == 1 { ways.remove(0) } else { Node::Either(ways) })
    }

    fn sequence(&mut self) -> Result<Node, Mistake> {
        let mut parts = Vec::new();
        while self.rest.peek().is_some_and(|letter| !matches!(letter, '|' | ')')) {
            let part = self.part()?;
            parts.push(self.repeated(part)?);
        }
        Ok(Node::Sequence(parts))
    }

    fn part(&mut self) -> Result<Node, Mistake> {
        let Some(letter) = self.rest.next() else { return Ok(Node::Sequence(Vec::new())) };
        Ok(match letter {
            '.' => Node::One { ranges: vec![('\n', '\n'), ('\r', '\r')], inverted: true },
            '^' => Node::Start,
            '$' => Node::End,
            '[' => self.class()?,
            '\\' => {
                let (ranges, inverted) = self.escape()?;
                Node::One { ranges, inverted }
            }
            '(' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Mistake("groups stand too deep inside one another"));
                }
                if self.rest.next_if_eq(&'?').is_some() && self.rest.next() != Some(':') {
                    return Err(Mistake("of the groups with `?` only `(?:...)` is known"));
                }
                let inside = self.either()?;
                self.rest.next_if_eq(&')').ok_or(Mistake("a `(` is not closed"))?;
                self.depth -= 1;
                inside
            }
            '*' | '+' | '?' => return Err(Mistake("there is nothing to repeat")),
            letter => Node::One { ranges: vec![(letter, letter)], inverted: false },
        })
    }

    fn repeated(&mut self, node: Node) -> Result<Node, Mistake> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                self.rest.next();
                let least = self.number()?;
                let most = match self.rest.next_if_eq(&',') {
                    None => Some(least),
                    Some(_) if self.rest.peek() == Some(&'}') => None,
                    Some(_) => Some(self.number()?),
                };
                if self.rest.peek() != Some(&'}') || most.is_some_and(|most| most < least) {
                    return Err(Mistake("a count is written {n}, {n,} or {n,m}"));
                }
                (least, most)
            }
            _ => return Ok(node),
        };
        self.rest.next();
        // Lazy or not, the same texts match.
        self.rest.next_if_eq(&'?');
        Ok(Node::Repeat { node: Box::new(node), least, most })
    }

    fn number(&mut self) -> Result<u32, Mistake> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits.parse().ok().filter(|count| *count <= MAX_COUNT).ok_or(Mistake("a count is a number up to 1000"))
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<Node, Mistake> {
        const OPEN: Mistake = Mistake("a `[` is not closed");
        let inverted = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let low = match self.rest.next().ok_or(OPEN)? {
                ']' => return Ok(Node::One { ranges, inverted }),
                '\\' => match self.escape()? {
                    (one, false) if one.len() == 1 && one[0].0 == one[0].1 => one[0].0,
                    (many, false) => {
                        ranges.extend(many);
                        continue;
                    }
                    (_, true) => return Err(Mistake("`\\D`, `\\W` and `\\S` stand outside of `[...]`")),
                },
                letter => letter,
            };
            if self.rest.next_if_eq(&'-').is_none() {
                ranges.push((low, low));
                continue;
            }
            match self.rest.next().ok_or(OPEN)? {
                // A `-` at the end is one.
                ']' => {
                    ranges.extend([(low, low), ('-', '-')]);
                    return Ok(Node::One { ranges, inverted });
                }
                high if high < low => return Err(Mistake("a range goes from the smaller to the larger letter")),
                high => ranges.push((low, high)),
            }
        }
    }

    /// Behind `\`.
    fn escape(&mut self) -> Result<(Vec<(char, char)>, bool), Mistake> {
        let letter = self.rest.next().ok_or(Mistake("a `\\` at the end escapes nothing"))?;
        Ok(match letter {
            'd' | 'D' => (vec![('0', '9')], letter == 'D'),
            'w' | 'W' => (vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')], letter == 'W'),
            's' | 'S' => (vec![(' ', ' '), ('\t', '\r')], letter == 'S'),
            'n' => (vec![('\n', '\n')], false),
            't' => (vec![('\t', '\t')], false),
            'b' | 'B' => return Err(Mistake("borders of words are not known")),
            other => (vec![(other, other)], false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_match() {
        for (pattern, text, expected) in [
            ("", "anything", true),
            ("ab", "test:cab", true),
            ("^ab", "test:cab", false),
            ("^test:a$", "test:a", true),
            ("^test:a$", "test:ab", false),
            ("test:(a|b)+$", "test:abba", true),
            ("test:(?:a|b)+$", "test:abc", false),
            ("a.c", "a\nc", false),
            ("a.*c", "abbbc", true),
            ("^a?b{2,3}$", "abb", true),
            ("^a?b{2,3}$", "bbbb", false),
            ("^b{2,}$", "bbbbbb", true),
            ("^b{2}?$", "bbb", false),
            ("^[a-c_-]+$", "a-b_c", true),
            ("^[^a-c]+$", "xyzb", false),
            ("^[\\d.]+$", "1.25", true),
            ("\\w\\s\\W\\D\\S$", "a .xy", true),
            ("a\\.b", "axb", false),
            ("(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
            ("x|", "y", true),
        ] {
            assert_eq!(Regex::new(pattern).map(|it| it.is_match(text)), Ok(expected), "{pattern} {text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |pattern: &str| Regex::new(pattern).unwrap_err().to_string();
        assert_eq!(mistake("(a"), "a `(` is not closed");
        assert_eq!(mistake("a)"), "a `)` closes nothing");
        assert_eq!(mistake("[a"), "a `[` is not closed");
        assert_eq!(mistake("*a"), "there is nothing to repeat");
        assert_eq!(mistake("a{3,2}"), "a count is written {n}, {n,} or {n,m}");
        assert_eq!(mistake("a{9999}"), "a count is a number up to 1000");
        assert_eq!(mistake("[z-a]"), "a range goes from the smaller to the larger letter");
        assert_eq!(mistake("a\\"), "a `\\` at the end escapes nothing");
        assert_eq!(mistake(&"(".repeat(100)), "groups stand too deep inside one another");
    }
}
