//! The script without its sugar: every name is found, every expression has its type, every conversion is a node.
//!
//! This is what the checker hands to lowering. Lowering decides nothing about meaning: it does not look up a field, widen an
//! integer or choose an address space. What it may rely on:
//!
//! - the operands of an arithmetic operation have the type of the result; those of a comparison have one common type;
//! - the value stored into a variable, a map element or a tuple has exactly its type;
//! - conditions are of any scalar type and mean "not zero" (strings, tuples and the like never get here);
//! - predicates, `unroll`, `comptime`, macros, `sizeof`, positional parameters and constant ternaries are gone;
//! - aggregations are changed only through [`StmtKind::Aggregate`] and read only through [`ExprKind::MapGet`] or the
//!   functions that take maps.
//!
//! # Expansion
//!
//! Attach points that see the same context share one [`Probe`]. A pattern such as `tracepoint:syscalls:sys_enter_*` whose body
//! uses fields becomes one probe for each layout; one that uses none stays one probe with many points.

use std::sync::Arc;

use crate::plan::{Attach, Config};
use crate::types::{Clock, Type};
use crate::{Span, ast};

/// A checked script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Settings, from the config block, the environment and the defaults.
    pub config: Config,
    /// Probes in the order of the script, expanded.
    pub probes: Vec<Probe>,
    /// Subprograms.
    pub functions: Vec<Function>,
    /// Maps that the script uses.
    pub maps: Vec<Map>,
    /// Structs and unions that types name ([`StructRef::id`](crate::types::StructRef)).
    pub structs: Vec<Struct>,
    /// Formats of `strftime` and of `time`.
    pub time_formats: Vec<String>,
    /// Filters of `cgroup_path`.
    pub cgroup_filters: Vec<String>,
}

/// Position in [`Script::maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapRef(pub u32);

/// Position in [`Body::vars`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarRef(pub u32);

/// Position in [`Script::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef(pub u32);

/// A body and where it runs.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Number of the probe in the script as written, from 0: expanded probes share it.
    pub index: u32,
    /// Places, at least one; their kind is the same.
    pub places: Vec<Place>,
    /// Section of its program ([`points::section`](crate::points::section)).
    pub section: String,
    /// What the context is, for arguments and stacks.
    pub context: Context,
    /// What it does; the predicate is part of it.
    pub body: Body,
    /// The probe in the script.
    pub span: Span,
}

/// One place where a probe attaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// What the builtin `probe` is: the full name, patterns resolved (`kprobe:vfs_read`).
    pub name: String,
    /// What the builtin `func` is when it is known before the program runs; `None` when the address tells.
    pub func: Option<String>,
    /// How to attach.
    pub attach: Attach,
}

/// What the first argument of the program points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nothing of use: BEGIN, END, self, raw tracepoint test runs.
    None,
    /// `struct pt_regs` of the kernel: kprobe, kretprobe, uprobe, uretprobe, USDT.
    Registers,
    /// A tracepoint's record.
    Tracepoint,
    /// Arguments as u64: raw tracepoints, `tp_btf`.
    RawArgs,
    /// Arguments as u64 with types that the verifier knows: fentry, fexit, iterators through `bpf_iter__*`.
    TypedArgs,
    /// `struct bpf_perf_event_data`: profile, interval, software, hardware, watchpoint.
    PerfEvent,
    /// `struct xdp_md`: test and bench probes.
    Xdp,
}

/// A subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its parameters: the first variables of the body.
    pub params: u32,
    /// What it returns.
    pub ret: Type,
    /// What it does.
    pub body: Body,
}

impl Function {
    /// Whether the result is no number: the caller gives the address of a place for it, in front of the arguments.
    pub fn returns_in_memory(&self) -> bool {
        !self.ret.is_scalar() && self.ret != Type::Void
    }
}

