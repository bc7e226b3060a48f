//! Types of values, and how each lies in memory.
//!
//! A script's types are not C's: strings have a capacity, stacks are numbers that stand for lists, a histogram is a map's value.
//! The layout below is the contract between three parties: the programs in the kernel, the records in the ring buffer, and
//! user space, which prints. It depends on the type alone. Everything is in the machine's byte order.
//!
//! | type | bytes | contents |
//! | --- | --- | --- |
//! | `Int`, `Bool`, `Enum`, `Pointer` | 1, 2, 4, 8 | the value |
//! | `String { size }` | `size` | text, its NUL included, and zeroes behind it in keys and map values |
//! | `Buffer { size }` | 4 + `size` | u32 length, then the bytes |
//! | `Inet` | 20 | u32 `AF_INET` (2) or `AF_INET6` (10), then 4 or 16 bytes of address in network order |
//! | `Mac` | 6 | the address |
//! | `Ksym` | 8 | kernel address |
//! | `Usym` | 16 | u64 address, u32 process (tgid in skep's pid namespace), u32 zero |
//! | `Stack` | 16 | u64 id of the stack in the stack map (0: none), u32 process, u32 thread |
//! | `Timestamp` | 16 | u64 nanoseconds, u32 number of the format in [`Plan::time_formats`](crate::plan::Plan), u32 [clock](Clock) |
//! | `Word` | 8 | a number that user space turns into a word (errno, signal, user, system call) |
//! | `CgroupPath` | 16 | u64 cgroup, u64 number of the filter in [`Plan::cgroup_filters`](crate::plan::Plan) |
//! | `Array` | `n` times the element | the elements |
//! | `Tuple`, `Record` | see [`fields`](Type::fields) | elements in order, each aligned to its own alignment, padding zero |
//! | `Struct` | as in C | the bytes |
//! | `Count`, `Sum` | 8 | for each CPU: the sum |
//! | `Min`, `Max` | 16 | for each CPU: u64 value, u64 1 when it is set |
//! | `Avg`, `Stats` | 16 | for each CPU: u64 total, u64 count |
//! | `Hist`, `Lhist` | 8 for each bucket | for each CPU: counts, by bucket number |
//! | `Tseries` | 16 + 24 for each bucket | see [`Tseries`] |
//!
//! An array's element, a tuple's element and a key have exactly this layout. Alignment is the size for scalars, 8 for
//! what has u64 inside, 4 for `Buffer` and `Inet`, 1 for strings and `Mac`, C's for structs.

use std::fmt;
use std::sync::Arc;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// No value: what `printf` returns.
    Void,
    /// An integer of 1, 2, 4 or 8 bytes.
    Int {
        /// Size, in bytes.
        size: u8,
        /// Two's complement.
        signed: bool,
    },
    /// `true` or `false`, one byte.
    Bool,
    /// A floating-point number of C: it is shown, kept and passed on, and there is no arithmetic.
    Float {
        /// Size, in bytes: 4 or 8.
        size: u8,
    },
    /// An enum of C: an integer with names.
    Enum(Arc<Enum>),
    /// Text of at most `size - 1` bytes.
    String {
        /// Capacity, its NUL included.
        size: u32,
    },
    /// Bytes.
    Buffer {
        /// Capacity, without the length in front.
        size: u32,
    },
    /// An address of the internet.
    Inet,
    /// An address of a network card.
    Mac,
    /// A fixed number of equal elements.
    Array {
        /// Type of an element.
        elem: Arc<Type>,
        /// How many.
        count: u32,
    },
    /// An address.
    Pointer {
        /// What is there; `Void` for `void *`.
        to: Arc<Type>,
        /// Whose memory it is.
        space: Space,
    },
    /// A struct or union of C.
    Struct(StructRef),
    /// `(1, "x")`
    Tuple(Arc<[Type]>),
    /// `(a=1, b=2)`
    Record(Arc<[(String, Type)]>),
    /// A kernel address to be shown as a symbol.
    Ksym,
    /// An address of a process to be shown as a symbol.
    Usym,
    /// A list of addresses.
    Stack(Stack),
    /// A time to be shown by a format.
    Timestamp,
    /// A number to be shown as a word.
    Word(Word),
    /// A cgroup to be shown by its path.
    CgroupPath,
    /// `count()`
    Count,
    /// `sum(n)`
    Sum {
        /// Of signed numbers.
        signed: bool,
    },
    /// `min(n)`
    Min {
        /// Of signed numbers.
        signed: bool,
    },
    /// `max(n)`
    Max {
        /// Of signed numbers.
        signed: bool,
    },
    /// `avg(n)`
    Avg {
        /// Of signed numbers.
        signed: bool,
    },
    /// `stats(n)`
    Stats {
        /// Of signed numbers.
        signed: bool,
    },
    /// `hist(n, k)`: powers of two, each cut into 2^k parts.
    Hist {
        /// 0 to 5.
        bits: u8,
    },
    /// `lhist(n, min, max, step)`
    Lhist(Lhist),
    /// `tseries(n, interval, count, agg)`
    Tseries(Tseries),
}

