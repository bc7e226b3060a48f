//! Types of user programs, from their debugging information.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::{Btf, TypeId};

use super::Structs;
use super::machine::Place;
use crate::ast;
use crate::dwarf::{At, Dwarf, Lines, Tag};
use crate::types::Type;

/// A function of a user program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserPrototype {
    /// Name, type and place of each parameter.
    pub(crate) params: Vec<(String, Type, At)>,
    /// What it returns.
    pub(crate) ret: Type,
    /// The types of the parameters as the source has them, and that of the result.
    pub(crate) spelled: (Vec<String>, String),
}

/// What a question about a user program was answered, so that it is asked once.
type Answer<T> = Result<Option<Rc<T>>, String>;

/// What was read of user programs.
#[derive(Default)]
pub(super) struct UserTypes {
    files: HashMap<PathBuf, Answer<Dwarf>>,
    functions: HashMap<(PathBuf, u64), Answer<UserPrototype>>,
    named: HashMap<(PathBuf, Tag, String), Option<Place>>,
    /// Whose types names may mean that the script and the machine do not know.
    binary: Option<PathBuf>,
}

impl Structs<'_> {
    /// Names that neither the script nor the machine knows are looked for in this program from now on.
    pub(crate) fn look_in(&self, binary: Option<&Path>) {
        let mut user = self.user.borrow_mut();
        if user.binary.as_deref() != binary {
            user.binary = binary.map(Path::to_owned);
        }
    }

    /// The function that begins at `address` (as linked); `None` when the file has no debugging information of it.
    pub(crate) fn user_function(&self, binary: &Path, address: u64) -> Result<Option<Rc<UserPrototype>>, String> {
        let key = (binary.to_owned(), address);
        if let Some(known) = self.user.borrow().functions.get(&key) {
            return known.clone();
        }
        let found = self.read_user_function(binary, address);
        self.user.borrow_mut().functions.insert(key, found.clone());
        found
    }

    fn read_user_function(&self, binary: &Path, address: u64) -> Result<Option<Rc<UserPrototype>>, String> {
        let Some(dwarf) = self.dwarf(binary)? else { return Ok(None) };
        let Some(function) = dwarf.function(address).map_err(|error| error.to_string())? else { return Ok(None) };
        let no = self.machine.add_user(&format!("{}:{address:#x}", binary.display()), function.btf);
        let spelled = function.params.iter().map(|param| param.spelled.clone()).collect();
        let spelled = (spelled, function.spelled_result);
        let params = function.params.into_iter().map(|param| (param.name, self.convert((no, param.ty)), param.at));
        let params = params.collect();
        Ok(Some(Rc::new(UserPrototype { params, ret: self.convert((no, function.result)), spelled })))
    }

    /// Whether a file has debugging information.
    pub(crate) fn has_debug_info(&self, binary: &Path) -> bool {
        self.dwarf(binary).is_ok_and(|dwarf| dwarf.is_some())
    }

    /// The places of a source line; `None` when the file has no debugging information.
    pub(crate) fn user_lines(
        &self,
        binary: &Path,
        file: &str,
        line: u64,
        column: Option<u64>,
    ) -> Result<Option<Lines>, String> {
        let Some(dwarf) = self.dwarf(binary)? else { return Ok(None) };
        dwarf.lines(file, line, column).map(Some).map_err(|error| error.to_string())
    }

    /// `struct name` and the like, of the program that [`Structs::look_in`] was told.
    pub(super) fn user_tagged(&self, tag: ast::Tag, name: &str) -> Option<Type> {
        self.user_named(
            match tag {
                ast::Tag::Struct => Tag::Struct,
                ast::Tag::Union => Tag::Union,
                ast::Tag::Enum => Tag::Enum,
            },
            name,
        )
    }

    /// The typedef `name`, of the program that [`Structs::look_in`] was told.
    pub(super) fn user_typedef(&self, name: &str) -> Option<Type> {
        self.user_named(Tag::Typedef, name)
    }

    fn user_named(&self, tag: Tag, name: &str) -> Option<Type> {
        let binary = self.user.borrow().binary.clone()?;
        let key = (binary.clone(), tag, name.to_owned());
        let known = self.user.borrow().named.get(&key).copied();
        let place = known.unwrap_or_else(|| {
            let found = self.read_user_type(&binary, tag, name);
            let place = found.map(|(btf, id)| {
                let no = self.machine.add_user(&format!("{}:{tag:?} {name}", binary.display()), btf);
                (no, id)
            });
            self.user.borrow_mut().named.insert(key, place);
            place
        });
        place.map(|place| self.convert(place))
    }

    fn read_user_type(&self, binary: &Path, tag: Tag, name: &str) -> Option<(Btf, TypeId)> {
        // A file that cannot be read is as one that does not know the name: what misses the type says so.
        self.dwarf(binary).ok()??.type_named(tag, name).ok()?
    }

    fn dwarf(&self, binary: &Path) -> Result<Option<Rc<Dwarf>>, String> {
        if let Some(known) = self.user.borrow().files.get(binary) {
            return known.clone();
        }
        let read = || {
            let info = self.machine.target().debug_info(binary).map_err(|error| error.to_string())?;
            let Some(info) = info else { return Ok(None) };
            Dwarf::open(&*info).map(|dwarf| dwarf.map(Rc::new)).map_err(|error| error.to_string())
        };
        let found = read();
        self.user.borrow_mut().files.insert(binary.to_owned(), found.clone());
        found
    }
}