/// Statements and the variables that they use.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Variables; each declaration is its own, so that names may repeat.
    pub vars: Vec<Var>,
    /// Statements.
    pub stmts: Vec<Stmt>,
}

/// A scratch variable. Zero until it is assigned.
#[derive(Clone, Debug)]
pub struct Var {
    /// Its name with `$`, or a made one.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// A map.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its name without `@`; empty for `@`.
    pub name: String,
    /// Type of its keys; `None` for a scalar map. Several keys are a tuple.
    pub key: Option<Type>,
    /// Type of its values.
    pub value: Type,
    /// Kind and size when `let` declares it.
    pub decl: Option<(MapKind, u32)>,
    /// Both printed and cleared by the script while it runs, so that no count may get lost between the two.
    pub printed_and_cleared: bool,
    /// Named by a `zero()` of the script: its zeroes are shown.
    pub zeroed: bool,
    /// First use.
    pub span: Span,
}

/// Words for kinds of maps in `let @m = kind(n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the map type of its name")]
pub enum MapKind {
    Hash,
    LruHash,
    PercpuHash,
    PercpuLruHash,
    PercpuArray,
}

/// A struct or union, for printing.
#[derive(Clone, Debug)]
pub struct Struct {
    /// `struct` or `union` and its name.
    pub name: Arc<str>,
    /// A union.
    pub union: bool,
    /// Size, in bytes.
    pub size: u32,
    /// Its members; those of anonymous members are lifted.
    pub fields: Vec<Field>,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where, in bytes; for a bit-field, its storage unit.
    pub off: u32,
    /// Its type; for a bit-field, the storage unit's.
    pub ty: Type,
    /// Bits of the storage unit.
    pub bits: Option<Bits>,
}

/// A bit-field inside its storage unit, counted from the lowest bit of the value (already right for this byte order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bits {
    /// First bit.
    pub shift: u8,
    /// How many, at least 1.
    pub width: u8,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Where it was written; for expanded macros, inside the macro.
    pub span: Span,
}

