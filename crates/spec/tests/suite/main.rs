//! Objects read, changed and damaged. What compiled sources become is text in `tests/data`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod edit;
mod elf;
mod hostile;
mod libbpf;
mod support;