/// Whose memory an address is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Space {
    /// Not known: read as the probe suggests.
    #[default]
    None,
    /// The kernel's.
    Kernel,
    /// The current process's.
    User,
    /// The program's own: its stack, scratch, or a map's value.
    Bpf,
    /// One time this one's, one time that one's: a variable that was given both.
    Any,
}

/// A struct or union of C, looked up by name in the types of the script's C part or of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StructRef {
    /// Its place in [`typed::Script::structs`](crate::typed::Script).
    pub id: u32,
    /// `struct` or `union` and its name, as messages and casts write it; empty name for anonymous ones.
    pub name: Arc<str>,
    /// Size, in bytes.
    pub size: u32,
    /// Alignment, in bytes.
    pub align: u32,
}

/// An enum of C.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Enum {
    /// Its name; empty for anonymous ones.
    pub name: String,
    /// Size, in bytes.
    pub size: u8,
    /// Whether its constants may be negative.
    pub signed: bool,
    /// Names by value.
    pub names: Vec<(i128, String)>,
}

/// Kind of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Of the process, not of the kernel.
    pub user: bool,
    /// Walked by the tables of the process's files, not by frame pointers.
    pub tables: bool,
    /// How it is shown.
    pub mode: StackMode,
    /// Most frames that are kept.
    pub limit: u32,
}

/// How a stack is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StackMode {
    /// `sym+off`, one to a line, after a line's end.
    #[default]
    Bpftrace,
    /// `address sym+off (module)`.
    Perf,
    /// Addresses.
    Raw,
    /// Build id and offset in the file.
    BuildId,
}

/// What a [`Type::Word`] number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// `strerror`: an errno.
    Errno,
    /// `signal_name`
    Signal,
    /// `syscall_name`
    Syscall,
    /// `username`: a user id.
    User,
    /// `probe`, `func` of a program that serves several places: the number of the place in
    /// [`Plan::places`](crate::plan::Plan).
    Place,
}

/// Clock of a [`Type::Timestamp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Clock {
    /// `CLOCK_BOOTTIME`, what `nsecs` is.
    #[default]
    Boot = 0,
    /// `CLOCK_MONOTONIC`
    Monotonic = 1,
    /// `CLOCK_TAI`
    Tai = 2,
}

/// Shape of a linear histogram: bucket 0 for what is below `min`, the last for `max` and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lhist {
    /// Lower end.
    pub min: i64,
    /// Upper end.
    pub max: i64,
    /// Width of a bucket, at least 1.
    pub step: i64,
}

/// Shape of a time series: a ring of `count` buckets of `interval_ns` each.
///
/// In memory, for each CPU: u64 zero, u64 zero, then the buckets, bucket `(time / interval_ns) % count` of 24 bytes: u64 epoch
/// (`time / interval_ns`; 0 when never used), u64 value (sum for avg), u64 number of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tseries {
    /// Width of a bucket.
    pub interval_ns: u64,
    /// Number of buckets.
    pub count: u32,
    /// What a bucket keeps.
    pub agg: TseriesAgg,
    /// Of signed numbers.
    pub signed: bool,
}

/// What a bucket of a time series keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TseriesAgg {
    /// The last value.
    Last,
    /// The sum.
    Sum,
    /// The mean.
    Avg,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
}

impl Lhist {
    /// Number of buckets, the two open ones included.
    pub fn buckets(&self) -> u32 {
        let inner = (self.max - self.min) / self.step.max(1);
        let rest = i64::from((self.max - self.min) % self.step.max(1) != 0);
        (inner + rest + 2) as u32
    }
}

