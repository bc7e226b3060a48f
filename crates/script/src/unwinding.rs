//! What user space tells programs about the callers of a process's functions, for `dw_ustack`.
//!
//! Four maps ([`Unwinding`]). `unwind_files` knows each file by its inode number and its size in bytes (two u64), and says where its rows
//! are: number of the first page and how many there are (two u32). A page is an element of the array `unwind_pages`: [`PAGE_ROWS`] rows of
//! 8 bytes, sorted by the first number: a place in the file, and the number of the rule that holds from there on. What is left of a
//! page has the greatest place. A rule is an element of `unwind_rules`, 16 bytes: its [`kind`], then three numbers of 32 bits with a sign: from what
//! the kind says to the caller's stack pointer (the CFA), from there to the saved frame pointer, and to the return address.
//! Rule 0 is that nothing is known, and the frame pointer is followed.
//!
//! A file that programs meet and that is not known is put into `unwind_wanted`: under its key, the process and an address in the
//! mapping (two u64). So whoever is asked for can be looked at while it runs.

use skep_spec::MapId;

/// The maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwinding {
    /// Files.
    pub files: MapId,
    /// Rows.
    pub pages: MapId,
    /// Rules.
    pub rules: MapId,
    /// Files that are asked for.
    pub wanted: MapId,
}

/// Rows of a page: 4 kB.
pub const PAGE_ROWS: usize = 1 << PAGE_BITS;
pub(crate) const PAGE_BITS: u32 = 9;
/// Most pages of a file: what a search of so many steps finds.
pub const MAX_PAGES: u32 = 1 << SEARCH_STEPS;
pub(crate) const SEARCH_STEPS: u32 = 13;
/// Bytes of a rule.
pub const RULE_BYTES: u32 = 16;

/// Of a rule's distance: nothing is in memory, the register still has it.
pub const IN_REGISTER: i32 = i32::MIN;
/// Of the distance to the saved frame pointer: it is where the frame pointer points to.
pub const AT_ITSELF: i32 = i32::MAX;

/// Kinds of rules: where the caller's stack pointer is.
pub mod kind {
    /// Not known: as if the function kept a frame pointer.
    pub const UNKNOWN: u32 = 0;
    /// At the stack pointer and the distance.
    pub const STACK_POINTER: u32 = 1;
    /// At the frame pointer and the distance.
    pub const FRAME_POINTER: u32 = 2;
    /// In memory at the frame pointer and the distance.
    pub const AT_FRAME_POINTER: u32 = 3;
    /// At the stack pointer and the distance, and 8 bytes on in the last five bytes of each 16 of code.
    pub const LINKAGE: u32 = 4;
    /// In the frame of a signal, with the other registers.
    pub const SIGNAL: u32 = 5;
    /// Nowhere: there is no caller.
    pub const END: u32 = 6;
}
