//! Attaching on the running kernel: every place, whether the program runs there, and that nothing stays behind.
//!
//! The program of nearly all tests counts how often it runs, in a map, beside the last cookie that it saw.

mod cgroups;
mod functions;
mod network;
mod trace;
mod usdt;
mod user;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use skep_btf::{Btf, Kind};
use skep_engine::{Error, Link};
use skep_insn::build::{add, atomic, branch, call, exit, load_map_fd, mov, slots, store};
use skep_insn::{AtomicOp, Cond, Endian, Insn, RawInsn, Reg, Size, Width, helpers};
use skep_spec::{AttachPoint, AttachType, FuncId, MapType, ProgType, Program};
use skep_sys::Errno;
use skep_sys::bpf::{LinkFd, LinkId, Log, LogLevel, MapCreate, MapFd, ProgFd, ProgLoad};

use super::{Attachment, Options, attach};

/// Says why a test does nothing here. CI allows it only for what the machine truly lacks, so callers must have looked.
pub(super) fn skip(capability: &str) {
    eprintln!("skipped: needs {capability}");
}

/// Whether this process may do everything; if not, the test is skipped, or fails where that is not allowed.
pub(super) fn root() -> bool {
    let caps = skep_sys::caps::Caps::effective();
    let all = [skep_sys::caps::Cap::SYS_ADMIN, skep_sys::caps::Cap::NET_ADMIN].iter().all(|cap| caps.has(*cap));
    if !all {
        skip("root");
    }
    all
}

/// A counting program, loaded.
pub(super) struct Counter {
    pub(super) program: Program,
    pub(super) fd: ProgFd,
    map: MapFd,
}

/// How to load a [`Counter`].
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) section: &'static str,
    pub(super) prog_type: ProgType,
    pub(super) attach_type: Option<AttachType>,
    pub(super) point: AttachPoint,
    pub(super) ret: i32,
    pub(super) reads_cookie: bool,
    pub(super) attach_btf_id: u32,
}

impl Recipe {
    pub(super) fn new(section: &'static str, prog_type: ProgType, point: AttachPoint) -> Recipe {
        Recipe { section, prog_type, attach_type: None, point, ret: 0, reads_cookie: false, attach_btf_id: 0 }
    }

    pub(super) fn attach_type(mut self, attach_type: AttachType) -> Recipe {
        self.attach_type = Some(attach_type);
        self
    }

    /// What the program returns.
    pub(super) fn returning(mut self, ret: i32) -> Recipe {
        self.ret = ret;
        self
    }

    pub(super) fn reading_cookie(mut self) -> Recipe {
        self.reads_cookie = true;
        self
    }

    /// Verified against a type of the kernel's BTF.
    pub(super) fn against(mut self, name: &str, kind: Kind) -> Recipe {
        // Read and not mapped: kernels before 6.15 refuse that.
        let btf = Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux").unwrap()).unwrap();
        self.attach_btf_id = btf.find(name, kind).unwrap_or_else(|| panic!("no {name} in the kernel's BTF")).0;
        self
    }

    pub(super) fn try_load(&self) -> Result<Counter, Errno> {
        let map = MapCreate {
            map_type: MapType::ARRAY.0,
            key_size: 4,
            value_size: 16,
            max_entries: 1,
            name: "counts",
            ..MapCreate::default()
        }
        .create()?;
        self.load_with(map)
    }

    fn load_with(&self, map: MapFd) -> Result<Counter, Errno> {
        let fd = load(self, &count(&map, self.ret, self.reads_cookie))?;
        Ok(Counter { program: self.program(), fd, map })
    }

    /// Loads; a refusal ends the test with the verifier's words.
    pub(super) fn load(&self) -> Counter {
        self.try_load().unwrap_or_else(|errno| panic!("cannot load {}: {errno}", self.section))
    }

    pub(super) fn program(&self) -> Program {
        Program {
            attach_type: self.attach_type,
            attach: self.point.clone(),
            ..Program::new("counter", FuncId(0), self.section, self.prog_type)
        }
    }
}

