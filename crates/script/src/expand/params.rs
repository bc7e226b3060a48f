//! Positional parameters and options: `$1`, `$#`, `str($1)`, `getopt("name", default, "help")`.

use crate::ast::{Arg, BinaryOp, Expr, ExprKind, Item, Script, UnaryOp};
use crate::parser::{literals, points};
use crate::walk::{self, Walk};
use crate::{Diagnostic, Options, Span};

/// An option that a script takes behind `--`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Getopt {
    /// Its name, without `--`.
    pub name: String,
    /// Its value when it is not given, as one would type it; `None` for a switch that is off.
    pub default: Option<String>,
    /// What it is for.
    pub help: Option<String>,
}

/// Puts values in place of parameters and options.
pub(super) fn replace(script: &mut Script, options: &Options, diagnostics: &mut Vec<Diagnostic>) {
    let mut replacer = Replacer { options, diagnostics, taken: Vec::new(), collect: false };
    for item in &mut script.items {
        if let Item::Probe(probe) = item {
            replacer.points(&mut probe.points);
        }
        walk::item(&mut replacer, item);
    }
    let taken = replacer.taken;
    let unknown: Vec<String> = options
        .named
        .iter()
        .filter(|(name, _)| taken.iter().all(|known| known.name != *name))
        .map(|(name, _)| format!("--{name}"))
        .collect();
    if !unknown.is_empty() {
        let hint = if taken.is_empty() {
            "the script takes no options".to_owned()
        } else {
            let known: Vec<String> = taken.iter().map(|known| format!("--{}", known.name)).collect();
            format!("the script takes {}", known.join(", "))
        };
        diagnostics.push(Diagnostic {
            span: None,
            ..Diagnostic::error(
                Span::default(),
                format!("unexpected program command line options: {}", unknown.join(", ")),
            )
            .with_hint(hint)
        });
    }
}

/// The options of an expanded script, in order, each once.
pub(super) fn getopts(script: &mut Script) -> Vec<Getopt> {
    let options = Options::default();
    let mut diagnostics = Vec::new();
    let mut replacer = Replacer { options: &options, diagnostics: &mut diagnostics, taken: Vec::new(), collect: true };
    script.items.iter_mut().for_each(|item| walk::item(&mut replacer, item));
    replacer.taken
}

struct Replacer<'a> {
    options: &'a Options,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// The options met so far.
    taken: Vec<Getopt>,
    /// Only options are asked for.
    collect: bool,
}

/// A value as one would type it.
enum Value {
    Int { value: u64, negative: bool, duration: bool },
    Bool(bool),
    Str(Vec<u8>),
}

impl Value {
    fn into_kind(self, span: Span) -> ExprKind {
        match self {
            Value::Int { value, negative, duration } => {
                let int = ExprKind::Int { value, duration };
                if negative { ExprKind::Unary(UnaryOp::Neg, Box::new(Expr { kind: int, span })) } else { int }
            }
            Value::Bool(value) => ExprKind::Bool(value),
            Value::Str(text) => ExprKind::Str(text),
        }
    }

