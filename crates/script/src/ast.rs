//! What was written: the tree that the parser makes, with a span on every node.
//!
//! The tree keeps sugar (predicates, `a ?: b`, `if` as an expression, macro calls), since the formatter prints it and the
//! messages point at it; [`crate::typed`] is what is left without it.

use std::collections::HashSet;

use crate::Span;

/// A whole script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The `#!` line, without its end.
    pub shebang: Option<Span>,
    /// Preprocessor lines and C declarations, in order; those behind a probe too.
    pub c_parts: Vec<CPart>,
    /// Settings of the `config = { ... }` block.
    pub config: Option<Config>,
    /// Imports, probes, macros, map declarations and subprograms, in order.
    pub items: Vec<Item>,
    /// Every comment, in order. They hang on no node: the formatter places them by position.
    pub comments: Vec<Span>,
    /// Expressions that were written in parentheses which only group; the formatter keeps these.
    pub groups: HashSet<Span>,
}

/// A name where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    /// The name, with its sigil (`$x`, `@m`) where it has one.
    pub name: String,
    /// Where.
    pub span: Span,
}

/// A piece of C.
#[derive(Clone, Debug)]
pub struct CPart {
    /// What kind.
    pub kind: CKind,
    /// Where, with the directive's continuation lines and the declaration's `;`, which may be missing behind a `}`.
    pub span: Span,
}

/// Kinds of C pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CKind {
    /// A line that starts with `#`.
    Directive,
    /// `struct`, `union`, `enum` or `typedef` declaration.
    Declaration,
    /// The whole text of an imported `.h` file.
    Header,
}

/// `config = { key = value; ... }`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where, braces included.
    pub span: Span,
    /// The settings.
    pub entries: Vec<ConfigEntry>,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// Its key.
    pub key: Ident,
    /// Its value as written, without quotes.
    pub value: ConfigValue,
    /// Where the value stands.
    pub value_span: Span,
}

/// Value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigValue {
    /// A number.
    Int(u64),
    /// `true`, `false`.
    Bool(bool),
    /// A word or a quoted string.
    Text(String),
}

/// Something at the root of a script.
#[derive(Clone, Debug)]
pub enum Item {
    /// `import "path";`
    Import(Import),
    /// `kprobe:f /x/ { ... }`
    Probe(Probe),
    /// `macro name($x, @m, e) { ... }`
    Macro(Macro),
    /// `let @m = lruhash(100);`
    MapDecl(MapDecl),
    /// `fn name($x : int64) : int64 { ... }`
    Function(Function),
}

/// An import.
#[derive(Clone, Debug)]
pub struct Import {
    /// What, without quotes.
    pub path: String,
    /// The whole statement.
    pub span: Span,
}

/// A probe: where, when, what.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `name=` before the attach points.
    pub name: Option<Ident>,
    /// Where it attaches, at least one.
    pub points: Vec<AttachPoint>,
    /// Between slashes.
    pub predicate: Option<Expr>,
    /// What it does.
    pub body: Block,
    /// The whole probe.
    pub span: Span,
}

/// One attach point, cut at its colons. Quotes and escapes are resolved, positional parameters are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachPoint {
    /// The parts, the provider first: `["kprobe", "vfs_read"]`. A part that holds `$1` has it literally.
    pub parts: Vec<String>,
    /// As written.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A macro.
#[derive(Clone, Debug)]
pub struct Macro {
    /// Its name.
    pub name: Ident,
    /// Its parameters.
    pub params: Vec<MacroParam>,
    /// Its body, whose tail is its value.
    pub body: Block,
    /// The whole definition.
    pub span: Span,
}

/// A macro's parameter; its spelling says what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacroParam {
    /// `$x`: a variable of the caller.
    Var(Ident),
    /// `@m`: a map of the caller.
    Map(Ident),
    /// `x`: any expression, evaluated at each use.
    Expr(Ident),
}

/// `let @m = type(n);` at the root.
#[derive(Clone, Debug)]
pub struct MapDecl {
    /// The map.
    pub map: Ident,
    /// Word for the map's type, such as `lruhash`.
    pub kind: Ident,
    /// Number of entries.
    pub size: Expr,
    /// The whole declaration.
    pub span: Span,
}