/// Loads instructions as a recipe says.
pub(super) fn load(recipe: &Recipe, insns: &[RawInsn]) -> Result<ProgFd, Errno> {
    let bytes: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes(Endian::NATIVE)).collect();
    let mut log = vec![0; 1 << 16];
    let (result, _) = ProgLoad {
        prog_type: recipe.prog_type.0,
        insns: &bytes,
        license: c"GPL",
        name: "counter",
        expected_attach_type: recipe.attach_type.map_or(0, |attach_type| attach_type.0),
        attach_btf_id: recipe.attach_btf_id,
        log: Some(Log { level: LogLevel::BRIEF, buf: &mut log }),
        ..ProgLoad::default()
    }
    .load();
    if result.is_err() {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        eprintln!("{}", String::from_utf8_lossy(&log[..end]));
    }
    result
}

/// Adds one to the first word of the map's element, writes the cookie into the second, and returns `ret`.
fn count(map: &MapFd, ret: i32, reads_cookie: bool) -> Vec<RawInsn> {
    use std::os::fd::AsRawFd;
    let mut body: Vec<Insn> =
        vec![mov(Reg::R7, Reg::R0), mov(Reg::R1, 1), atomic(AtomicOp::Add, Width::W64, Reg::R7, 0, Reg::R1)];
    if reads_cookie {
        body.extend([mov(Reg::R1, Reg::R6), call(helpers::GET_ATTACH_COOKIE), store(Size::Dw, Reg::R7, 8, Reg::R0)]);
    }
    let skip = i16::try_from(slots(&body).len()).unwrap();
    let mut insns = vec![
        mov(Reg::R6, Reg::R1),
        store(Size::W, Reg::FP, -4, 0),
        load_map_fd(Reg::R1, map.as_fd().as_raw_fd()),
        mov(Reg::R2, Reg::FP),
        add(Reg::R2, -4),
        call(helpers::MAP_LOOKUP_ELEM),
        branch(Cond::Eq, Reg::R0, 0, skip),
    ];
    insns.extend(body);
    insns.extend([mov(Reg::R0, ret), exit()]);
    slots(&insns)
}

impl Counter {
    pub(super) fn attach(&self, options: &Options<'_>) -> Result<Attachment, Error> {
        attach(&self.program, self.fd.as_fd(), options)
    }

    /// Attaches; a refusal ends the test with all that is known about it.
    pub(super) fn attached(&self, options: &Options<'_>) -> Attachment {
        self.attach(options).unwrap_or_else(|error| panic!("{}", words(&error)))
    }

    /// Attaches and expects a refusal.
    pub(super) fn refused(&self, options: &Options<'_>) -> Error {
        match self.attach(options) {
            Ok(attachment) => panic!("attached at {}", attachment.describe()),
            Err(error) => error,
        }
    }

    fn words(&self) -> (u64, u64) {
        let mut value = [0; 16];
        self.map.lookup(&[0; 4], &mut value, 0).unwrap();
        let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap());
        (word(0), word(8))
    }

    pub(super) fn runs(&self) -> u64 {
        self.words().0
    }

    pub(super) fn cookie(&self) -> u64 {
        self.words().1
    }

    /// Attaches, provokes, and checks that the program ran while it was attached, not before and not after; and that its
    /// links are gone from the kernel.
    pub(super) fn runs_while_attached(&self, options: &Options<'_>, provoke: impl Fn()) {
        provoke();
        assert_eq!(self.runs(), 0, "it runs before it is attached");
        let attachment = self.attached(options);
        provoke();
        wait_until("the program to run", || self.runs() > 0);
        detached(attachment);
        let runs = self.runs();
        provoke();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(self.runs(), runs, "it runs after it was detached");
    }
}

/// An error with its hint and its causes, as a person would see them.
pub(super) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!(" [{hint}]"));
    }
    text
}

/// Detaches and waits until the kernel has forgotten the links.
pub(super) fn detached(attachment: Attachment) {
    let ids: Vec<LinkId> = attachment.info().unwrap().iter().map(|info| info.id).collect();
    Box::new(attachment).detach().unwrap_or_else(|error| panic!("{}", words(&error)));
    for id in ids {
        wait_until("the link to go", || LinkFd::from_id(id).is_err());
    }
}

/// Waits for something that the kernel does in its own time.
#[track_caller]
pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
