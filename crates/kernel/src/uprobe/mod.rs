//! User-space probes: the crate [`skep_binary`] knows files and places in them, this one what debugging information says about them.

pub(crate) use skep_binary::archive;
pub use skep_binary::{elf, search, usdt, usdt_args};

pub(crate) mod debug;
