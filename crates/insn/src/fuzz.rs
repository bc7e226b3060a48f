//! The bodies of the fuzz targets, here so that `cargo test` can run them too. Not part of the API.
//!
//! Each takes bytes from anywhere and panics if a promise of the crate does not hold.

use crate::text::{Llvm, Printer, Spelling, assemble};
use crate::{Endian, Insn, InsnIdx, RawInsn, slots_from_bytes, slots_to_bytes};

/// Every spelling there is.
pub const SPELLINGS: [Spelling; 5] = {
    const fn llvm(alu32: bool, decimal: bool) -> Spelling {
        Spelling::Llvm(Llvm { alu32, decimal })
    }
    [Spelling::Kernel, llvm(false, false), llvm(false, true), llvm(true, false), llvm(true, true)]
};

/// Bytes as code: what decodes encodes to the same bits, everything has a text, and the exact text of what decodes
/// assembles to the same bits.
pub fn code(data: &[u8]) {
    for endian in [Endian::Little, Endian::Big] {
        let whole = &data[..data.len() / 8 * 8];
        let code = slots_from_bytes(whole, endian).expect("the length is a multiple of 8");
        assert_eq!(slots_to_bytes(&code, endian), whole);
        for spelling in SPELLINGS {
            assert!(Printer::new(spelling).lines(&code).all(|(_, line)| !line.is_empty()));
        }
        for (at, insn) in Insn::decode_all(&code).flatten() {
            let slots = insn.encode();
            let start = at.0 as usize;
            assert_eq!(*slots, code[start..start + slots.len()]);
            for spelling in SPELLINGS {
                let text = Printer::new(spelling).exact().insn(&code, at);
                let back = assemble(&text).map(|assembly| assembly.code);
                assert_eq!(back.as_deref(), Ok(&*slots), "{spelling:?}: {text}");
            }
        }
    }
}

/// Bytes as text: the assembler gives instructions or mistakes that lie in the text, and what it gives prints and
/// assembles again.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<_> = text.lines().collect();
    match assemble(&text) {
        Ok(assembly) => {
            // A line gives one instruction at most, so no text can ask for much memory.
            assert!(assembly.code.len() <= 2 * lines.len());
            assert!(assembly.labels.iter().all(|(_, at)| at.0 as usize <= assembly.code.len()));
            assert!(Insn::decode_all(&assembly.code).all(|insn| insn.is_ok()), "assembled something invalid");
            for spelling in SPELLINGS {
                let listing = Printer::new(spelling).exact().listing(&assembly.code);
                let back = assemble(&listing).map(|assembly| assembly.code);
                assert_eq!(back.as_ref(), Ok(&assembly.code), "{spelling:?}: {listing}");
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= lines.len());
            for error in errors {
                let line = lines[error.line - 1];
                assert!((1..=line.chars().count() + 1).contains(&error.column), "{error}: {line:?}");
                assert!(error.message.len() < 400, "{error}");
            }
        }
    }
}

/// A slot as a kernel might show it, alone and cut off from its second half.
pub fn slot(insn: RawInsn) {
    for spelling in SPELLINGS {
        assert!(!Printer::new(spelling).insn(&[insn], InsnIdx(0)).is_empty());
    }
}
