//! User-space probes: which file, which place in it, and what the probe's arguments are.
//!
//! A uprobe is set on an inode at a *file offset*. So a name must become a file ([`search`]), a symbol must become an
//! address of that file ([`elf`]), which may lie in an archive, the address an offset (through the program headers, since sections may be stripped),
//! and a USDT probe must be found in the file's notes ([`usdt`]) and its arguments translated for the BPF side
//! ([`usdt_args`]).

pub(crate) mod archive;
pub(crate) mod debug;
pub mod elf;
pub mod search;
pub mod usdt;
pub mod usdt_args;