/// Number of buckets of `hist(n, bits)`: bucket 0 is for negative numbers, `n + 1` for `0 <= n < 2^bits`, and above that
/// `((l + 1) << bits) + x + 1`, with `l = log2(n) - bits` and `x` the `bits` bits behind the highest.
pub fn hist_buckets(bits: u8) -> u32 {
    let top = 63 - u32::from(bits);
    ((top + 1) << bits) + ((1 << bits) - 1) + 2
}

impl Type {
    /// `uint64`
    pub const U64: Type = Type::Int { size: 8, signed: false };
    /// `uint32`
    pub const U32: Type = Type::Int { size: 4, signed: false };
    /// `int64`
    pub const I64: Type = Type::Int { size: 8, signed: true };

    /// Size in memory, in bytes (see the module's table).
    pub fn size(&self) -> u32 {
        match self {
            Type::Void => 0,
            Type::Int { size, .. } | Type::Float { size } => u32::from(*size),
            Type::Bool => 1,
            Type::Enum(e) => u32::from(e.size),
            Type::String { size } => *size,
            Type::Buffer { size } => 4 + size,
            Type::Inet => 20,
            Type::Mac => 6,
            Type::Array { elem, count } => elem.size().saturating_mul(*count),
            Type::Pointer { .. } | Type::Ksym | Type::Word(_) => 8,
            Type::Struct(s) => s.size,
            Type::Tuple(_) | Type::Record(_) => {
                let end = self.fields().last().map_or(0, |(off, ty)| off + ty.size());
                end.next_multiple_of(self.align())
            }
            Type::Usym | Type::Stack(_) | Type::Timestamp | Type::CgroupPath => 16,
            Type::Count | Type::Sum { .. } => 8,
            Type::Min { .. } | Type::Max { .. } | Type::Avg { .. } | Type::Stats { .. } => 16,
            Type::Hist { bits } => 8 * hist_buckets(*bits),
            Type::Lhist(shape) => 8 * shape.buckets(),
            Type::Tseries(shape) => 16 + 24 * shape.count,
        }
    }

    /// Alignment in memory, in bytes.
    pub fn align(&self) -> u32 {
        match self {
            Type::Void | Type::String { .. } | Type::Mac | Type::Bool => 1,
            Type::Int { size, .. } | Type::Float { size } => u32::from(*size),
            Type::Enum(e) => u32::from(e.size),
            Type::Buffer { .. } | Type::Inet => 4,
            Type::Array { elem, .. } => elem.align(),
            Type::Struct(s) => s.align.max(1),
            Type::Tuple(elems) => elems.iter().map(Type::align).max().unwrap_or(1),
            Type::Record(elems) => elems.iter().map(|(_, ty)| ty.align()).max().unwrap_or(1),
            _ => 8,
        }
    }

    /// Elements of a tuple or record with their offsets, in bytes; empty for everything else.
    pub fn fields(&self) -> Vec<(u32, &Type)> {
        let types: Vec<&Type> = match self {
            Type::Tuple(elems) => elems.iter().collect(),
            Type::Record(elems) => elems.iter().map(|(_, ty)| ty).collect(),
            _ => return Vec::new(),
        };
        let mut off = 0u32;
        let mut fields = Vec::with_capacity(types.len());
        for ty in types {
            off = off.next_multiple_of(ty.align());
            fields.push((off, ty));
            off += ty.size();
        }
        fields
    }

    /// Kept in a register: a number of at most 8 bytes.
    pub fn is_scalar(&self) -> bool {
        matches!(
            self,
            Type::Int { .. } | Type::Bool | Type::Enum(_) | Type::Pointer { .. } | Type::Ksym | Type::Word(_)
        )
    }

    /// Takes part in arithmetic as an integer.
    pub fn is_integer(&self) -> bool {
        matches!(self, Type::Int { .. } | Type::Enum(_))
    }

    /// Whether a number of this type is negative when its highest bit is set.
    pub fn is_signed(&self) -> bool {
        match self {
            Type::Int { signed, .. }
            | Type::Sum { signed }
            | Type::Min { signed }
            | Type::Max { signed }
            | Type::Avg { signed }
            | Type::Stats { signed } => *signed,
            Type::Enum(e) => e.signed,
            _ => false,
        }
    }

