//! An object before it is loaded.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use skep_btf::Btf;
use skep_engine::{Engine, LoadOptions};
use skep_kernel::{KernelEngine, LiveTarget};
use skep_spec::merge::{Input, merge};
use skep_spec::section::SectionTable;
use skep_spec::{MAX_OBJECT_BYTES, Spec, elf, map, program};
use skep_sys::file;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Loaded, Map};

/// An opened object: plain data that can be changed until it is loaded. A clone is changed and loaded on its own.
#[derive(Clone, Debug)]
pub struct Object {
    spec: Spec,
    /// Maps that exist, in place of those of these names.
    existing_maps: BTreeMap<String, Arc<OwnedFd>>,
}

impl Object {
    /// Opens a compiled object (`.bpf.o`).
    ///
    /// # Errors
    ///
    /// When the file cannot be read, has more than 256 MB or is not a BPF object; the message names the section.
    pub fn open(path: impl AsRef<Path>) -> Result<Object, Error> {
        let path = path.as_ref();
        let bytes = file::read_parts(path, MAX_OBJECT_BYTES, elf::read_needed)
            .map_err(|cause| Error::new(format!("cannot read `{}`: {cause}", path.display())).with_source(cause))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        Object::from_bytes(file.split('.').next().unwrap_or_default(), &bytes)
    }

