//! The Linux kernel as an engine, and an object loaded into it.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use skep_engine::{
    AttachOptions, Engine, Error, ErrorKind, HeldCommand, Link, LoadOptions, Loaded, MapHandle, ProgramStream,
    RecordSource, Session, TestRun, TestRunOutput,
};
use skep_spec::map::{MapContents, Slot};
use skep_spec::nearest::did_you_mean;
use skep_spec::{AttachPoint, MapId, MapType, ProgId, Spec};
use skep_sys::Errno;
use skep_sys::bpf::{ProgFd, flags};

use crate::attach::{self, Attachment, UsdtIds};
use crate::load::Objects;
use crate::map::{KernelMap, failed};
use crate::prepared::PreparedObject;
use crate::records::Records;
use crate::target::LiveTarget;
use crate::{command, program};

/// The running Linux kernel.
#[derive(Clone, Debug)]
pub struct KernelEngine {
    target: LiveTarget,
}

impl KernelEngine {
    /// The kernel that this process runs on.
    pub fn new() -> KernelEngine {
        KernelEngine { target: LiveTarget::shared() }
    }

    /// With a target of the caller's, such as one with types from elsewhere.
    pub fn with_target(target: LiveTarget) -> KernelEngine {
        KernelEngine { target }
    }

    /// As [`Engine::load`], with the kernel's own session.
    pub fn load(&self, spec: Spec, options: &LoadOptions) -> Result<KernelSession, Error> {
        self.prepare(spec, options)?.load()
    }

    /// The first half of [`KernelEngine::load`]: resolves the object and makes its maps, and loads no program yet.
    ///
    /// # Errors
    ///
    /// As [`KernelEngine::load`].
    #[doc(alias = "bpf_object__prepare")]
    pub fn prepare(&self, spec: Spec, options: &LoadOptions) -> Result<PreparedObject, Error> {
        PreparedObject::new(spec, self.target.clone(), options)
    }
}

impl Default for KernelEngine {
    fn default() -> KernelEngine {
        KernelEngine::new()
    }
}

impl Engine for KernelEngine {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn load(&self, spec: Spec, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(KernelEngine::load(self, spec, options)?))
    }

    fn hold(&self, command: Command) -> Result<Box<dyn HeldCommand>, Error> {
        command::hold(command)
    }

    fn watch(&self, _: u32) -> Result<(), Error> {
        // The kernel shows the programs everybody.
        Ok(())
    }
}

/// An object in the kernel. Dropping it lets everything go that is neither attached nor pinned.
#[derive(Debug)]
pub struct KernelSession {
    spec: Spec,
    target: LiveTarget,
    objects: Objects,
    usdt_ids: UsdtIds,
    /// 0 means the usual size.
    perf_buffer_bytes: usize,
}

impl KernelSession {
    pub(crate) fn new(spec: Spec, target: LiveTarget, objects: Objects, perf_buffer_bytes: usize) -> KernelSession {
        KernelSession { spec, target, objects, usdt_ids: UsdtIds::default(), perf_buffer_bytes }
    }

    /// The kernel that it was loaded into.
    pub fn target(&self) -> &LiveTarget {
        &self.target
    }

    /// The descriptor of a loaded program.
    pub fn program_fd(&self, id: ProgId) -> Option<&ProgFd> {
        self.objects.programs.get(id.0 as usize)?.as_ref()
    }

    /// A map with all that the kernel can do with it.
    pub fn kernel_map(&self, id: MapId) -> Option<&KernelMap> {
        self.objects.maps.get(id.0 as usize)?.as_ref()
    }

