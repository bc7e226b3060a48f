//! Programs and libraries that are probed: which file, which place in it, and what the probe's arguments are.
//!
//! A uprobe is set on an inode at a *file offset*. So a name must become a file ([`search`]), a symbol must become an
//! address of that file ([`elf`]), which may lie in an archive ([`archive`]), the address an offset (through the program headers,
//! since sections may be stripped), and a USDT probe must be found in the file's notes ([`usdt`]), its arguments translated for the
//! BPF side ([`usdt_args`]) and put where programs look for them ([`usdt_specs`]).
//!
//! Stacks need what a file says about the callers of its functions ([`unwind`]), in a form that programs can walk by
//! ([`unwind_rows`]), and which libraries a program is going to have ([`libraries`]).
//!
//! Where a file's code makes system calls, and whether a jump can be put there, is told by [`calls`].
//!
//! Both engines set their probes where this crate says: the kernel gets the offset, the user-space engine looks for it in the
//! mappings of the processes that it traces.
//!
//! # Invariants
//!
//! Reads files only, and of a file its tables and the code around a place ([`decode`] knows where instructions end, [`flow`] where they
//! go); a broken file is an error that names it, whatever its bytes are.

pub mod archive;
pub mod calls;
pub mod decode;
pub mod elf;
pub mod flow;
pub mod libraries;
pub mod near;
pub mod search;
pub mod unwind;
pub mod unwind_rows;
pub mod usdt;
pub mod usdt_args;
pub mod usdt_specs;

/// `function+0x10` as the function and the sum of both offsets; a name from a section has had its own taken off.
pub fn with_offset(function: &str, off_bytes: u64) -> (&str, u64) {
    let split = function.rsplit_once('+').and_then(|(name, offset)| {
        let offset = match offset.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => offset.parse(),
        };
        Some((name, off_bytes.checked_add(offset.ok()?)?))
    });
    split.unwrap_or((function, off_bytes))
}
