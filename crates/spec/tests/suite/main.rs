//! Objects read, changed, damaged and resolved. What compiled sources become is text in `tests/data` and `tests/resolve`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod edit;
mod elf;
mod hostile;
mod libbpf;
mod merge;
mod minimal;
mod resolve;
mod support;
mod write;
