//! Macros and their expansion.

use std::collections::HashMap;
use std::rc::Rc;

use super::expr;
use super::token::{Token, TokenKind};
use crate::diagnostic::Diagnostic;
use crate::{Span, ast};

/// How deep macros may use each other.
const MAX_DEPTH: usize = 64;

/// How many tokens one expansion may have: macros double what they are given in a line each.
pub(crate) const MAX_TOKENS: usize = 1 << 16;

/// What `#define` says.
#[derive(Clone, Debug)]
pub(crate) struct Macro {
    /// Names of the parameters of a macro like a function.
    pub(crate) params: Option<Vec<Rc<str>>>,
    /// The last parameter is `...`, and called `__VA_ARGS__`.
    pub(crate) variadic: bool,
    pub(crate) body: Vec<Token>,
}

/// The macros of a script.
#[derive(Default)]
pub(crate) struct Macros {
    by_name: HashMap<Rc<str>, Macro>,
}

impl Macros {
    pub(crate) fn define(&mut self, name: &str, it: Macro) {
        self.by_name.insert(name.into(), it);
    }

    /// A macro that every script has.
    pub(crate) fn define_text(&mut self, name: &str, params: Option<&[&str]>, text: &str) {
        let body = super::token::tokens(text, super::token::Origin::Included(Span::default()));
        let params = params.map(|params| params.iter().map(|it| Rc::from(*it)).collect());
        self.define(name, Macro { params, variadic: false, body });
    }

