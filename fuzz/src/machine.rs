//! What the machine says about itself and its programs: formats of tracepoints, notes and arguments of USDT probes, archives, the
//! dynamic linker's cache.

use skep_kernel::uprobe::usdt_args::{Args, MAX_ARGS, Machine};

/// `format` files of tracefs.
pub(crate) fn formats(file: &[u8]) -> Vec<Vec<u8>> {
    if file.starts_with(b"name: ") { vec![file.to_vec()] } else { Vec::new() }
}

/// Programs with USDT probes.
pub(crate) fn programs(file: &[u8]) -> Vec<Vec<u8>> {
    if crate::sections(file, |name| name == ".note.stapsdt").is_empty() { Vec::new() } else { vec![file.to_vec()] }
}

/// The code of programs for the machine that skep runs on.
pub(crate) fn code(file: &[u8]) -> Vec<Vec<u8>> {
    if programs(file).is_empty() && unwound(file).is_empty() { Vec::new() } else { crate::code_sections(file) }
}

/// Programs with tables of their callers.
pub(crate) fn unwound(file: &[u8]) -> Vec<Vec<u8>> {
    if crate::sections(file, |name| name == ".eh_frame_hdr").is_empty() { Vec::new() } else { vec![file.to_vec()] }
}

/// Zip archives.
pub(crate) fn archives(file: &[u8]) -> Vec<Vec<u8>> {
    if file.starts_with(b"PK\x03\x04") { vec![file.to_vec()] } else { Vec::new() }
}

/// The linker's caches.
pub(crate) fn caches(file: &[u8]) -> Vec<Vec<u8>> {
    if file.starts_with(b"glibc-ld.so.cache") { vec![file.to_vec()] } else { Vec::new() }
}

/// Arguments as notes spell them: what is in the notes of programs, and what other machines write.
pub(crate) fn arguments(file: &[u8]) -> Vec<Vec<u8>> {
    if programs(file).is_empty() {
        return Vec::new();
    }
    [
        "-4@%eax 8@-24(%rbp) 8@$5 8@8(%rax,%rbx,8)",
        "-4@[sp, 60] 8@x1 4@[x1, x2, lsl 3]",
        "-8@-88(s0) 4@a5 8@7",
        "4@160(%r15)",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Any text as arguments, for every machine.
pub(crate) fn usdt_args(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for machine in [Machine::X86_64, Machine::Aarch64, Machine::Riscv64, Machine::S390x] {
        let args = Args::parse(machine, text);
        assert!(args.args.len() <= MAX_ARGS);
        for arg in &args.args {
            assert!(matches!(arg.size_bytes, 1 | 2 | 4 | 8), "{arg:?}");
            use skep_kernel::uprobe::usdt_args::Location::{Indexed, Memory, Register};
            let registers = match arg.location {
                Register(register) | Memory { base: register, .. } => vec![register],
                Indexed { base, index, shift, .. } => {
                    assert!(shift < 4, "{arg:?}");
                    vec![base, index]
                }
                _ => Vec::new(),
            };
            // `struct pt_regs` of any of them has less than 400 bytes.
            assert!(registers.iter().all(|register| (0..400).contains(register)), "{arg:?}");
        }
        let _ = args.encode(1);
    }
}