/// A subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: Ident,
    /// Its parameters with their types.
    pub params: Vec<(Ident, TypeExpr)>,
    /// What it returns.
    pub ret: TypeExpr,
    /// What it does.
    pub body: Block,
    /// The whole definition.
    pub span: Span,
}

/// `{ statements; value }`.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Its statements.
    pub stmts: Vec<Stmt>,
    /// The value of a block expression: a last expression without `;`. In a block that is a statement the parser makes it
    /// a last [`StmtKind::Expr`] instead.
    pub tail: Option<Box<Expr>>,
    /// Where, braces included.
    pub span: Span,
}

impl Block {
    /// The same as a statement, where nobody asks for its value: the tail becomes a last statement.
    pub fn into_statements(mut self) -> Block {
        if let Some(tail) = self.tail.take() {
            let span = tail.span;
            let kind = match tail.kind {
                ExprKind::If(branch) => StmtKind::If(branch),
                ExprKind::Block(inner) => StmtKind::Block(*inner),
                kind => StmtKind::Expr(Expr { kind, span }),
            };
            self.stmts.push(Stmt { kind: kind.without_value(), span });
        }
        self
    }
}

impl StmtKind {
    /// The same without the values of its branches and blocks.
    pub fn without_value(self) -> StmtKind {
        match self {
            StmtKind::If(mut branch) => {
                branch.then = branch.then.into_statements();
                branch.otherwise = branch.otherwise.map(Block::into_statements);
                StmtKind::If(branch)
            }
            StmtKind::Block(block) => StmtKind::Block(block.into_statements()),
            other => other,
        }
    }
}

impl If {
    /// Whether it can be a value: there is an `else`, and a branch that ends with a value.
    pub fn has_value(&self) -> bool {
        self.otherwise.as_ref().is_some_and(|otherwise| self.then.tail.is_some() || otherwise.tail.is_some())
    }
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Where, without its `;`.
    pub span: Span,
}