    pub(crate) fn undefine(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    pub(crate) fn is_defined(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// `tokens` with every macro in them expanded.
    pub(crate) fn expand(&self, tokens: &[Token]) -> Result<Vec<Token>, String> {
        let mut out = Vec::new();
        self.expand_into(tokens, &mut AtWork::default(), &mut out)?;
        Ok(out)
    }

    /// Appends to `out`. A call is only seen as one when its parentheses are among `tokens`.
    fn expand_into(&self, tokens: &[Token], at_work: &mut AtWork, out: &mut Vec<Token>) -> Result<(), String> {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            at_work.steps += 1;
            if at_work.steps > MAX_TOKENS {
                return Err("macros expand to too much".to_owned());
            }
            let found = token.ident().filter(|_| !token.painted).and_then(|name| self.by_name.get_key_value(name));
            let Some((name, it)) = found else {
                out.push(token.clone());
                continue;
            };
            if at_work.active.contains(name) {
                out.push(Token { painted: true, ..token.clone() });
                continue;
            }
            if at_work.active.len() >= MAX_DEPTH {
                return Err(format!("macro {name} is used inside more than {MAX_DEPTH} others"));
            }
            let body = match &it.params {
                None => it.body.clone(),
                Some(_) if !tokens.get(at).is_some_and(|next| next.is("(")) => {
                    out.push(token.clone());
                    continue;
                }
                Some(params) => {
                    let (args, used) =
                        arguments(&tokens[at..]).ok_or_else(|| format!("call of macro {name} has no end"))?;
                    at += used;
                    self.substitute(name, it, params, &args, at_work)?
                }
            };
            let body = body.into_iter().map(|it| Token { span: token.span, ..it }).collect::<Vec<_>>();
            at_work.active.push(name.clone());
            let done = self.expand_into(&body, at_work, out);
            at_work.active.pop();
            done?;
        }
        Ok(())
    }

    /// A body with the arguments put in. `#x` is an argument's text, `a ## b` one token.
    fn substitute(
        &self,
        name: &str,
        it: &Macro,
        params: &[Rc<str>],
        args: &[Vec<Token>],
        at_work: &mut AtWork,
    ) -> Result<Vec<Token>, String> {
        let given = if params.is_empty() && args.len() == 1 && args[0].is_empty() { 0 } else { args.len() };
        if given < params.len() && !(params.len() == 1 && given == 0) || given > params.len() && !it.variadic {
            let want = params.len();
            return Err(format!("macro {name} takes {want} argument{}, not {given}", if want == 1 { "" } else { "s" }));
        }
        let argument = |token: &Token| -> Option<Vec<Token>> {
            let name = token.ident()?;
            if it.variadic && &**name == "__VA_ARGS__" {
                let rest = args.get(params.len()..).unwrap_or_default();
                let comma = Token { kind: TokenKind::Sign(","), ..token.clone() };
                return Some(rest.join(&comma));
            }
            let at = params.iter().position(|it| it == name)?;
            args.get(at).cloned()
        };
        let mut out: Vec<Token> = Vec::new();
        let mut at = 0;
        while let Some(token) = it.body.get(at) {
            at += 1;
            let next = it.body.get(at);
            if matches!(&token.kind, TokenKind::Other(it) if &**it == "#")
                && let Some(text) = next.and_then(argument)
            {
                let text: Vec<String> = text.iter().map(Token::shown).collect();
                out.push(Token { kind: TokenKind::Str(text.join(" ").into_bytes().into()), ..token.clone() });
                at += 1;
            } else if token.is("##") {
                let right = next.map(|next| argument(next).unwrap_or_else(|| vec![next.clone()])).unwrap_or_default();
                at += 1;
                let mut right = right.into_iter();
                if let (Some(left), Some(first)) = (out.pop(), right.next()) {
                    out.extend(super::token::tokens(
                        &format!("{}{}", left.shown(), first.shown()),
                        super::token::Origin::Included(left.span),
                    ));
                }
                out.extend(right);
            } else if let Some(value) = argument(token) {
                // Beside `##` an argument stays as it is written.
                if next.is_some_and(|next| next.is("##")) {
                    out.extend(value);
                } else {
                    // No macro has this name; it counts as a level.
                    at_work.active.push(Rc::from(""));
                    let done = self.expand_into(&value, at_work, &mut out);
                    at_work.active.pop();
                    done?;
                }
            } else {
                out.push(token.clone());
            }
            at_work.steps += 1;
            if at_work.steps.max(out.len()) > MAX_TOKENS {
                return Err("macros expand to too much".to_owned());
            }
        }
        Ok(out)
    }

    /// What a use of macro `name` in the script stands for; see [`Structs::expand`](crate::structs::Structs::expand).
    pub(crate) fn expression(
        &self,
        name: &str,
        args: Option<&[ast::Expr]>,
        span: Span,
    ) -> Option<Result<ast::Expr, Box<Diagnostic>>> {
        let it = self.by_name.get(name)?;
        let error = |message: String| Err(Box::new(Diagnostic::error(span, message)));
        let params = match (&it.params, args) {
            (None, None) => &[][..],
            (Some(params), Some(args)) if params.len() == args.len() => &params[..],
            (Some(params), Some(args)) => {
                let want = params.len();
                let given = args.len();
                let plural = if want == 1 { "" } else { "s" };
                return Some(error(format!("macro {name} takes {want} argument{plural}, not {given}")));
            }
            // `FOO(1)` of a plain macro and `FOO` of one with parameters are something else's business.
            _ => return None,
        };
        // A parameter is put in as a tree, whatever binds tighter: it keeps its own words while the body is expanded.
        let mut body = it.body.clone();
        for token in &mut body {
            if token.ident().is_some_and(|name| params.contains(name)) {
                token.painted = true;
            }
        }
        let mut out = Vec::new();
        if let Err(message) = self.expand_into(&body, &mut AtWork { active: vec![Rc::from(name)], steps: 0 }, &mut out)
        {
            return Some(error(message));
        }
        if out.is_empty() {
            return Some(error(format!("macro {name} stands for nothing")));
        }
        let mut tree = match expr::parse(&out) {
            Ok(tree) => tree,
            Err(message) => return Some(error(format!("macro {name} is no expression: {message}"))),
        };
        let mut left = MAX_TOKENS;
        let put = expr::rewrite(&mut tree, span, &mut left, &mut |word| {
            let at = params.iter().position(|it| **it == *word)?;
            args?.get(at).cloned()
        });
        Some(if put { Ok(tree) } else { error(format!("macro {name} expands to too much")) })
    }
}

/// An expansion as it goes.
#[derive(Default)]
struct AtWork {
    /// The macros that it is inside of.
    active: Vec<Rc<str>>,
    /// Tokens looked at.
    steps: usize,
}

/// The arguments of a call that begins with `(`, and how many tokens it has.
fn arguments(tokens: &[Token]) -> Option<(Vec<Vec<Token>>, usize)> {
    let mut depth = 0;
    let mut args = vec![Vec::new()];
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            TokenKind::Sign("(" | "[" | "{") => {
                depth += 1;
                if depth == 1 {
                    continue;
                }
            }
            TokenKind::Sign(")" | "]" | "}") => {
                depth -= 1;
                if depth == 0 {
                    return Some((args, at + 1));
                }
            }
            TokenKind::Sign(",") if depth == 1 => {
                args.push(Vec::new());
                continue;
            }
            _ => {}
        }
        args.last_mut()?.push(token.clone());
    }
    None
}
