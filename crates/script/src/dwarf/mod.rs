//! Debugging information (DWARF 2 to 5) of user programs: what the arguments of a function are, types by name, and the
//! addresses of source lines.
//!
//! Types become BTF, made of what can be reached from the type that was asked for, so that everything else of the language sees
//! one kind of types. Only the unit of a function is read, found by `.debug_aranges` or by the ranges of the units; a type that
//! is asked for by name alone is looked for in the units one after the other.
//!
//! # Bounds
//!
//! The bytes are anybody's. No walk follows references without a bound, what does not make sense is left out, and a question that
//! cannot be answered gives an error or `None`, never a panic.
//!
//! # Limits
//!
//! Split DWARF (`.dwo`) and supplementary files of `dwz` are not followed: what is in them is missing. Arguments are taken where
//! the calling convention has them when the function is entered; location lists are not read, because those of optimised code
//! hold for later instructions.

mod convention;
#[cfg(test)]
mod forged;
mod functions;
mod lines;
mod types;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gimli::{AttributeValue, DwarfSections, EndianSlice, RunTimeEndian, SectionId, UnitSectionOffset};
use skep_spec::target::TargetError;

pub use self::convention::{Absent, At, REGISTERS};
pub use self::functions::{Function, Param};
pub use self::lines::{Lines, Location};
pub use self::types::Tag;
use crate::target::{Architecture, DebugInfo};

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;

/// How many references (typedefs, abstract origins) lead from one entry to what is meant.
const MAX_HOPS: u32 = 64;

/// What is read for one question, in entries: a bound for files that are made to take forever. The largest unit of a
/// browser has some ten million.
const MAX_ENTRIES: u64 = 1 << 28;

/// Sections that no question here needs.
const UNUSED: [SectionId; 5] = [
    SectionId::DebugMacinfo,
    SectionId::DebugMacro,
    SectionId::DebugNames,
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
];

/// The debugging information of one file.
pub struct Dwarf {
    sections: DwarfSections<Vec<u8>>,
    endian: RunTimeEndian,
    architecture: Architecture,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<gimli::Error> for Error {
    fn from(error: gimli::Error) -> Error {
        Error(format!("its DWARF is broken: {error}"))
    }
}

impl Dwarf {
    /// Reads the sections of a file; `None` when it has no DWARF.
    ///
    /// # Errors
    ///
    /// When a section cannot be read.
    pub fn open(file: &dyn DebugInfo) -> Result<Option<Dwarf>, TargetError> {
        let sections =
            DwarfSections::load(|id| if UNUSED.contains(&id) { Ok(Vec::new()) } else { file.section(id.name()) })?;
        let endian = if file.big_endian() { RunTimeEndian::Big } else { RunTimeEndian::Little };
        let dwarf = Dwarf { sections, endian, architecture: file.architecture() };
        let empty = dwarf.with(|view| Ok(view.dwarf.units().next()?.is_none())).unwrap_or(true);
        Ok((!empty).then_some(dwarf))
    }

    /// What the code runs on.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn with<T>(&self, ask: impl FnOnce(&View<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let dwarf = self.sections.borrow(|bytes| EndianSlice::new(bytes, self.endian));
        ask(&View { dwarf, units: RefCell::default(), signatures: RefCell::default(), left: MAX_ENTRIES.into() })
    }
}

/// One question's view of the sections, with the units that it has met.
struct View<'a> {
    dwarf: gimli::Dwarf<Slice<'a>>,
    /// By where they begin.
    units: RefCell<HashMap<UnitKey, Rc<Unit<'a>>>>,
    /// Type units by their signatures, once one was asked for.
    signatures: RefCell<Option<HashMap<u64, (UnitKey, gimli::UnitOffset)>>>,
    /// Entries that may still be read.
    left: std::cell::Cell<u64>,
}

/// Where a unit begins, and whether that is in `.debug_types`.
type UnitKey = (bool, usize);

fn key_of(header: &gimli::UnitHeader<Slice<'_>>) -> UnitKey {
    (header.debug_types_offset().is_some(), header.offset().0)
}

/// An entry with its unit.
#[derive(Clone)]
struct Die<'a> {
    unit: Rc<Unit<'a>>,
    entry: Entry<'a>,
}

