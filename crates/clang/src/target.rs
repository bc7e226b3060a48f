//! The machine that a program is compiled for.
//!
//! BPF code is the same on all of them; what differs is the byte order, the names of the registers in `struct pt_regs`, and
//! with them the headers below `asm/`.

use std::path::{Path, PathBuf};

/// Byte order and architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Whose registers `bpf/bpf_tracing.h` names.
    pub arch: Arch,
    /// Whether the object is big-endian.
    pub big_endian: bool,
}

/// An architecture that `bpf/bpf_tracing.h` knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Arch {
    X86,
    Arm64,
    Arm,
    Riscv,
    S390,
    Powerpc,
    Loongarch,
    Mips,
    Sparc,
    Arc,
}

/// Name in `-D__TARGET_ARCH_...`, Debian's names of the machine (most frequent first), zig's folder.
const NAMES: [(Arch, &str, &[&str], &str); 10] = [
    (Arch::X86, "x86", &["x86_64-linux-gnu", "i386-linux-gnu"], "x86"),
    (Arch::Arm64, "arm64", &["aarch64-linux-gnu"], "aarch64"),
    (Arch::Arm, "arm", &["arm-linux-gnueabihf", "arm-linux-gnueabi"], "arm"),
    (Arch::Riscv, "riscv", &["riscv64-linux-gnu"], "riscv"),
    (Arch::S390, "s390", &["s390x-linux-gnu"], "s390x"),
    (Arch::Powerpc, "powerpc", &["powerpc64le-linux-gnu", "powerpc64-linux-gnu"], "powerpc"),
    (Arch::Loongarch, "loongarch", &["loongarch64-linux-gnu"], "loongarch"),
    (Arch::Mips, "mips", &["mips64el-linux-gnuabi64"], "mips"),
    (Arch::Sparc, "sparc", &["sparc64-linux-gnu"], "sparc"),
    (Arch::Arc, "arc", &["arc-linux-gnu"], "arc"),
];

impl Arch {
    fn names(self) -> (&'static str, &'static [&'static str], &'static str) {
        let (_, define, triplets, zig) =
            NAMES.into_iter().find(|row| row.0 == self).expect("the table has every variant");
        (define, triplets, zig)
    }

    /// The word after `-D__TARGET_ARCH_`.
    pub fn define(self) -> &'static str {
        self.names().0
    }

    /// By the word after `-D__TARGET_ARCH_`, or by the kernel's or Debian's name of the machine (`x86_64`, `aarch64`, `amd64`).
    pub fn from_name(name: &str) -> Option<Arch> {
        if let Some(row) = NAMES.iter().find(|row| row.1 == name) {
            return Some(row.0);
        }
        Some(match name {
            "x86_64" | "amd64" | "i386" | "i686" => Arch::X86,
            "aarch64" => Arch::Arm64,
            "armv7l" | "armhf" | "armv6l" => Arch::Arm,
            "riscv64" => Arch::Riscv,
            "s390x" => Arch::S390,
            "powerpc64" | "ppc64" | "ppc64le" | "ppc64el" => Arch::Powerpc,
            "loongarch64" => Arch::Loongarch,
            "mips64" => Arch::Mips,
            "sparc64" => Arch::Sparc,
            _ => return None,
        })
    }
}

impl Target {
    /// The machine that skep runs on. One that `bpf/bpf_tracing.h` does not know counts as x86: only its registers are wrong.
    pub fn host() -> Target {
        let arch = Arch::from_name(std::env::consts::ARCH).unwrap_or(Arch::X86);
        Target { arch, big_endian: cfg!(target_endian = "big") }
    }

    /// Clang's name for BPF in this byte order.
    pub(crate) fn triple(self) -> &'static str {
        if self.big_endian { "bpfeb" } else { "bpfel" }
    }

    /// Where the machine's own `asm/` headers are: Debian's folder per architecture, its cross packages, zig's collection.
    pub(crate) fn system_folders(self, zig: Option<&Path>) -> Vec<PathBuf> {
        let (_, triplets, zig_name) = self.arch.names();
        let debian = triplets.iter().map(|triplet| PathBuf::from(format!("/usr/include/{triplet}")));
        let cross = triplets.iter().map(|triplet| PathBuf::from(format!("/usr/{triplet}/include")));
        let zig =
            zig.into_iter().flat_map(|zig| [zig.join(format!("{zig_name}-linux-any")), zig.join("any-linux-any")]);
        debian.chain(cross).chain(zig).filter(|folder| folder.is_dir()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_its_names() {
        for (arch, define, ..) in NAMES {
            assert_eq!(arch.define(), define);
            assert_eq!(Arch::from_name(define), Some(arch));
        }
        assert_eq!(Arch::from_name("x86_64"), Some(Arch::X86));
        assert_eq!(Arch::from_name("z80"), None);
    }
}
