//! The whole object.

use skep_btf::Btf;
use skep_insn::Endian;

use crate::{Diagnostic, Extern, ExternId, FuncId, Function, Map, MapId, ProgId, Program};

/// A BPF object as plain data: nothing in it depends on the machine it will run on.
///
/// Indexes ([`FuncId`], [`ProgId`], [`MapId`], [`ExternId`]) are positions in the vectors below, so entries may be
/// edited in place or appended but not removed; switch a program off with [`Program::autoload`], a map with
/// [`Map::autocreate`].
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the object: the file's stem up to the first dot, as libbpf takes it for the names of data maps.
    pub name: String,
    /// Byte order of instructions, data and BTF.
    pub endian: Endian,
    /// Text of the `license` section; `None` when the object has none.
    pub license: Option<String>,
    /// Word in the `version` section, which kernels before 5.0 wanted for kprobes.
    pub kernel_version: Option<u32>,
    /// Every function, in the order of sections and offsets.
    pub functions: Vec<Function>,
    /// Functions that the kernel can enter from outside, in the order of their sections.
    pub programs: Vec<Program>,
    /// Maps, the data sections among them.
    pub maps: Vec<Map>,
    /// What the object wants from the machine by name.
    pub externs: Vec<Extern>,
    /// The object's types; `None` when it was compiled without `-g`.
    pub btf: Option<Btf>,
    /// What was odd but did not keep the object from opening.
    pub warnings: Vec<Diagnostic>,
}

impl Spec {
    /// An object without anything, in this machine's byte order.
    pub fn new(name: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            endian: Endian::NATIVE,
            license: None,
            kernel_version: None,
            functions: Vec::new(),
            programs: Vec::new(),
            maps: Vec::new(),
            externs: Vec::new(),
            btf: None,
            warnings: Vec::new(),
        }
    }

    /// The function `id`.
    pub fn function(&self, id: FuncId) -> &Function {
        &self.functions[id.0 as usize]
    }

    /// The program `id`.
    pub fn program(&self, id: ProgId) -> &Program {
        &self.programs[id.0 as usize]
    }

    /// The map `id`.
    pub fn map(&self, id: MapId) -> &Map {
        &self.maps[id.0 as usize]
    }

    /// The extern `id`.
    pub fn external(&self, id: ExternId) -> &Extern {
        &self.externs[id.0 as usize]
    }

    /// The programs with their ids.
    pub fn programs(&self) -> impl Iterator<Item = (ProgId, &Program)> {
        (0u32..).map(ProgId).zip(&self.programs)
    }

    /// The maps with their ids.
    pub fn maps(&self) -> impl Iterator<Item = (MapId, &Map)> {
        (0u32..).map(MapId).zip(&self.maps)
    }

    /// The program called `name`; `None` when there is none.
    pub fn program_named(&self, name: &str) -> Option<ProgId> {
        self.programs().find(|(_, p)| p.name == name).map(|(id, _)| id)
    }

    /// The map called `name`, as its variable or section is called; `None` when there is none.
    pub fn map_named(&self, name: &str) -> Option<MapId> {
        self.maps().find(|(_, m)| m.name == name).map(|(id, _)| id)
    }
}
