//! Changing a Spec before it is loaded.
//!
//! A [`Spec`] is plain data, so most changes are assignments: a map's type, entries, flags, pinning or inner map, a
//! program's type, attach point or [`autoload`](crate::Program::autoload). What is here keeps several places in step.
//!
//! # Example: globals by name
//!
//! ```no_run
//! # fn main() -> Result<(), skep_spec::Error> {
//! # let bytes = [];
//! let mut spec = skep_spec::Spec::parse(&bytes, "execsnoop.bpf.o")?;
//! spec.set_variable_text("min_duration_ns", "1000000")?;
//! spec.set_variable("target_pid", &42u32.to_ne_bytes())?;
//! spec.only(&["handle_exec"])?;
//! # Ok(()) }
//! ```

use skep_btf::{Type, TypeId};

use crate::function::RefTarget;
use crate::map::{DataKind, MapContents, Variable};
use crate::nearest::did_you_mean;
use crate::{Error, Map, MapId, MapType, ProgId, Spec};

mod attach;
mod text;

impl Spec {
    /// The globals of all data sections, with the map that holds each.
    pub fn variables(&self) -> impl Iterator<Item = (MapId, &Variable)> {
        self.maps().flat_map(|(id, map)| {
            map.data_section().into_iter().flat_map(move |data| data.variables.iter().map(move |it| (id, it)))
        })
    }

    /// The constants that a user may set from outside: global `const volatile` variables.
    pub fn settings(&self) -> impl Iterator<Item = (MapId, &Variable)> {
        self.variables().filter(|(id, variable)| {
            let rodata = self.map(*id).data_section().is_some_and(|data| data.kind == DataKind::Rodata);
            rodata && variable.global && variable.type_id.is_none_or(|type_id| self.is_volatile(type_id))
        })
    }

    /// The global called `name`.
    ///
    /// # Errors
    ///
    /// When there is none, or several static ones.
    pub fn variable(&self, name: &str) -> Result<(MapId, &Variable), Error> {
        let mut found: Vec<(MapId, &Variable)> =
            self.variables().filter(|(_, variable)| variable.name == name).collect();
        if found.len() > 1 {
            found.retain(|(_, variable)| variable.global);
        }
        match found[..] {
            [one] => Ok(one),
            [] if self.variables().any(|(_, variable)| variable.name == name) => {
                Err(Error::new("several static variables have this name").about(name))
            }
            [] => {
                let err = Error::new("the object has no global variable of this name").about(name);
                let near = did_you_mean(name, self.variables().map(|(_, variable)| &*variable.name));
                Err(err.hint(near.unwrap_or_else(|| self.what_can_be_set())))
            }
            _ => Err(Error::new("several variables have this name").about(name)),
        }
    }

    fn what_can_be_set(&self) -> String {
        let names: Vec<String> = self.settings().map(|(_, variable)| format!("`{}`", variable.name)).collect();
        match names.len() {
            0 => "it has nothing that is meant to be set: a global `const volatile` variable".to_owned(),
            _ => format!("what it has to be set: {}", names.join(", ")),
        }
    }

    /// The value that a global starts with.
    ///
    /// # Errors
    ///
    /// As [`Spec::variable`], and when the variable lies outside of its section.
    pub fn variable_value(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (id, variable) = self.variable(name)?;
        let map = self.map(id);
        let (start, end) = place(map, variable)?;
        let bytes: &[u8] = match &map.contents {
            MapContents::Data(bytes) => bytes,
            _ => &[],
        };
        let mut value = bytes.get(start.min(bytes.len())..end.min(bytes.len())).unwrap_or_default().to_vec();
        value.resize(end - start, 0);
        Ok(value)
    }

