//! An object half way into the kernel: resolved, its types and maps made, and none of its programs loaded.
//!
//! This is the place to fill maps before a program sees them, to pin or hand over a map, to look at what every relocation
//! became, and to load single programs again, changed ([`PreparedObject::load_clone`]). What may follow what is kept by the
//! types: an object is prepared out of a [`Spec`], which can no longer be edited then, and loading uses the preparation up.

use skep_engine::{Error, LoadOptions};
use skep_insn::RawInsn;
use skep_spec::resolved::ResolvedProgram;
use skep_spec::{AttachType, MapId, ProgId, Resolved, Spec};

use crate::load::{self, Prepared};
use crate::map::KernelMap;
use crate::program::KernelProgram;
use crate::session::KernelSession;
use crate::target::LiveTarget;

/// An object with its maps in the kernel, ready to be loaded. Dropping it lets go of everything that is not pinned.
#[derive(Debug)]
pub struct PreparedObject {
    spec: Spec,
    target: LiveTarget,
    options: LoadOptions,
    resolved: Resolved,
    prepared: Prepared,
}

/// Changes instructions.
pub type EditInsns<'a> = &'a dyn Fn(&mut Vec<RawInsn>);

/// What is different about a clone. The default is a second copy of the program.
#[derive(Clone, Copy, Default)]
pub struct CloneOptions<'a> {
    /// Its name, cut to 15 bytes; `None` keeps the program's.
    pub name: Option<&'a str>,
    /// Changes the instructions that go to the kernel. Relocations are done and descriptors of maps are in them. When the
    /// number of instructions is changed, the kernel is not told source lines and types of functions.
    pub edit: Option<EditInsns<'a>>,
    /// `expected_attach_type` in place of the program's.
    pub attach_type: Option<AttachType>,
    /// `prog_flags` in place of the program's ([`skep_sys::bpf::flags`]).
    pub flags: Option<u32>,
}

impl PreparedObject {
    pub(crate) fn new(spec: Spec, target: LiveTarget, options: &LoadOptions) -> Result<PreparedObject, Error> {
        let resolved = skep_spec::resolve::resolve(&spec, &target);
        let prepared = load::prepare(&spec, &resolved, &target, options)?;
        Ok(PreparedObject { spec, target, options: options.clone(), resolved, prepared })
    }

    /// The object, as it was prepared.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What the object became for this kernel: externs found, relocations done.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The map `id`; `None` when it was not created.
    pub fn kernel_map(&self, id: MapId) -> Option<&KernelMap> {
        self.prepared.objects.maps.get(id.0 as usize)?.as_ref()
    }

    /// What went wrong with maps and types without ending the preparation.
    pub fn warnings(&self) -> &[Error] {
        &self.prepared.objects.warnings
    }

    /// Leaves a program out of [`PreparedObject::load`], or takes it in again.
    ///
    /// # Errors
    ///
    /// To take in a program that was switched off when the object was prepared: it was not resolved.
    pub fn set_autoload(&mut self, id: ProgId, autoload: bool) -> Result<(), Error> {
        if autoload && !self.resolved.programs.iter().any(|(known, _)| *known == id) {
            return Err(self.not_resolved(id));
        }
        self.spec.programs[id.0 as usize].autoload = autoload;
        Ok(())
    }

    /// Loads one program under another name, or with changed instructions, beside those of [`PreparedObject::load`]: it
    /// shares the object's maps, and does not count among its programs. A program that is to exist as clones alone is left
    /// out of the load by [`PreparedObject::set_autoload`].
    ///
    /// # Errors
    ///
    /// With the verifier's reason; also when the program was switched off while the object was prepared, or could not be
    /// resolved.
    #[doc(alias = "bpf_program__clone")]
    pub fn load_clone(&self, id: ProgId, options: &CloneOptions<'_>) -> Result<KernelProgram, Error> {
        let resolved = self.resolved_program(id)?;
        let fd = self.prepared.load_clone(&self.spec, (id, resolved), &self.target, &self.options, options)?;
        KernelProgram::known(fd)
    }

    /// Loads the programs.
    ///
    /// # Errors
    ///
    /// As [`KernelEngine::load`](crate::KernelEngine::load).
    pub fn load(mut self) -> Result<KernelSession, Error> {
        self.resolved.programs.retain(|(id, _)| self.spec.program(*id).autoload);
        let objects = self.prepared.load(&self.spec, self.resolved, &self.target, &self.options)?;
        Ok(KernelSession::new(self.spec, self.target, objects, self.options.perf_buffer_bytes))
    }

    fn resolved_program(&self, id: ProgId) -> Result<&ResolvedProgram, Error> {
        match self.resolved.programs.iter().find(|(known, _)| *known == id) {
            Some((_, Ok(resolved))) => Ok(resolved),
            Some((_, Err(reason))) => Err(load::unresolved(reason.clone())),
            None => Err(self.not_resolved(id)),
        }
    }

    fn not_resolved(&self, id: ProgId) -> Error {
        let name = &self.spec.program(id).name;
        Error::new(format!("program `{name}` was switched off when the object was prepared"))
            .with_hint("switch it on in the Spec (`autoload`), and prepare the object then")
    }
}

impl std::fmt::Debug for CloneOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloneOptions")
            .field("name", &self.name)
            .field("edit", &self.edit.is_some())
            .field("attach_type", &self.attach_type)
            .field("flags", &self.flags)
            .finish()
    }
}