    /// The object's types in the kernel.
    pub fn btf_fd(&self) -> Option<BorrowedFd<'_>> {
        self.objects.btf.as_ref().map(AsFd::as_fd)
    }

    /// The value that registers a struct_ops map, its programs filled in; `None` when one of them is missing.
    pub fn struct_ops_value(&self, id: MapId) -> Option<&[u8]> {
        self.objects.struct_ops.get(&id).map(Vec::as_slice)
    }

    /// What went wrong without keeping a program from loading: a map that nothing uses, a slot that stays empty.
    pub fn warnings(&self) -> &[Error] {
        &self.objects.warnings
    }

    /// Attaches a loaded program with all that the kernel lets one choose. The maps of `usdt.bpf.h` are found by their names.
    pub fn attach_with<'a>(&'a self, id: ProgId, mut options: attach::Options<'a>) -> Result<Attachment, Error> {
        let fd = self.program(id)?;
        let mut program = self.spec.program(id).clone();
        if let Some(attach_type) = self.objects.attach_types.get(&id) {
            program.attach_type = Some(*attach_type);
        }
        if options.usdt.is_none() && matches!(program.attach, AttachPoint::Usdt { .. }) {
            let named = |name| self.spec.map_named(name).and_then(|id| self.kernel_map(id)).map(KernelMap::fd);
            if let (Some(specs), Some(ip_to_spec_id)) = (named("__bpf_usdt_specs"), named("__bpf_usdt_ip_to_spec_id")) {
                options.usdt = Some(attach::UsdtMaps { specs, ip_to_spec_id, ids: &self.usdt_ids });
            }
        }
        attach::attach(&program, fd.as_fd(), &options)
    }

    /// Tells the kernel which struct_ops map a program means when it calls the kernel functions of that struct_ops (kernel
    /// 6.19): there may be several maps of one kind, and only the programs in a map belong to it by themselves.
    ///
    /// # Errors
    ///
    /// When the map is no struct_ops map, the program belongs to one or has been told another one already, and on older
    /// kernels.
    #[doc(alias = "bpf_program__assoc_struct_ops")]
    pub fn associate_struct_ops(&self, program: ProgId, map: MapId) -> Result<(), Error> {
        let (name, declared) = (&self.spec.program(program).name, self.spec.map(map));
        if declared.map_type != MapType::STRUCT_OPS {
            let message = format!("map `{}` is of type {}, not struct_ops", declared.name, declared.map_type);
            return Err(Error::new(message));
        }
        if self.spec.program(program).prog_type == skep_spec::ProgType::STRUCT_OPS {
            return Err(Error::new(format!("program `{name}` belongs to the struct_ops map that holds it")));
        }
        let (fd, made) = (self.program(program)?, self.made(map)?);
        fd.associate_struct_ops(made.as_fd()).map_err(|errno| {
            let what = format!("cannot associate program `{name}` with struct_ops map `{}`", declared.name);
            let error = failed(&what, errno);
            let old = skep_sys::version::KernelVersion::running() < skep_sys::version::KernelVersion::new(6, 19, 0);
            match errno {
                Errno::EINVAL if old => error
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint("it needs kernel 6.19; until then, one struct_ops map of a kind can be told apart"),
                Errno::EBUSY => error.with_hint("it is associated with another one already"),
                _ => error,
            }
        })
    }

    /// The engine's options as the kernel's own, with the map that a program is for looked up among the object's.
    fn chosen<'a>(&'a self, id: ProgId, options: &'a AttachOptions) -> Result<attach::Options<'a>, Error> {
        let map = match &options.map {
            Some(name) => Some(self.made(self.map_called(name)?)?),
            None if matches!(self.spec.program(id).attach, AttachPoint::SockMap) => self.only_socket_map(),
            None => None,
        };
        Ok(attach::Options { map: map.map(AsFd::as_fd), ..attach::Options::from_engine(options) })
    }

    fn map_called(&self, name: &str) -> Result<MapId, Error> {
        self.spec.map_named(name).ok_or_else(|| {
            let error = Error::new(format!("the object has no map `{name}`"));
            match did_you_mean(name, self.spec.maps.iter().map(|map| map.name.as_str())) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })
    }

    fn only_socket_map(&self) -> Option<&KernelMap> {
        let holds_sockets = |of: MapType| of == MapType::SOCKMAP || of == MapType::SOCKHASH;
        let mut all = self.spec.maps().filter(|(_, map)| holds_sockets(map.map_type)).map(|(id, _)| id);
        let first = all.next();
        first.filter(|_| all.next().is_none()).and_then(|id| self.kernel_map(id))
    }

    fn made(&self, id: MapId) -> Result<&KernelMap, Error> {
        self.kernel_map(id).ok_or_else(|| Error::new(format!("map `{}` was not created", self.spec.map(id).name)))
    }

    /// The loaded program `id`, or why there is none.
    fn program(&self, id: ProgId) -> Result<&ProgFd, Error> {
        if let Some(fd) = self.program_fd(id) {
            return Ok(fd);
        }
        let name = &self.spec.program(id).name;
        let reason = self.objects.loaded.iter().find(|it| it.program == id).and_then(|it| it.result.as_ref().err());
        Err(match reason {
            Some(reason) => Error::new(format!("program `{name}` is not loaded: {reason}")),
            None => Error::new(format!("program `{name}` is not loaded: it is switched off")),
        })
    }
}