/// Kinds of statements.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `$x = e`
    SetVar(VarRef, Expr),
    /// `@m[k] = e`, for plain values.
    SetMap {
        /// The map.
        map: MapRef,
        /// The key, of the map's key type.
        key: Option<Expr>,
        /// The value, of the map's value type.
        value: Expr,
    },
    /// `@m[k] += e`, `@m++`: atomically for 4 and 8 byte integers. `op` is `Add` or `Sub`; every other `op=` is a
    /// [`StmtKind::SetMap`].
    AddMap {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Expr>,
        /// Added; of the map's value type.
        value: Expr,
    },
    /// `@m[k] = count()` and its relatives; the map's type says which.
    Aggregate {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Expr>,
        /// The number, 8 bytes; `None` for `count()`.
        value: Option<Expr>,
        /// Weight or time of `tseries`; `None` otherwise.
        time: Option<Expr>,
    },
    /// `delete(@m[k])`, result unused.
    Delete {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Expr>,
        /// Warn when the key is absent.
        warn: bool,
    },
    /// An expression for its effect.
    Expr(Expr),
    /// `if`
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// `while`
    While(Expr, Vec<Stmt>),
    /// `for ($i : a..b)`: the bounds are evaluated once.
    ForRange {
        /// The number, `int64`.
        var: VarRef,
        /// First value.
        start: Expr,
        /// One past the last.
        end: Expr,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `for ($kv : @m)`: `var` is a tuple of key and value (an aggregation's value is a number).
    ForMap {
        /// The pair.
        var: VarRef,
        /// The map.
        map: MapRef,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `return`; a probe's own value is ignored unless its kind uses it.
    Return(Option<Expr>),
    /// Something for user space to do.
    Action(Action),
    /// `{ ... }`
    Block(Vec<Stmt>),
}

/// A record for user space. Each becomes one [`plan::Action`](crate::plan::Action).
#[derive(Clone, Debug)]
pub enum Action {
    /// `printf`, `errorf`, `warnf`, `debugf`, `cat`, `system`: a format and its values.
    Format {
        /// Which.
        kind: FormatKind,
        /// The format, parsed and checked against the values.
        format: Arc<crate::plan::Format>,
        /// Values.
        args: Vec<Expr>,
    },
    /// `print(v)` of something that is no map.
    PrintValue(Expr),
    /// `print(@m)`, `print(@m, top, div)`
    PrintMap {
        /// The map.
        map: MapRef,
        /// Only so many; 0 for all.
        top: u32,
        /// Divide values by this; 0 and 1 for not.
        div: u32,
        /// The map is cleared behind this, with nothing between that could keep it from that.
        cleared: bool,
    },
    /// `print(@m[k])`: the value of one key, printed as a value. For aggregations that cannot be read as a number.
    PrintMapElement {
        /// The map.
        map: MapRef,
        /// The key.
        key: Expr,
    },
    /// `clear(@m)`
    Clear(MapRef),
    /// `zero(@m)`
    Zero(MapRef),
    /// `join(argv, sep)`: pointers to strings until a null pointer; at most 16, as many bytes as `max_strlen` each.
    Join {
        /// `char **`
        argv: Expr,
        /// Between two.
        separator: Vec<u8>,
    },
    /// `time(fmt)`: number of the format in [`Script::time_formats`].
    Time(u32),
    /// `exit(code)`: the probe ends here too.
    Exit(Expr),
    /// `unwatch(addr)`
    Unwatch(Expr),
    /// A condition that must hold while it runs, such as an index inside its array or `assert`: a message and nothing else.
    RuntimeError {
        /// What is said.
        message: String,
        /// It ends the run.
        ends: bool,
    },
}

/// Which function a format belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum FormatKind {
    Printf,
    Errorf,
    Warnf,
    Debugf,
    Cat,
    System,
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its type.
    pub ty: Type,
    /// Where it was written.
    pub span: Span,
}

/// Kinds of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A number of a scalar type, sign-extended to 64 bits.
    Const(i64),
    /// Text for a `String` (without NUL, at most `size - 1` bytes), bytes for a `Buffer`, or an array of bytes (`pton`).
    Bytes(Arc<[u8]>),
    /// A variable.
    Var(VarRef),
    /// `@m[k]`; zero when the key is absent. Of an aggregation: the sum over all CPUs, as a number.
    MapGet {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Box<Expr>>,
    },
    /// `has_key(@m, k)`
    MapHas {
        /// The map.
        map: MapRef,
        /// The key.
        key: Box<Expr>,
    },
    /// `find(@m, k, $v)`: true when it is there, and then `$v` is its value.
    MapFind {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Box<Expr>>,
        /// Set when it is found.
        var: VarRef,
    },
    /// `delete(@m, k)`: true when it was there.
    MapDelete {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Box<Expr>>,
    },
    /// `len(@m)`
    MapLen(MapRef),
    /// `@m++` and its relatives as a value: adds to a 4 or 8 byte integer and gives the old or the new value.
    MapStep {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Box<Expr>>,
        /// Added.
        by: i64,
        /// Gives the old value.
        old: bool,
    },
    /// An assignment inside an expression, from macros: statements, then a value.
    Block(Vec<Stmt>, Box<Expr>),
    /// `- ~` on integers.
    Unary(ast::UnaryOp, Box<Expr>),
    /// `!e`: 1 when zero.
    Not(Box<Expr>),
    /// Arithmetic on two integers of the same type. Signedness is the type's. Division by zero gives 0, the rest gives the
    /// dividend.
    Binary(ast::BinaryOp, Box<Expr>, Box<Expr>),
    /// Pointer plus an integer times `scale`.
    PointerAdd {
        /// The pointer.
        pointer: Box<Expr>,
        /// The integer, `int64`.
        index: Box<Expr>,
        /// Size of what the pointer points at, in bytes.
        scale: u32,
    },
    /// Comparison of two scalars of one type.
    Compare(ast::BinaryOp, Box<Expr>, Box<Expr>),
    /// `==` or `!=` (`negate`) of two strings, of any capacities, up to the first NUL or `limit` bytes (`strncmp`).
    StringEq {
        /// Left.
        a: Box<Expr>,
        /// Right.
        b: Box<Expr>,
        /// At most so many bytes; `None` for all.
        limit: Option<u32>,
        /// 1 when they differ.
        negate: bool,
    },
    /// `==` or `!=` of two values in memory of the same type, byte by byte. Integers inside are equal in size.
    MemoryEq {
        /// Left.
        a: Box<Expr>,
        /// Right.
        b: Box<Expr>,
        /// 1 when they differ.
        negate: bool,
    },
    /// `&&`
    And(Box<Expr>, Box<Expr>),
    /// `||`
    Or(Box<Expr>, Box<Expr>),
    /// `c ? a : b`, branches of the type of the whole.
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Conversion to the type of the whole: between integers (truncate, or extend by the source's sign), to `Bool` (not
    /// zero), integer from and to pointer or `Ksym`, integer to an array of its bytes and back, string to a longer or
    /// shorter string (cut, always with NUL), array of characters to string, tuple to a tuple of other sizes, element by
    /// element, an integer to a `Word`, `Usym` from an address (the current process).
    Cast(Box<Expr>),
    /// `*(T *)(pointer + off)`: reads memory of the pointer's space. A failed read gives zeroes and counts an error.
    Deref {
        /// The pointer, of any pointer type.
        pointer: Box<Expr>,
        /// Offset, in bytes.
        off: u32,
        /// Bits, when it is a bit-field.
        bits: Option<Bits>,
    },
    /// A member of a value in memory.
    Field {
        /// The value: a struct, tuple or record.
        base: Box<Expr>,
        /// Offset, in bytes.
        off: u32,
        /// Bits, when it is a bit-field.
        bits: Option<Bits>,
    },
    /// An element of an array value, `base[index]`; outside it gives zero and a runtime error.
    Index {
        /// An array or a string.
        base: Box<Expr>,
        /// The index, `uint64` or `int64`.
        index: Box<Expr>,
    },
    /// Elements of a tuple or record, in order.
    Tuple(Vec<Expr>),
    /// `&$x`: space `Bpf`.
    AddrOfVar(VarRef),
    /// `&@m[k]`: null when the key is absent; space `Bpf`.
    AddrOfMap {
        /// The map.
        map: MapRef,
        /// The key.
        key: Option<Box<Expr>>,
    },
    /// `ctx`, as a pointer.
    Context,
    /// A field of the context at `off`, loaded directly (tracepoint fields, iterators). In-memory types are copied out.
    ContextField {
        /// Offset, in bytes.
        off: u32,
        /// Bits, when it is a bit-field.
        bits: Option<Bits>,
    },
    /// Address of the text or bytes of a tracepoint that the u32 at `off` tells of (`__data_loc`: offset low, length high;
    /// relative to the end of that u32 when `rel`).
    DataLoc {
        /// Offset, in bytes.
        off: u32,
        /// `__rel_loc`
        rel: bool,
    },
    /// Argument `n` of a function in registers, on the stack from the seventh on, or in the u64 slots of raw and typed
    /// arguments; in USDT probes, the probe's argument.
    Argument(u32),
    /// `retval`: of kretprobes, uretprobes (a register), fexit (slot `arguments`).
    ReturnValue {
        /// Slots that the arguments take before it (fexit).
        arguments: u32,
    },
    /// `reg("name")`: offset in `struct pt_regs`, in bytes.
    Register(u32),
    /// A builtin or a function of the current moment.
    Builtin(Builtin),
    /// A function with arguments.
    Call(Call, Vec<Expr>),
    /// A subprogram.
    CallFunction(FunctionRef, Vec<Expr>),
}

/// Values of the current moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `pid`: thread group; of `namespace` (of skep's own pid namespace unless it is the initial one).
    Pid {
        /// In the initial namespace.
        init: bool,
    },
    /// `tid`
    Tid {
        /// In the initial namespace.
        init: bool,
    },
    /// `uid`
    Uid,
    /// `gid`
    Gid,
    /// `comm`: `string[16]`
    Comm,
    /// `curtask`: `struct task_struct *`
    Curtask,
    /// `cgroup`
    Cgroup,
    /// `cpu`
    Cpu,
    /// `ncpus`
    Ncpus,
    /// `numaid`
    NumaNode,
    /// `usermode`: the interrupted code was of a process.
    Usermode,
    /// `rand`: 32 bits
    Rand,
    /// `jiffies`
    Jiffies,
    /// `nsecs`, `nsecs(clock)`, `elapsed` is computed from it.
    Nsecs(NsecsClock),
    /// `elapsed`: nanoseconds since the script started.
    Elapsed,
    /// `probe`: a [`Word::Place`](crate::types::Word) or a constant string by the checker's choice.
    Place,
    /// `func` where the address tells: `Ksym` or `Usym`.
    Func,
    /// `cpid`: process of `-c`; 0 without one (from the script's parameters, filled in before loading).
    ChildPid,
    /// `kstack`, `ustack`: the type says which.
    Stack,
}