    /// Kept for each CPU in a map, and summed up when it is read.
    pub fn is_aggregation(&self) -> bool {
        matches!(
            self,
            Type::Count
                | Type::Sum { .. }
                | Type::Min { .. }
                | Type::Max { .. }
                | Type::Avg { .. }
                | Type::Stats { .. }
                | Type::Hist { .. }
                | Type::Lhist(_)
                | Type::Tseries(_)
        )
    }
}

impl fmt::Display for Type {
    /// As messages write it, and bpftrace: `int64`, `string[16]`, `(int8,string[3])`, `struct task_struct *`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Void => f.write_str("void"),
            Type::Int { size, signed } => write!(f, "{}int{}", if *signed { "" } else { "u" }, u32::from(*size) * 8),
            Type::Bool => f.write_str("bool"),
            Type::Float { size: 4 } => f.write_str("float"),
            Type::Float { .. } => f.write_str("double"),
            Type::Enum(e) if e.name.is_empty() => write!(f, "uint{}", u32::from(e.size) * 8),
            Type::Enum(e) => write!(f, "enum {}", e.name),
            Type::String { size } => write!(f, "string[{size}]"),
            Type::Buffer { size } => write!(f, "buffer[{size}]"),
            Type::Inet => f.write_str("inet"),
            Type::Mac => f.write_str("mac_address"),
            Type::Array { elem, count } => write!(f, "{elem}[{count}]"),
            Type::Pointer { to, .. } => write!(f, "{to} *"),
            Type::Struct(s) => f.write_str(&s.name),
            Type::Tuple(elems) => {
                f.write_str("(")?;
                for (i, elem) in elems.iter().enumerate() {
                    write!(f, "{}{elem}", if i > 0 { "," } else { "" })?;
                }
                f.write_str(")")
            }
            Type::Record(elems) => {
                f.write_str("record { ")?;
                for (i, (name, elem)) in elems.iter().enumerate() {
                    write!(f, "{}.{name} = {elem}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(" }")
            }
            Type::Ksym => f.write_str("ksym_t"),
            Type::Usym => f.write_str("usym_t"),
            Type::Stack(stack) => f.write_str(match (stack.user, stack.tables) {
                (true, true) => "dw_ustack",
                (true, false) => "ustack",
                (false, _) => "kstack",
            }),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Word(Word::Errno) => f.write_str("strerror"),
            Type::Word(Word::User) => f.write_str("username"),
            Type::Word(_) => f.write_str("string"),
            Type::CgroupPath => f.write_str("cgroup_path_t"),
            Type::Count => f.write_str("count_t"),
            Type::Sum { signed } => write!(f, "{}sum_t", if *signed { "" } else { "u" }),
            Type::Min { signed } => write!(f, "{}min_t", if *signed { "" } else { "u" }),
            Type::Max { signed } => write!(f, "{}max_t", if *signed { "" } else { "u" }),
            Type::Avg { signed } => write!(f, "{}avg_t", if *signed { "" } else { "u" }),
            Type::Stats { signed } => write!(f, "{}stats_t", if *signed { "" } else { "u" }),
            Type::Hist { .. } => f.write_str("hist_t"),
            Type::Lhist(_) => f.write_str("lhist_t"),
            Type::Tseries(_) => f.write_str("tseries_t"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(size: u8) -> Type {
        Type::Int { size, signed: true }
    }

    #[test]
    fn tuples_lie_as_c_structs_do() {
        let tuple = Type::Tuple([int(1), int(8), Type::String { size: 3 }, int(2)].into());
        let offsets: Vec<u32> = tuple.fields().iter().map(|(off, _)| *off).collect();
        assert_eq!((offsets, tuple.size(), tuple.align()), (vec![0, 8, 16, 20], 24, 8));
        assert_eq!(Type::Tuple([].into()).size(), 0);
        assert_eq!(tuple.to_string(), "(int8,int64,string[3],int16)");
    }

    #[test]
    fn histograms_have_a_bucket_for_every_number() {
        for bits in 0..=5u8 {
            let n = u64::MAX >> 1 | 1 << 63;
            let log2 = u64::from(n.ilog2());
            let level = log2 - u64::from(bits);
            let part = (n >> level) & ((1 << bits) - 1);
            let last = ((level + 1) << bits) + part + 1;
            assert_eq!(u64::from(hist_buckets(bits)), last + 1, "k = {bits}");
        }
        let shape = |max, step| Lhist { min: 0, max, step }.buckets();
        assert_eq!((shape(100, 10), shape(105, 10), shape(1, 1)), (12, 13, 3));
    }
}