impl<'a> View<'a> {
    fn unit(&self, header: gimli::UnitHeader<Slice<'a>>) -> Result<Rc<Unit<'a>>, Error> {
        let at = key_of(&header);
        if let Some(known) = self.units.borrow().get(&at) {
            return Ok(known.clone());
        }
        let unit = Rc::new(self.dwarf.unit(header)?);
        self.units.borrow_mut().insert(at, unit.clone());
        Ok(unit)
    }

    /// One entry was read; an error when there were too many.
    fn count(&self) -> Result<(), Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| Error("its DWARF has too many entries".to_owned()))?);
        Ok(())
    }

    fn die(&self, unit: &Rc<Unit<'a>>, at: gimli::UnitOffset) -> Result<Die<'a>, Error> {
        self.count()?;
        Ok(Die { unit: unit.clone(), entry: unit.entry(at)? })
    }

    /// The entry that an attribute refers to; `None` when it has no such attribute or its kind is not followed.
    fn referred(&self, die: &Die<'a>, attribute: gimli::DwAt) -> Result<Option<Die<'a>>, Error> {
        match die.entry.attr_value(attribute) {
            Some(AttributeValue::UnitRef(at)) => self.die(&die.unit, at).map(Some),
            Some(AttributeValue::DebugInfoRef(at)) => {
                let Some(unit) = self.unit_of(at)? else { return Ok(None) };
                match UnitSectionOffset(at.0).to_unit_offset(&unit.header) {
                    Some(at) => self.die(&unit, at).map(Some),
                    None => Ok(None),
                }
            }
            Some(AttributeValue::DebugTypesRef(signature)) => {
                let Some((unit, at)) = self.type_unit(signature.0)? else { return Ok(None) };
                let unit = self.units.borrow().get(&unit).cloned();
                unit.map(|unit| self.die(&unit, at)).transpose()
            }
            _ => Ok(None),
        }
    }

    /// The unit around an offset in `.debug_info`.
    fn unit_of(&self, at: gimli::DebugInfoOffset) -> Result<Option<Rc<Unit<'a>>>, Error> {
        let inside = |unit: &&Rc<Unit<'a>>| {
            unit.debug_info_offset().is_some()
                && UnitSectionOffset(at.0).to_unit_offset(&unit.header).is_some_and(|at| at.is_in_bounds(&unit.header))
        };
        if let Some(known) = self.units.borrow().values().find(inside) {
            return Ok(Some(known.clone()));
        }
        let mut units = self.dwarf.units();
        while let Some(header) = units.next()? {
            self.count()?;
            let Some(start) = header.debug_info_offset() else { continue };
            if at.0 >= start.0 && at.0 - start.0 < header.length_including_self() {
                return self.unit(header).map(Some);
            }
        }
        Ok(None)
    }

    fn type_unit(&self, signature: u64) -> Result<Option<(UnitKey, gimli::UnitOffset)>, Error> {
        if self.signatures.borrow().is_none() {
            let mut found = HashMap::new();
            let mut note = |header: gimli::UnitHeader<Slice<'a>>| -> Result<(), Error> {
                self.count()?;
                if let gimli::UnitType::Type { type_signature, type_offset } = header.type_() {
                    let unit = self.unit(header)?;
                    found.insert(type_signature.0, (key_of(&unit.header), type_offset));
                }
                Ok(())
            };
            let mut units = self.dwarf.units();
            while let Some(header) = units.next()? {
                note(header)?;
            }
            let mut units = self.dwarf.type_units();
            while let Some(header) = units.next()? {
                note(header)?;
            }
            *self.signatures.borrow_mut() = Some(found);
        }
        Ok(self.signatures.borrow().as_ref().and_then(|all| all.get(&signature)).copied())
    }

    /// The addresses that an entry covers.
    fn ranges(&self, unit: &Unit<'a>, entry: &Entry<'a>) -> Result<gimli::RangeIter<Slice<'a>>, Error> {
        // Start and length are added without a look at their sum.
        if let Some(AttributeValue::Udata(len_bytes)) = entry.attr_value(gimli::DW_AT_high_pc)
            && let Some(start) = entry.attr_value(gimli::DW_AT_low_pc)
            && let Some(start) = self.dwarf.attr_address(unit, start)?
            && start.checked_add(len_bytes).is_none()
        {
            return Err(Error("its DWARF is broken: code goes on behind the last address".to_owned()));
        }
        Ok(self.dwarf.die_ranges(unit, entry)?)
    }

    /// The value of an attribute that is text.
    fn text(&self, die: &Die<'a>, attribute: gimli::DwAt) -> Option<&'a str> {
        let value = die.entry.attr_value(attribute)?;
        let bytes = self.dwarf.attr_string(&die.unit, value).ok()?;
        std::str::from_utf8(bytes.slice()).ok()
    }

    /// An attribute of an entry, or of the one whose instance or definition it is.
    fn inherited<T>(&self, die: &Die<'a>, of: impl Fn(&Die<'a>) -> Option<T>) -> Result<Option<T>, Error> {
        let mut die = die.clone();
        for _ in 0..MAX_HOPS {
            if let Some(found) = of(&die) {
                return Ok(Some(found));
            }
            let next = match self.referred(&die, gimli::DW_AT_abstract_origin)? {
                Some(next) => Some(next),
                None => self.referred(&die, gimli::DW_AT_specification)?,
            };
            match next {
                Some(next) => die = next,
                None => break,
            }
        }
        Ok(None)
    }

    /// The entry that `DW_AT_type` of this one, or of the one whose instance it is, refers to. `None` is `void`.
    fn type_of(&self, die: &Die<'a>) -> Result<Option<Die<'a>>, Error> {
        let typed = self.inherited(die, |die| die.entry.has_attr(gimli::DW_AT_type).then(|| die.clone()))?;
        typed.map_or(Ok(None), |typed| self.referred(&typed, gimli::DW_AT_type))
    }

    /// The children of an entry.
    fn children(&self, die: &Die<'a>, mut visit: impl FnMut(Die<'a>) -> Result<bool, Error>) -> Result<(), Error> {
        if !die.entry.has_children() {
            return Ok(());
        }
        let mut cursor = die.unit.entries_at_offset(die.entry.offset())?;
        cursor.next_dfs()?;
        let parent = cursor.depth();
        // `next_sibling` stays on one level; the first step goes down.
        let mut entry = cursor.next_dfs()?.cloned();
        while let Some(child) = entry {
            self.count()?;
            if child.depth() <= parent {
                break;
            }
            if !visit(Die { unit: die.unit.clone(), entry: child })? {
                break;
            }
            entry = cursor.next_sibling()?.cloned();
        }
        Ok(())
    }
}

/// A number that an attribute gives.
fn number(entry: &Entry<'_>, attribute: gimli::DwAt) -> Option<u64> {
    entry.attr_value(attribute)?.udata_value()
}

fn is_set(entry: &Entry<'_>, attribute: gimli::DwAt) -> bool {
    matches!(entry.attr_value(attribute), Some(AttributeValue::Flag(true)))
}
