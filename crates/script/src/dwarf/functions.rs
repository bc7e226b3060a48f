//! Functions: their units, their parameters, what they return.

use std::rc::Rc;

use gimli::AttributeValue;
use skep_btf::{Btf, TypeId};

use super::convention::{Absent, At, Convention};
use super::types::Types;
use super::{Die, Dwarf, Error, Unit, View, number};
use crate::target::Architecture;

/// How many parameters are read.
const MAX_PARAMS: usize = 255;

/// A function as its debugging information tells it.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name in the source, without namespaces.
    pub name: String,
    /// Its parameters, `this` included; not what `...` stands for.
    pub params: Vec<Param>,
    /// Type of what it returns; `void` for nothing.
    pub result: TypeId,
    /// The same in the words of its source.
    pub spelled_result: String,
    /// The types.
    pub btf: Btf,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its type, in the function's types. For a class that is passed by the address of a copy, the class.
    pub ty: TypeId,
    /// The same in the words of its source: typedefs and `const` are still there.
    pub spelled: String,
    /// Where it is when the function is entered.
    pub at: At,
}

impl Dwarf {
    /// The function that begins at `address` (as linked); `None` when no unit tells of one.
    ///
    /// # Errors
    ///
    /// When the DWARF is broken.
    pub fn function(&self, address: u64) -> Result<Option<Function>, Error> {
        self.with(|view| {
            let Some(die) = view.function_at(address)? else { return Ok(None) };
            self.describe(view, &die).map(Some)
        })
    }

    fn describe<'a>(&self, view: &View<'a>, die: &Die<'a>) -> Result<Function, Error> {
        let name = view.inherited(die, |die| view.text(die, gimli::DW_AT_name))?.unwrap_or("");
        // What was declared, not what the optimizer left of it.
        let declared = view.referred(die, gimli::DW_AT_abstract_origin)?.unwrap_or_else(|| die.clone());
        let mut parameters = Vec::new();
        view.children(&declared, |child| {
            if child.entry.tag() == gimli::DW_TAG_formal_parameter {
                parameters.push(child);
            }
            Ok(parameters.len() < MAX_PARAMS)
        })?;
        let mut types = Types::new(view);
        let result = types.id_of_type(die);
        let mut typed = Vec::new();
        for parameter in &parameters {
            let name = view.inherited(parameter, |die| view.text(die, gimli::DW_AT_name))?.unwrap_or("");
            typed.push((name.to_owned(), types.id_of_type(parameter), view.spelled_type(parameter)));
        }
        types.make()?;
        let by_reference: Vec<bool> = typed.iter().map(|(_, ty, _)| types.is_by_reference(*ty)).collect();
        let result_by_reference = types.is_by_reference(result);
        let btf = types.finish()?;

        let mut convention = Convention::new(self.architecture(), &btf, result, result_by_reference);
        let mut promised = self.architecture() != Architecture::Other
            && follows_convention(view, die)
            && (!is_rust(&die.unit) || !is_aggregate(&btf, result));
        let mut params = Vec::new();
        for ((name, ty, spelled), by_reference) in typed.into_iter().zip(by_reference) {
            // Rust promises nothing about its own convention; numbers and pointers are passed as C passes them.
            promised &= !is_rust(&die.unit) || !is_aggregate(&btf, ty);
            let at = if promised { convention.next(ty, by_reference) } else { At::Absent(Absent::Unspecified) };
            params.push(Param { name, ty, spelled, at });
        }
        let spelled_result = view.spelled_type(die);
        Ok(Function { name: name.to_owned(), params, result, spelled_result, btf })
    }
}

impl<'a> View<'a> {
    fn function_at(&self, address: u64) -> Result<Option<Die<'a>>, Error> {
        if let Some(unit) = self.unit_by_aranges(address)
            && let Some(die) = self.function_in(&unit, address)?
        {
            return Ok(Some(die));
        }
        let mut units = self.dwarf.units();
        while let Some(header) = units.next()? {
            self.count()?;
            // A unit that cannot be read does not hide the others.
            let Ok(unit) = self.unit(header) else { continue };
            if self.covers(&unit, address)
                && let Some(die) = self.function_in(&unit, address)?
            {
                return Ok(Some(die));
            }
        }
        Ok(None)
    }

    fn unit_by_aranges(&self, address: u64) -> Option<Rc<Unit<'a>>> {
        let mut headers = self.dwarf.debug_aranges.headers();
        while let Some(header) = headers.next().ok()? {
            let mut entries = header.entries();
            while let Some(entry) = entries.next().ok()? {
                self.count().ok()?;
                if address.checked_sub(entry.address()).is_some_and(|inside| inside < entry.length()) {
                    return self.unit(self.dwarf.unit_header(header.debug_info_offset()).ok()?).ok();
                }
            }
        }
        None
    }

    /// Whether a unit says that it has code at an address. One that does not say may have.
    pub(super) fn covers(&self, unit: &Rc<Unit<'a>>, address: u64) -> bool {
        let root = unit.entry(unit.root_offset()).map_err(Error::from);
        let Ok(mut ranges) = root.and_then(|root| self.ranges(unit, &root)) else { return true };
        let mut any = false;
        for _ in 0..1 << 20 {
            match ranges.next() {
                Ok(Some(range)) if range.begin <= address && address < range.end => return true,
                Ok(Some(_)) => any = true,
                Ok(None) => return !any,
                Err(_) => return true,
            }
        }
        true
    }

    fn function_in(&self, unit: &Rc<Unit<'a>>, address: u64) -> Result<Option<Die<'a>>, Error> {
        let mut cursor = unit.entries();
        while let Some(entry) = cursor.next_dfs()? {
            self.count()?;
            if entry.tag() != gimli::DW_TAG_subprogram {
                continue;
            }
            let begins = match entry.attr_value(gimli::DW_AT_low_pc) {
                Some(value) => self.dwarf.attr_address(unit, value)? == Some(address),
                // In several pieces: the entry is the first, unless it says so.
                None if entry.has_attr(gimli::DW_AT_ranges) => {
                    self.ranges(unit, entry)?.next()?.is_some_and(|range| range.begin == address)
                }
                None => false,
            };
            if begins {
                return Ok(Some(Die { unit: unit.clone(), entry: entry.clone() }));
            }
        }
        Ok(None)
    }
}

/// Whether arguments are where the platform's convention has them.
fn follows_convention<'a>(view: &View<'a>, die: &Die<'a>) -> bool {
    if matches!(language(&die.unit), Some(gimli::DW_LANG_Go | gimli::DW_LANG_Swift | gimli::DW_LANG_OCaml)) {
        return false;
    }
    let convention = view.inherited(die, |die| die.entry.attr_value(gimli::DW_AT_calling_convention));
    // 1 is the usual one; what compilers changed is marked as not to be called by others.
    matches!(convention, Ok(None | Some(AttributeValue::CallingConvention(gimli::DwCc(1)))))
}

fn language(unit: &Unit<'_>) -> Option<gimli::DwLang> {
    let root = unit.entry(unit.root_offset()).ok()?;
    match root.attr_value(gimli::DW_AT_language) {
        Some(AttributeValue::Language(language)) => Some(language),
        _ => number(&root, gimli::DW_AT_language).and_then(|it| u16::try_from(it).ok()).map(gimli::DwLang),
    }
}

fn is_rust(unit: &Unit<'_>) -> bool {
    language(unit) == Some(gimli::DW_LANG_Rust)
}

fn is_aggregate(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.resolve(ty), Ok((_, skep_btf::Type::Struct(_) | skep_btf::Type::Union(_) | skep_btf::Type::Array(_))))
}
