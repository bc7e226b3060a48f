//! Records and maps to what people look at: text rows and JSON lines.
//!
//! A view is made once for a type ([`Layout::of`]) and then formats bytes: it walks no BTF while events stream. What a
//! value means is taken from its type first (`__be16`, `enum`, `char[N]`, `bool`) and from its name second (`saddr` beside
//! `family`, `ret`, `delta_us`): the conventions that BPF programs follow anyway.
//!
//! | type or name | text | JSON |
//! |---|---|---|
//! | `char x[N]` | up to the first NUL | string |
//! | `char args[N]` beside `args_size` or `args_len` | NULs as spaces | string |
//! | `enum` | the constant's name | string, or the number without one |
//! | `__be32 x`, `u32 saddr`/`daddr`/`*_addr`/`*_ip` | dotted IPv4 | string |
//! | `u8 x[16]`, `u32 x[4]`, `u64 x[2]`, `__int128` with such a name | IPv6, or IPv4 when `family` or `af` is 2 | string |
//! | `__be16 x` | host order | number |
//! | `int ret`, `retval`, `err`, `error` below 0 | `-ENOENT` | number |
//! | `ts`, `ts_ns`, `timestamp`, `ktime`, `time_ns` | wall clock | number |
//! | `delta`/`latency`/`duration` in `_ns`, `_us`, `_ms` (`_ns` without a unit) | `1.204ms` | number |
//! | pointers | hex | number |
//! | integers called `*stack_id`, `*stackid`, `*stack` | the frames below the row | number, and `stacks` beside the members |
//! | a struct within | its members as columns | object |
//!
//! Maps become tables, one row for each entry (of those that a program wrote); an array called `slots` in a value is a log2 histogram, by the custom of BPF
//! programs, and is drawn as one.
//!
//! # Invariants
//!
//! - Pure: bytes in, bytes out. The wall clock comes in as a number.
//! - An event that is shorter than its type prints what is there.

mod cell;
mod clock;
mod histogram;
mod json;
mod layout;
mod map;
mod stack;
mod text;

pub mod script;

pub use cell::write_text;
pub use clock::Clock;
pub use json::{json_string, write_record as write_json};
pub use layout::Layout;
pub use map::{MapEntries, MapView};
pub use stack::Stacks;
pub use text::{write_header, write_row};
