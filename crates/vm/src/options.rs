//! How a program is compiled: how it gets at memory, and whether its time is metered.
//!
//! # Safety
//!
//! Code without checks goes wherever a program's registers point. Who asks for it vouches for the program.
#![expect(unsafe_code, reason = "some programs may be compiled without checks, which the caller vouches for")]

/// How compiled code gets at memory; see the [crate's documentation](crate#memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Checked,
    Masked,
    Plain,
}

/// How a program is compiled.
///
/// The default is what does the same as the interpreter to the byte: every access is checked, and jumps back and calls cost fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    pub(crate) reach: Reach,
    pub(crate) metered: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions { reach: Reach::Checked, metered: true }
    }
}

impl CompileOptions {
    /// Every access of memory is led into the programs' 4 GiB, and only a page without memory stops it. A program that is right does the
    /// same as ever, somewhat faster. One that goes wrong cannot get out of the memory of its own object's programs, but it may read and
    /// spoil what lies there: what is near a block in the same page, what programs may only read, what a window hides.
    ///
    /// What it has to do with the process: the first such program that is compiled takes over `SIGSEGV`, and hands on whatever
    /// is not its own to who had it before.
    #[must_use]
    pub fn masked() -> CompileOptions {
        CompileOptions { reach: Reach::Masked, ..CompileOptions::default() }
    }

    /// Nothing is checked: for programs that were proven right.
    ///
    /// # Safety
    ///
    /// Each address that the program accesses, whatever its input, lies in a block of its machine and is the whole address, not the short
    /// form that the 32-bit fields of contexts have; it does not write where programs may only read.
    #[must_use]
    pub unsafe fn plain() -> CompileOptions {
        CompileOptions { reach: Reach::Plain, ..CompileOptions::default() }
    }

    /// Jumps back cost nothing: for programs that are known to end. Calls still do.
    #[must_use]
    pub fn unmetered(self) -> CompileOptions {
        CompileOptions { metered: false, ..self }
    }
}