/// Kinds of statements.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `let $x: type = e;`
    Let {
        /// The variable.
        var: Ident,
        /// Its type when written.
        ty: Option<TypeExpr>,
        /// Its value when written.
        value: Option<Expr>,
    },
    /// `target = e` (`op` is `None`), `target op= e`. The target is a variable, a map, a map element, or `_`.
    Assign {
        /// What is assigned to.
        target: Box<Expr>,
        /// The operation of `op=`.
        op: Option<BinaryOp>,
        /// The value.
        value: Expr,
    },
    /// An expression for its effect.
    Expr(Expr),
    /// `if`, `else if`, `else`.
    If(Box<If>),
    /// `while (cond) { ... }`
    While {
        /// Condition.
        cond: Expr,
        /// Body.
        body: Block,
    },
    /// `for ($kv : @m) { ... }`
    ForMap {
        /// The pair.
        var: Ident,
        /// The map.
        map: Ident,
        /// Body.
        body: Block,
    },
    /// `for ($i : a..b) { ... }`
    ForRange {
        /// The number.
        var: Ident,
        /// First value.
        start: Expr,
        /// One past the last value.
        end: Expr,
        /// Body.
        body: Block,
    },
    /// `unroll (n) { ... }`
    Unroll {
        /// How often.
        count: Expr,
        /// Body.
        body: Block,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return`, `return e`
    Return(Option<Expr>),
    /// A nested block.
    Block(Block),
    /// `import` inside a macro.
    Import(Import),
}

/// `if cond { then } else { otherwise }`, as a statement or an expression. `else if` is a block with one `If` inside.
#[derive(Clone, Debug)]
pub struct If {
    /// `if comptime (...)`.
    pub comptime: bool,
    /// Condition.
    pub cond: Expr,
    /// When it is not zero.
    pub then: Block,
    /// When it is zero.
    pub otherwise: Option<Block>,
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// Kinds of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// An integer; a negative literal is a [`UnaryOp::Neg`] of it.
    Int {
        /// Its value.
        value: u64,
        /// Written as a duration (`5ms`), and so in nanoseconds.
        duration: bool,
    },
    /// `true`, `false`
    Bool(bool),
    /// `"text"`, escapes resolved: any bytes.
    Str(Vec<u8>),
    /// `$1` is 1.
    Param(u32),
    /// `$#`
    ParamCount,
    /// A word: a builtin, an enum's constant, a macro, a `#define`.
    Ident(String),
    /// `$x`
    Var(String),
    /// `@`, `@m`: a map without key.
    Map(String),
    /// `@m[k]`, `@m[a, b]`; several keys are a tuple.
    MapElement {
        /// The map.
        map: Ident,
        /// The keys, at least one.
        keys: Vec<Expr>,
    },
    /// `f(a, b)`: a function or a macro.
    Call {
        /// Its name.
        name: Ident,
        /// Its arguments.
        args: Vec<Arg>,
    },
    /// `-e`, `*e` ...
    Unary(UnaryOp, Box<Expr>),
    /// `++x`, `x--` ...
    Step {
        /// `++`, not `--`.
        up: bool,
        /// Before the operand: the value is the new one.
        prefix: bool,
        /// A variable, a map or a map element.
        target: Box<Expr>,
    },
    /// `a + b` ...
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `c ? a : b`; without `a` it is `c ?: b`.
    Ternary(Box<Expr>, Option<Box<Expr>>, Box<Expr>),
    /// `if c { a } else { b }` with a value.
    If(Box<If>),
    /// `{ ...; e }`
    Block(Box<Block>),
    /// `comptime e`
    Comptime(Box<Expr>),
    /// `e.name` (`arrow` for `->`), `e.0`.
    Field {
        /// Of what.
        base: Box<Expr>,
        /// Member, or the number of a tuple's element.
        name: Ident,
        /// Written `->`.
        arrow: bool,
    },
    /// `e[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `(type)e`
    Cast(TypeExpr, Box<Expr>),
    /// `()`, `(1,)`, `(1, "x")`
    Tuple(Vec<Expr>),
    /// `(a=1, b=2)`
    Record(Vec<(Ident, Expr)>),
    /// `sizeof(type)`, `sizeof(e)`
    Sizeof(Box<TypeOrExpr>),
    /// `offsetof(type, a.b)`, `offsetof(e, a.b)`
    Offsetof(Box<TypeOrExpr>, Vec<Ident>),
    /// `typeinfo(e)`
    Typeinfo(Box<TypeOrExpr>),
    /// `_`, only as the target of an assignment.
    Discard,
    /// What could not be parsed; the diagnostic is already there.
    Error,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub enum Arg {
    /// An expression.
    Expr(Expr),
    /// `struct foo`, `int32`, as macros and `offsetof` take them.
    Type(TypeExpr),
}

/// What `sizeof` takes.
#[derive(Clone, Debug)]
pub enum TypeOrExpr {
    /// A type.
    Type(TypeExpr),
    /// An expression.
    Expr(Expr),
}

/// A type as written.
#[derive(Clone, Debug)]
pub struct TypeExpr {
    /// What it is.
    pub kind: TypeKind,
    /// Where.
    pub span: Span,
}

/// Kinds of types as written.
#[derive(Clone, Debug)]
pub enum TypeKind {
    /// A word: `int32`, `string`, `inet`, a kernel typedef.
    Name(String),
    /// `struct x`, `union x`, `enum x`
    Tagged {
        /// `struct`, `union` or `enum`.
        tag: Tag,
        /// Its name.
        name: String,
    },
    /// `string[16]`, `buffer[8]`, `inet[4]`
    Sized(String, Box<Expr>),
    /// `T *`
    Pointer(Box<TypeExpr>),
    /// `T[4]` of any other type
    Array(Box<TypeExpr>, Box<Expr>),
    /// `(int8, string[4])`
    Tuple(Vec<TypeExpr>),
    /// `typeof(e)`, `typeof(type)`
    Typeof(Box<TypeOrExpr>),
}

/// The three words of C before a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `struct`
    Struct,
    /// `union`
    Union,
    /// `enum`
    Enum,
}

/// Operators before an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
    /// `~`
    BitNot,
    /// `*`
    Deref,
    /// `&`
    AddrOf,
}

/// Operators between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the operator of its name in C")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    BitAnd,
    BitOr,
    BitXor,
    Shl,
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

impl BinaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::Shl => "<<",
            BinaryOp::Shr => ">>",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "&&",
            BinaryOp::Or => "||",
        }
    }

    /// `== != < <= > >=`
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Eq, Ge, Gt, Le, Lt, Ne};
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge)
    }

    /// `&& ||`
    pub fn is_logical(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or)
    }
}
