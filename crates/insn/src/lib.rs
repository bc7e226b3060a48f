//! The eBPF instruction set: types, encoding, assembler and disassembler text.