    /// Opens an object in memory, such as one from `include_bytes!`. `name` becomes part of the names of its data maps.
    ///
    /// # Errors
    ///
    /// When the bytes are not a BPF object.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Object, Error> {
        let spec = Spec::parse(bytes, name)
            .map_err(|cause| Error::from(cause).about(format_args!("cannot open object `{name}`")))?;
        Ok(Object::from_spec(spec))
    }

    /// As [`Object::from_bytes`], with meanings of one's own for `SEC("...")`, which go before the built-in ones: the hook for sections that
    /// an application invents.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// use skep::spec::ProgType;
    /// use skep::spec::section::{Place, SectionDef, SectionTable};
    ///
    /// // `SEC("my_filter")` and `SEC("my_filter/anything")` are socket filters, which this application attaches itself.
    /// let mut sections = SectionTable::new();
    /// sections.define(SectionDef {
    ///     pattern: "my_filter+".into(),
    ///     prog_type: ProgType::SOCKET_FILTER,
    ///     attach_type: None,
    ///     attach_type_required: false,
    ///     flags: 0,
    ///     place: Place::None,
    /// });
    /// let object = skep::Object::from_bytes_with("mine", &std::fs::read("mine.bpf.o").unwrap(), sections)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Object::from_bytes`].
    pub fn from_bytes_with(name: &str, bytes: &[u8], sections: SectionTable) -> Result<Object, Error> {
        let spec = Spec::parse_with(bytes, name, &elf::Options { sections })
            .map_err(|cause| Error::from(cause).about(format_args!("cannot open object `{name}`")))?;
        Ok(Object::from_spec(spec))
    }

    /// Links several objects to one called `name`, each with what messages call it: externs find their definitions, data sections of one
    /// name become one.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// use skep::Object;
    /// let (main, library) = (Object::open("main.bpf.o")?, Object::open("library.bpf.o")?);
    /// let both = Object::link("both", &[("main.bpf.o", &main), ("library.bpf.o", &library)])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When they do not fit together: the first reason, which names the symbol and both files.
    pub fn link(name: &str, objects: &[(&str, &Object)]) -> Result<Object, Error> {
        let inputs: Vec<Input<'_>> = objects.iter().map(|(file, object)| Input { file, spec: &object.spec }).collect();
        match merge(name, &inputs) {
            Ok(spec) => {
                let existing = objects.iter().flat_map(|(_, object)| object.existing_maps.clone());
                Ok(Object { spec, existing_maps: existing.collect() })
            }
            Err(problems) => {
                Err(problems.into_iter().next().map_or_else(|| Error::new("nothing to link"), Error::from))
            }
        }
    }

    /// Compiles a C file with the clang of this machine and opens the result. Headers are brought along, and an object that
    /// was compiled before comes from the user's cache folder.
    ///
    /// # Errors
    ///
    /// When there is no clang, or the file does not compile; the message holds clang's text.
    #[cfg(feature = "source")]
    pub fn from_source(path: impl AsRef<Path>) -> Result<Object, Error> {
        let options = skep_run::options::Options { file: path.as_ref().to_owned(), ..Default::default() };
        let prepared = skep_run::prepare(&options, &skep_kernel::LiveTarget::shared(), &mut |_| {})?;
        Ok(Object::from_spec(prepared.spec))
    }

    /// An object that something else made.
    pub fn from_spec(spec: Spec) -> Object {
        Object { spec, existing_maps: BTreeMap::new() }
    }

    /// Everything in it.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Everything in it, to change.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Sets a global variable. Globals in `.rodata` (`const volatile`) are constants for the verifier.
    ///
    /// # Errors
    ///
    /// When there is no such variable, or its size is not that of `value`.
    pub fn set_global<T: IntoBytes + Immutable + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        Ok(self.spec.set_variable(name, value.as_bytes())?)
    }

    /// The value that a global variable will begin with.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// let mut object = skep::Object::open("execsnoop.bpf.o")?;
    /// let limit: u32 = object.global("max_args")?;
    /// object.set_global("max_args", &(limit * 2))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such variable, or its size is not that of `T`.
    pub fn global<T: FromBytes>(&self, name: &str) -> Result<T, Error> {
        let (id, variable) = self.spec.variable(name)?;
        let (off, size) = (variable.off_bytes as usize, variable.size_bytes as usize);
        let mut value = self.spec.map(id).initial_value().unwrap_or_default();
        // What the object gives no value for is zero (`.bss`).
        value.resize(value.len().max(off + size), 0);
        T::read_from_bytes(&value[off..off + size])
            .map_err(|_| Error::new(format!("variable `{name}` has {size} bytes, not {}", size_of::<T>())))
    }

    /// The map `name`, to resize or change before it is created.
    ///
    /// # Errors
    ///
    /// When there is no such map; the message lists those that there are.
    pub fn map_mut(&mut self, name: &str) -> Result<&mut map::Map, Error> {
        let id = self.spec.find_map(name)?;
        Ok(&mut self.spec.maps[id.0 as usize])
    }

    /// The program `name`, to switch off or attach elsewhere.
    ///
    /// # Errors
    ///
    /// When there is no such program; the message lists those that there are.
    pub fn program_mut(&mut self, name: &str) -> Result<&mut program::Program, Error> {
        let id = self.spec.find_program(name)?;
        Ok(&mut self.spec.programs[id.0 as usize])
    }

    /// Uses a map that exists in place of the object's map `name`: one of another object, a pinned one, one by its id. It must be
    /// of the same type, sizes and flags, keeps what it holds, and lives on when this object is gone.
    ///
    /// ```no_run
    /// use skep::{Map, Object};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// // Two objects count into one map.
    /// let first = Object::open("first.bpf.o")?.load()?;
    /// let mut second = Object::open("second.bpf.o")?;
    /// second.replace_map("counts", &first.map("counts")?)?;
    /// // And both read one that an administrator fills.
    /// second.replace_map("allowed", &Map::from_pinned("/sys/fs/bpf/allowed")?)?;
    /// let second = second.load()?;
    /// # drop(second);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the object has no such map, or `by` is not in the kernel. Whether it fits is looked at when the object is loaded, since
    /// both may still be changed.
    pub fn replace_map(&mut self, name: &str, by: &Map<'_>) -> Result<(), Error> {
        self.spec.find_map(name)?;
        let fd = by.fd()?.try_clone_to_owned().map_err(|cause| {
            Error::new(format!("cannot use map `{}` as `{name}`: {cause}", by.name())).with_source(cause)
        })?;
        self.existing_maps.insert(name.to_owned(), Arc::new(fd));
        Ok(())
    }

    /// Loads it into the running kernel. Needs `CAP_BPF`, and `CAP_PERFMON` or `CAP_NET_ADMIN` for most program types.
    ///
    /// # Errors
    ///
    /// When a map cannot be created or a program does not load: the first refusal, with its C line. To keep the programs
    /// that do load, use [`Object::load_with`].
    pub fn load(self) -> Result<Loaded, Error> {
        let loaded = self.load_with(&KernelEngine::new(), &LoadOptions::default())?;
        match loaded.session().programs().iter().find_map(|program| program.result.as_ref().err()) {
            Some(error) => Err(error.clone()),
            None => Ok(loaded),
        }
    }

    /// Loads it into the running kernel, with CO-RE answered from the types (BTF) in a file: for kernels that were built without their own.
    /// `skep build --min-btf` makes small ones.
    ///
    /// # Errors
    ///
    /// As [`Object::load`], and when the file cannot be read or holds no types.
    pub fn load_with_types(self, btf: impl AsRef<Path>) -> Result<Loaded, Error> {
        let path = btf.as_ref();
        let shown = path.display();
        let bytes = std::fs::read(path)
            .map_err(|cause| Error::new(format!("cannot read `{shown}`: {cause}")).with_source(cause))?;
        let types =
            Btf::parse(bytes).map_err(|cause| Error::new(format!("`{shown}` holds no types (BTF): {cause}")))?;
        let engine = KernelEngine::with_target(LiveTarget::with_btf(types));
        let loaded = self.load_with(&engine, &LoadOptions::default())?;
        match loaded.session().programs().iter().find_map(|program| program.result.as_ref().err()) {
            Some(error) => Err(error.clone()),
            None => Ok(loaded),
        }
    }

    /// Loads it into an engine. A program that does not load keeps its reason, which [`Loaded::program`] gives.
    ///
    /// # Errors
    ///
    /// When nothing at all can be set up.
    pub fn load_with(self, engine: &dyn Engine, options: &LoadOptions) -> Result<Loaded, Error> {
        if self.existing_maps.is_empty() {
            return engine.load(self.spec, options).map(Loaded::new);
        }
        let mut options = options.clone();
        options.existing_maps.extend(self.existing_maps);
        engine.load(self.spec, &options).map(Loaded::new)
    }
}
