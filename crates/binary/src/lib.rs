//! Programs and libraries that are probed: which file, which place in it, and what the probe's arguments are.
//!
//! A uprobe is set on an inode at a *file offset*. So a name must become a file ([`search`]), a symbol must become an
//! address of that file ([`elf`]), which may lie in an archive ([`archive`]), the address an offset (through the program headers,
//! since sections may be stripped), and a USDT probe must be found in the file's notes ([`usdt`]), its arguments translated for the
//! BPF side ([`usdt_args`]) and put where programs look for them ([`usdt_specs`]).
//!
//! Both engines set their probes where this crate says: the kernel gets the offset, the user-space engine looks for it in the
//! mappings of the processes that it traces.
//!
//! # Invariants
//!
//! Reads files only, and nothing of a file but its tables; a broken file is an error that names it, whatever its bytes are.

pub mod archive;
pub mod elf;
pub mod near;
pub mod search;
pub mod usdt;
pub mod usdt_args;
pub mod usdt_specs;
