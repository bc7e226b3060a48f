//! Sections made by hand, as no compiler would make them.

use std::collections::HashMap;

use skep_spec::target::TargetError;

use super::Dwarf;
use crate::target::{Architecture, DebugInfo};

struct Sections(HashMap<&'static str, Vec<u8>>);

impl DebugInfo for Sections {
    fn architecture(&self) -> Architecture {
        Architecture::X86_64
    }

    fn big_endian(&self) -> bool {
        false
    }

    fn section(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        Ok(self.0.get(name).cloned().unwrap_or_default())
    }
}

/// The DWARF of these sections.
pub(super) fn dwarf(sections: &[(&'static str, Vec<u8>)]) -> Dwarf {
    Dwarf::open(&Sections(sections.iter().cloned().collect())).expect("it opens").expect("it has a unit")
}

/// Bytes behind their length, as units and tables of 32-bit DWARF are.
pub(super) fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// A unit of version 4 with these entries.
pub(super) fn unit(entries: &[u8]) -> Vec<u8> {
    // Version, offset of its abbreviations, size of an address.
    with_length(&[&[4, 0, 0, 0, 0, 0, 8], entries].concat())
}