impl Session for KernelSession {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn programs(&self) -> &[Loaded] {
        &self.objects.loaded
    }

    fn map(&self, id: MapId) -> Option<&dyn MapHandle> {
        self.kernel_map(id).map(|map| map as &dyn MapHandle)
    }

    fn attach(&self, id: ProgId, options: &AttachOptions) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(self.attach_with(id, self.chosen(id, options)?)?))
    }

    fn attach_map(&self, id: MapId) -> Result<Box<dyn Link>, Error> {
        let declared = self.spec.map(id);
        let MapContents::StructOps(contents) = &declared.contents else {
            return Err(Error::new(format!("map `{}` is no struct_ops map", declared.name)));
        };
        let map = self.made(id)?;
        let Some(value) = self.struct_ops_value(id) else {
            return Err(Error::new(format!("map `{}` lacks one of its programs, which did not load", declared.name)));
        };
        Ok(Box::new(attach::attach_struct_ops(map.fd(), &declared.name, value, contents.link)?))
    }

    fn program_fd(&self, id: ProgId) -> Option<BorrowedFd<'_>> {
        KernelSession::program_fd(self, id).map(AsFd::as_fd)
    }

    fn set_slot(&self, id: MapId, index: u32, slot: Slot) -> Result<(), Error> {
        let map = self.made(id)?;
        let fd = match slot {
            Slot::Map(inner) => self.made(inner)?.as_fd(),
            Slot::Program(program) => self.program(program)?.as_fd(),
            Slot::Extern(_) => {
                let name = &self.spec.map(id).name;
                return Err(Error::new(format!("slot {index} of map `{name}` cannot hold what is not linked in")));
            }
        };
        map.update(&index.to_ne_bytes(), &(fd.as_raw_fd() as u32).to_ne_bytes(), flags::ANY)
    }

    fn iterate(&self, id: ProgId, options: &AttachOptions) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(self.attach_with(id, self.chosen(id, options)?)?.iterate()?))
    }

    fn test_run(&self, id: ProgId, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
        program::test_run(self.program(id)?, self.spec.program(id).prog_type, &self.spec.program(id).name, input)
    }

    fn settle(&self) {
        // Where the kernel does not offer it, what is late stays late.
        skep_sys::rcu::wait_for_programs();
    }

    fn read_stream(&self, id: ProgId, stream: ProgramStream) -> Result<Vec<u8>, Error> {
        program::read_stream(self.program(id)?.as_fd(), &self.spec.program(id).name, stream)
    }

    fn records(&self, maps: &[MapId], printk: bool) -> Result<Box<dyn RecordSource>, Error> {
        let mut records = Records::new()?;
        if self.perf_buffer_bytes > 0 {
            records.set_perf_bytes(self.perf_buffer_bytes);
        }
        for &id in maps {
            records.add_map(id, self.made(id)?)?;
        }
        if printk {
            records.add_printk()?;
        }
        Ok(Box::new(records))
    }
}