    /// Sets a global, in the byte order of the object.
    ///
    /// # Errors
    ///
    /// As [`Spec::variable`], and when `value` has not the variable's size.
    pub fn set_variable(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        let (id, variable) = self.variable(name)?;
        if value.len() != variable.size_bytes as usize {
            let message = format!("the variable has {} bytes, the value {}", variable.size_bytes, value.len());
            return Err(Error::new(message).about(name));
        }
        let (start, end) = place(self.map(id), variable)?;
        let map = &mut self.maps[id.0 as usize];
        if !matches!(map.contents, MapContents::Data(_)) {
            if value.iter().all(|&byte| byte == 0) {
                return Ok(());
            }
            map.contents = MapContents::Data(Vec::new());
        }
        if let MapContents::Data(bytes) = &mut map.contents {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(value);
        }
        Ok(())
    }

    /// Sets a global from text as a person types it, by its type: numbers (`12`, `-1`, `0xff`, `'a'`), `true` and
    /// `false`, names of enumeration values, text for arrays of characters, numbers parted by commas for other arrays.
    ///
    /// # Errors
    ///
    /// As [`Spec::variable`]; when the type takes no text or the value does not fit; and when the variable is a plain
    /// `const` that no instruction reads, since the compiler has put its value into the code.
    pub fn set_variable_text(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let (id, variable) = self.variable(name)?;
        let (Some(btf), Some(type_id)) = (&self.btf, variable.type_id) else {
            return Err(Error::new("the object does not say the type of this variable")
                .about(name)
                .hint("compile with `-g`"));
        };
        let rodata = self.map(id).data_section().is_some_and(|data| data.kind == DataKind::Rodata);
        if rodata && !self.is_volatile(type_id) && !self.is_referenced(id, variable) {
            return Err(Error::new("the compiler has put the value of this `const` into the code")
                .about(name)
                .hint(format!("make it `const volatile` to set it with --{name}")));
        }
        let bytes = text::to_bytes(btf, type_id, variable.size_bytes, value)
            .map_err(|message| Error::new(message).about(name))?;
        self.set_variable(name, &bytes)
    }

    /// Whether some instruction loads an address inside the variable.
    fn is_referenced(&self, id: MapId, variable: &Variable) -> bool {
        let range = variable.off_bytes..variable.off_bytes.saturating_add(variable.size_bytes.max(1));
        self.functions.iter().flat_map(|function| &function.references).any(
            |reference| matches!(reference.target, RefTarget::MapValue { map, off_bytes } if map == id && range.contains(&off_bytes)),
        )
    }

    fn is_volatile(&self, type_id: TypeId) -> bool {
        let Some(btf) = &self.btf else { return false };
        let mut at = type_id;
        for _ in 0..64 {
            at = match btf.type_by_id(at) {
                Ok(Type::Volatile(_)) => return true,
                Ok(Type::Const(next) | Type::Restrict(next) | Type::Typedef(next) | Type::TypeTag(next)) => {
                    next.type_id()
                }
                // An array is volatile when its elements are.
                Ok(Type::Array(array)) => array.element(),
                _ => return false,
            };
        }
        false
    }

    /// Gives a data section `size_bytes`: its last variable, which must be an array, takes what there is more or less.
    ///
    /// # Errors
    ///
    /// When the map is no data section, or its last variable is no array or would lose its last element.
    pub fn resize_data(&mut self, id: MapId, size_bytes: u32) -> Result<(), Error> {
        let btf = self.btf.clone();
        let map = &mut self.maps[id.0 as usize];
        let name = map.name.clone();
        let Some(variable) = map.data_section_mut().and_then(|data| data.variables.last_mut()) else {
            return Err(Error::new("only data sections with variables can be resized").about(&name));
        };
        let element = match (&btf, variable.type_id) {
            (Some(btf), Some(type_id)) => match btf.resolve(type_id) {
                Ok((_, Type::Array(array))) => btf.size_of(array.element()).ok(),
                _ => None,
            },
            _ => None,
        };
        let Some(element) = element.filter(|&size| size > 0) else {
            return Err(Error::new("the last variable of the section is no array, so the section cannot be resized")
                .in_section(&name)
                .about(&variable.name));
        };
        let room = u64::from(size_bytes.saturating_sub(variable.off_bytes));
        if room == 0 || room % element != 0 {
            return Err(Error::new(format!(
                "{size_bytes} bytes leave {room} for the last variable, whose elements have {element}"
            ))
            .in_section(&name)
            .about(&variable.name));
        }
        variable.size_bytes = room as u32;
        map.value_size = size_bytes;
        if let MapContents::Data(bytes) = &mut map.contents {
            bytes.truncate(size_bytes as usize);
        }
        Ok(())
    }

