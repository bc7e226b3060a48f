//! The machine's BTF, read when it is first asked for: the kernel's, then its modules'.

use std::cell::{OnceCell, RefCell};

use skep_btf::{Btf, Endian, Kind, TypeId};

use crate::target::Target;

/// One of the machine's BTFs: 0 is the kernel's, then the modules in the order in which they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BtfNo(pub(super) u32);

impl BtfNo {
    const VMLINUX: BtfNo = BtfNo(0);
}

/// A type of the machine. A module's type below the kernel's last number is the kernel's.
pub(super) type Place = (BtfNo, TypeId);

/// What the names of user programs' types begin with: no module's name has a colon.
const USER: &str = "user:";

pub(super) struct Machine<'t> {
    target: &'t dyn Target,
    vmlinux: OnceCell<Option<Btf>>,
    modules: RefCell<Vec<(String, Btf)>>,
    every_module: OnceCell<()>,
}

impl<'t> Machine<'t> {
    pub(super) fn new(target: &'t dyn Target) -> Machine<'t> {
        Machine { target, vmlinux: OnceCell::new(), modules: RefCell::default(), every_module: OnceCell::new() }
    }

    pub(super) fn target(&self) -> &'t dyn Target {
        self.target
    }

    /// The kernel's types. A machine that would not say is as one that has none: what misses a type says which.
    pub(super) fn vmlinux(&self) -> Option<&Btf> {
        self.vmlinux.get_or_init(|| self.target.btf().ok().flatten()).as_ref()
    }

    pub(super) fn endian(&self) -> Endian {
        self.vmlinux().map_or(Endian::Little, Btf::endian)
    }

    pub(super) fn btf(&self, no: BtfNo) -> Option<Btf> {
        match no {
            BtfNo::VMLINUX => self.vmlinux().cloned(),
            BtfNo(n) => self.modules.borrow().get(n as usize - 1).map(|(_, btf)| btf.clone()),
        }
    }

    /// Types that are nobody's module, such as a BPF program's, by a name that no module has.
    pub(super) fn add(&self, name: &str, btf: Btf) -> BtfNo {
        let mut modules = self.modules.borrow_mut();
        let known = modules.iter().position(|(it, _)| it == name);
        let at = known.unwrap_or_else(|| {
            modules.push((name.to_owned(), btf));
            modules.len() - 1
        });
        BtfNo(at as u32 + 1)
    }

    /// Types of a user program, by a name that says which.
    pub(super) fn add_user(&self, name: &str, btf: Btf) -> BtfNo {
        self.add(&format!("{USER}{name}"), btf)
    }

    /// Whether these are the types of a user program.
    pub(super) fn is_user(&self, no: BtfNo) -> bool {
        self.name(no).starts_with(USER)
    }

    /// A module's types; those of the kernel for `vmlinux`.
    pub(super) fn module(&self, name: &str) -> Option<(BtfNo, Btf)> {
        if name == "vmlinux" {
            return self.vmlinux().map(|btf| (BtfNo::VMLINUX, btf.clone()));
        }
        let known = |modules: &[(String, Btf)]| modules.iter().position(|(it, _)| it == name);
        if let Some(at) = known(&self.modules.borrow()) {
            return Some((BtfNo(at as u32 + 1), self.modules.borrow()[at].1.clone()));
        }
        let btf = self.target.module_btf(name).ok().flatten()?;
        let mut modules = self.modules.borrow_mut();
        modules.push((name.to_owned(), btf.clone()));
        Some((BtfNo(modules.len() as u32), btf))
    }

    /// Names and types of every module that has types. Reads them all the first time.
    pub(super) fn every_module(&self) -> Vec<(String, BtfNo, Btf)> {
        self.every_module.get_or_init(|| {
            for name in self.target.modules().unwrap_or_default() {
                self.module(&name);
            }
        });
        let modules = self.modules.borrow();
        let split = modules.iter().enumerate().filter(|(_, (_, btf))| btf.base().is_some());
        split.map(|(n, (name, btf))| (name.clone(), BtfNo(n as u32 + 1), btf.clone())).collect()
    }

    /// The first type of this name and one of these kinds, in the kernel, else in a module.
    pub(super) fn find(&self, name: &str, kinds: &[Kind]) -> Option<Place> {
        let vmlinux = self.vmlinux()?;
        if let Some(id) = kinds.iter().find_map(|kind| vmlinux.find(name, *kind)) {
            return Some((BtfNo::VMLINUX, id));
        }
        self.every_module().into_iter().find_map(|(_, no, btf)| {
            let own = btf.find_by_name(name).into_iter().filter(|id| *id >= btf.first_id());
            let id = own.into_iter().find(|id| btf.kind_of(*id).is_ok_and(|kind| kinds.contains(&kind)))?;
            Some((no, id))
        })
    }

    /// Name of a BTF: a module's, or `vmlinux`.
    pub(super) fn name(&self, no: BtfNo) -> String {
        let modules = self.modules.borrow();
        let module = (no.0 as usize).checked_sub(1).and_then(|at| modules.get(at));
        module.map_or_else(|| "vmlinux".to_owned(), |(name, _)| name.clone())
    }

    /// The enum that has a constant of this name, and its value.
    pub(super) fn enumerator(&self, name: &str) -> Option<(Place, i128)> {
        let vmlinux = self.vmlinux()?;
        if let Some((id, value)) = vmlinux.find_enumerator(name) {
            return Some(((BtfNo::VMLINUX, id), value));
        }
        self.every_module().into_iter().find_map(|(_, no, btf)| {
            let (id, value) = btf.find_enumerator(name)?;
            Some(((no, id), value))
        })
    }

    fn is_split(&self, no: BtfNo) -> bool {
        self.btf(no).is_some_and(|btf| btf.base().is_some())
    }

    /// `place` as the kernel's when the number says so, so that equal types compare equal.
    pub(super) fn normal(&self, (no, id): Place) -> Place {
        match self.vmlinux() {
            Some(vmlinux) if no != BtfNo::VMLINUX && id.0 < vmlinux.len() && self.is_split(no) => (BtfNo::VMLINUX, id),
            _ => (no, id),
        }
    }
}