    fn shown(&self) -> String {
        match self {
            Value::Int { value, negative, .. } => format!("{}{value}", if *negative { "-" } else { "" }),
            Value::Bool(value) => value.to_string(),
            Value::Str(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }

    /// A literal of the script.
    fn literal(expr: &Expr) -> Option<Value> {
        Some(match &expr.kind {
            ExprKind::Int { value, duration } => Value::Int { value: *value, negative: false, duration: *duration },
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Str(text) => Value::Str(text.clone()),
            ExprKind::Unary(UnaryOp::Neg, inner) => match inner.kind {
                ExprKind::Int { value, duration } => Value::Int { value, negative: true, duration },
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// A number from the command line, perhaps negative.
fn number(text: &str) -> Option<Value> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if !digits.starts_with(|char: char| char.is_ascii_digit()) {
        return None;
    }
    let number = literals::number(digits).ok()?;
    Some(Value::Int { value: number.value, negative, duration: number.duration })
}

impl Replacer<'_> {
    fn points(&mut self, points: &mut [crate::ast::AttachPoint]) {
        for point in points {
            if !point.parts.iter().any(|part| part.contains('$')) {
                continue;
            }
            let mut unset = Vec::new();
            let mut param = |number: u32| match self.given(number) {
                Some(text) => text.to_owned(),
                None => {
                    unset.push(number);
                    String::new()
                }
            };
            // Its mistakes were reported by the parser.
            let cut = points::cut(&point.text, Span { end: point.span.start, ..point.span }, Some(&mut param));
            point.parts = cut.point.parts;
            unset.into_iter().for_each(|number| self.unset(number, point.span));
        }
    }

    fn given(&self, number: u32) -> Option<&str> {
        self.options.params.get((number as usize).checked_sub(1)?).map(String::as_str)
    }

    fn unset(&mut self, number: u32, span: Span) {
        let text = format!("positional parameter ${number} is empty or not provided");
        self.diagnostics.push(Diagnostic::warning(span, text));
    }

    fn error(&mut self, span: Span, message: impl Into<String>) -> ExprKind {
        self.diagnostics.push(Diagnostic::error(span, message));
        ExprKind::Error
    }

    /// `$1` outside of `str()`: a number where it is one, otherwise text.
    fn param(&mut self, number_of: u32, span: Span) -> ExprKind {
        match self.given(number_of) {
            Some(text) => number(text).unwrap_or_else(|| Value::Str(text.as_bytes().to_vec())).into_kind(span),
            None => {
                self.unset(number_of, span);
                ExprKind::Int { value: 0, duration: false }
            }
        }
    }

    /// `$1`, `$1 + n` inside `str()`: text; `None` when it is something else.
    fn text(&mut self, expr: &Expr) -> Option<ExprKind> {
        let (number, skip) = match &expr.kind {
            ExprKind::Param(number) => (*number, 0),
            ExprKind::Binary(op, left, right) => match (&left.kind, &right.kind) {
                (ExprKind::Param(number), ExprKind::Int { value, .. })
                | (ExprKind::Int { value, .. }, ExprKind::Param(number))
                    if *op == BinaryOp::Add =>
                {
                    (*number, *value)
                }
                (ExprKind::Param(_), _) | (_, ExprKind::Param(_)) => {
                    let text = "only addition of a single constant to a positional parameter is allowed in str()";
                    return Some(self.error(expr.span, text));
                }
                _ => return None,
            },
            _ => return None,
        };
        let Some(text) = self.given(number).map(str::as_bytes) else {
            self.unset(number, expr.span);
            return Some(ExprKind::Str(Vec::new()));
        };
        match usize::try_from(skip).ok().and_then(|skip| text.get(skip..)) {
            Some(rest) => Some(ExprKind::Str(rest.to_vec())),
            None => {
                let len = text.len();
                Some(self.error(expr.span, format!("cannot use offset that exceeds string length ({skip} > {len})")))
            }
        }
    }

    /// `getopt("name"[, default[, "help"]])`
    fn getopt(&mut self, args: &[Arg], span: Span) -> ExprKind {
        let mut literals = Vec::new();
        for arg in args {
            match arg {
                Arg::Expr(expr) => match Value::literal(expr) {
                    Some(value) => literals.push(value),
                    None => return self.error(expr.span, "getopt() takes only literals"),
                },
                Arg::Type(ty) => return self.error(ty.span, "getopt() takes only literals"),
            }
        }
        let mut literals = literals.into_iter();
        let (name, default, help, rest) = (literals.next(), literals.next(), literals.next(), literals.next());
        let Some(Value::Str(name)) = name else {
            return self.error(span, "getopt() needs the option's name, a string, first");
        };
        let name = String::from_utf8_lossy(&name).into_owned();
        let help = match help {
            None => None,
            Some(Value::Str(help)) => Some(String::from_utf8_lossy(&help).into_owned()),
            Some(_) => return self.error(span, "the third argument of getopt() is its help, a string"),
        };
        if rest.is_some() {
            return self.error(span, "getopt() takes at most 3 arguments: name, default and help");
        }
        if !self.taken.iter().any(|known| known.name == name) {
            let shown = default.as_ref().filter(|value| !matches!(value, Value::Bool(false))).map(Value::shown);
            self.taken.push(Getopt { name: name.clone(), default: shown, help });
        }
        let default = default.unwrap_or(Value::Bool(false));
        let Some((_, given)) = self.options.named.iter().rev().find(|(known, _)| *known == name) else {
            return default.into_kind(span);
        };
        let wrong = match (default, given) {
            (Value::Bool(_), None) => return ExprKind::Bool(true),
            (Value::Bool(_), Some(text)) => match text.as_str() {
                "1" | "true" | "on" | "yes" => return ExprKind::Bool(true),
                "0" | "false" | "off" | "no" => return ExprKind::Bool(false),
                _ => format!("option --{name} is a switch: `{text}` is neither true nor false"),
            },
            (Value::Int { .. }, Some(text)) => match number(text) {
                Some(value) => return value.into_kind(span),
                None => format!("option --{name} needs a number, not `{text}`"),
            },
            (Value::Str(_), Some(text)) => return ExprKind::Str(text.as_bytes().to_vec()),
            (Value::Int { .. } | Value::Str(_), None) => format!("option --{name} needs a value: --{name}=VALUE"),
        };
        self.error(span, wrong)
    }
}

impl Walk for Replacer<'_> {
    fn expr(&mut self, node: &mut Expr) {
        let span = node.span;
        match &mut node.kind {
            ExprKind::Call { name, args } if name.name == "getopt" => node.kind = self.getopt(args, span),
            _ if self.collect => walk::expr(self, node),
            ExprKind::Param(number) => node.kind = self.param(*number, span),
            ExprKind::ParamCount => {
                node.kind = ExprKind::Int { value: self.options.params.len() as u64, duration: false };
            }
            ExprKind::Call { name, args } if name.name == "str" => {
                if let Some(Arg::Expr(first)) = args.first_mut()
                    && let Some(text) = self.text(first)
                {
                    first.kind = text;
                    if args.len() == 1
                        && let Some(Arg::Expr(text)) = args.pop()
                    {
                        *node = Expr { span, ..text };
                        return;
                    }
                }
                walk::expr(self, node);
            }
            _ => walk::expr(self, node),
        }
    }
}