    /// The program called `name`.
    ///
    /// # Errors
    ///
    /// When there is none; the hint has the nearest names.
    pub fn find_program(&self, name: &str) -> Result<ProgId, Error> {
        self.program_named(name).ok_or_else(|| {
            let err = Error::new("the object has no program of this name").about(name);
            match did_you_mean(name, self.programs.iter().map(|program| &*program.name)) {
                Some(hint) => err.hint(hint),
                None => err,
            }
        })
    }

    /// The map called `name`.
    ///
    /// # Errors
    ///
    /// When there is none; the hint has the nearest names.
    pub fn find_map(&self, name: &str) -> Result<MapId, Error> {
        self.map_named(name).ok_or_else(|| {
            let err = Error::new("the object has no map of this name").about(name);
            match did_you_mean(name, self.maps.iter().map(|map| &*map.name)) {
                Some(hint) => err.hint(hint),
                None => err,
            }
        })
    }

    /// Makes a map that one program alone may use: the kernel knows it by the hash of its instructions, and refuses every
    /// other program that names the map (kernel 6.18).
    ///
    /// # Errors
    ///
    /// When the object has no map or no program of these names; the hint has the nearest.
    #[doc(alias = "bpf_map__set_exclusive_program")]
    pub fn make_exclusive(&mut self, map: &str, program: &str) -> Result<(), Error> {
        let id = self.find_map(map)?;
        self.find_program(program)?;
        self.maps[id.0 as usize].exclusive_to = Some(program.to_owned());
        Ok(())
    }

    /// Switches every program off but those named.
    ///
    /// # Errors
    ///
    /// When a name is unknown; nothing is changed then.
    pub fn only(&mut self, names: &[&str]) -> Result<(), Error> {
        let wanted = names.iter().map(|name| self.find_program(name)).collect::<Result<Vec<_>, _>>()?;
        for (index, program) in self.programs.iter_mut().enumerate() {
            program.autoload = wanted.contains(&ProgId(index as u32));
        }
        Ok(())
    }

    /// Renames a program, its function included. Calls and slots go by index and are not affected.
    pub fn rename_program(&mut self, id: ProgId, name: &str) {
        let entry = self.program(id).entry;
        self.programs[id.0 as usize].name = name.to_owned();
        self.functions[entry.0 as usize].name = name.to_owned();
    }
}

impl Map {
    /// Sets the key's size. A key type of another size no longer describes it and is dropped.
    pub fn set_key_size(&mut self, size_bytes: u32) {
        if self.key_size != size_bytes {
            (self.key_size, self.key_type) = (size_bytes, None);
        }
    }

    /// Sets the value's size. A value type of another size no longer describes it and is dropped, except for ring and
    /// perf buffers, where it is the type of an event. Data sections are resized with [`Spec::resize_data`].
    pub fn set_value_size(&mut self, size_bytes: u32) {
        if self.value_size != size_bytes {
            self.value_size = size_bytes;
            if !matches!(self.map_type, MapType::RINGBUF | MapType::USER_RINGBUF | MapType::PERF_EVENT_ARRAY) {
                self.value_type = None;
            }
        }
    }
}

/// Where a variable lies in its section's bytes.
fn place(map: &Map, variable: &Variable) -> Result<(usize, usize), Error> {
    let (start, size) = (variable.off_bytes as usize, variable.size_bytes as usize);
    // The section's own size bounds what a damaged description may ask for; that size came from the file.
    let limit = if map.map_type == MapType::ARENA { usize::MAX } else { map.value_size as usize };
    match start.checked_add(size) {
        Some(end) if end <= limit => Ok((start, end)),
        _ => Err(Error::new(format!("{size} bytes at offset {start} lie outside of the section of {limit} bytes"))
            .in_section(&map.name)
            .about(&variable.name)),
    }
}
