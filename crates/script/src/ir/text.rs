//! The text form of a module: written for people, read for tests.
//!
//! One line is one instruction; `;` begins a comment. The [module](super) shows a function. `func` is a program, `local` a
//! function that programs call. What an operand is shows in its letter: `v` a value, `b` a block, `s` a slot, `m` a map, `e` an
//! extern, `@` a function. Behind a dot stands a size in bytes (`load.4`), a width in bits (`add.32`, `br.64`) or how many bits
//! are taken (`sext.8`). `!12..20` at the end of a line is its span; `!1:12..20` lies in the second text.
//!
//! | line | [`Op`](super::Op) |
//! |---|---|
//! | `v1 = const -5` | `Const` |
//! | `v1 = add.64 v2, 7` | `Alu`: `add sub mul div sdiv mod smod and or xor lsh rsh arsh` |
//! | `v1 = neg.32 v2`, `sext.8 v2`, `zext.16 v2`, `bswap.64 v2` | `Neg`, `SignExtend`, `ZeroExtend`, `ByteSwap` |
//! | `v1 = compare.64 slt v2, v3` | `Compare`: `eq ne set gt ge lt le sgt sge slt sle` |
//! | `v1 = load.4 v2+8`, `load_pure.8 v2-16`, `load.1 s0+3` | `Load` |
//! | `store.8 s0+0, v1` | `Store` |
//! | `atomic_add.8 v1+0, v2`, `v3 = atomic_add.8 v1+0, v2` | `AtomicAdd`, the second one with `fetch` |
//! | `v1 = slot s0+4`, `map m1`, `map_value m1+8`, `func @f`, `extern e0` | the addresses |
//! | `v1 = call 14()`, `call @f(v1)`, `call kfunc 7(v1)` | the calls, with or without a result |

mod parse;
mod print;

pub use parse::{Error, parse};

use skep_insn::{AluOp, Cond};

/// Names of operations.
const ALU: [(AluOp, &str); 13] = [
    (AluOp::Add, "add"),
    (AluOp::Sub, "sub"),
    (AluOp::Mul, "mul"),
    (AluOp::Div, "div"),
    (AluOp::SDiv, "sdiv"),
    (AluOp::Or, "or"),
    (AluOp::And, "and"),
    (AluOp::Lsh, "lsh"),
    (AluOp::Rsh, "rsh"),
    (AluOp::Mod, "mod"),
    (AluOp::SMod, "smod"),
    (AluOp::Xor, "xor"),
    (AluOp::Arsh, "arsh"),
];

/// Names of conditions.
const COND: [(Cond, &str); 11] = [
    (Cond::Eq, "eq"),
    (Cond::Ne, "ne"),
    (Cond::Set, "set"),
    (Cond::Gt, "gt"),
    (Cond::Ge, "ge"),
    (Cond::Lt, "lt"),
    (Cond::Le, "le"),
    (Cond::SGt, "sgt"),
    (Cond::SGe, "sge"),
    (Cond::SLt, "slt"),
    (Cond::SLe, "sle"),
];

fn name_of<T: PartialEq>(table: &[(T, &'static str)], item: T) -> &'static str {
    table.iter().find(|(it, _)| *it == item).map_or("?", |(_, name)| name)
}