/// Clocks of `nsecs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the clock of its name")]
pub enum NsecsClock {
    Monotonic,
    Boot,
    Tai,
    SwTai,
}

/// Functions with arguments. The result has the type of the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `str(p)`, `str(p, n)`: text at a pointer, cut to the type's capacity and, with a second argument, to that many bytes;
    /// `max_strlen`'s trailer is the printer's.
    Str,
    /// `buf(p, n)`
    Buf,
    /// `strlen(s)`
    Strlen,
    /// `strcontains(a, b)` as 0 or 1.
    Strcontains,
    /// `strstr(a, b)` as index, or -1.
    Strstr,
    /// `strcap(s)` is constant; `memcmp(a, b, n)`
    Memcmp,
    /// `str_concat(a, b)`
    Concat,
    /// `comm(pid)`: name of another task.
    CommOf,
    /// `strftime(fmt, ns)`: number of the format, clock, nanoseconds as the argument.
    Strftime {
        /// In [`Script::time_formats`].
        format: u32,
        /// Of the argument.
        clock: Clock,
    },
    /// `ntop(a)`, `ntop(af, a)`: the arguments are family (integer) and address (4 or 16 bytes in memory, or an integer).
    Ntop,
    /// `macaddr(p)`: six bytes in memory.
    Macaddr,
    /// `cgroup_path(id, filter)`: the argument is the id.
    CgroupPath {
        /// In [`Script::cgroup_filters`].
        filter: u32,
    },
    /// `path(p)`: bpf_d_path of a `struct path *`.
    Path,
    /// `bswap(n)`, by the type's size.
    Bswap,
    /// `signal(n)` (process), `signal_thread(n)`.
    Signal {
        /// Only the thread.
        thread: bool,
    },
    /// `override(n)`
    Override,
    /// `write_user(p, value)`
    WriteUser,
    /// `percpu_kaddr(name, cpu)`: address of a per-CPU symbol; the argument is the CPU.
    PercpuKaddr {
        /// The symbol.
        symbol: String,
    },
    /// `skboutput(path, skb, len, 0)`: the packet into a pcap file; 0, or the negative error.
    SkbOutput {
        /// File.
        path: String,
    },
    /// `socket_cookie(sk)`
    SocketCookie,
    /// `usym(a)`; `ksym(a)` is a cast.
    Usym,
    /// `len(stack)`
    StackLen,
}
