//! The target's types, scanned once for all names.

use std::collections::HashMap;

use skep_btf::{Btf, Kind, NeededNames, TypeId};

use super::Problem;
use crate::Target;
use crate::resolved::AttachBtf;

/// The target's types and where the needed names are in them.
pub(super) struct Types<'t> {
    target: &'t dyn Target,
    /// The names that are needed; complete before the first question.
    pub(super) names: NeededNames,
    indexes: HashMap<String, usize>,
    kernel: Option<Result<Scanned, Problem>>,
    modules: Option<Result<Vec<(String, Scanned)>, Problem>>,
}

/// A BTF and, per needed name, its types.
pub(super) struct Scanned {
    pub(super) btf: Btf,
    pub(super) found: Vec<Vec<TypeId>>,
}

/// A type of the target.
pub(super) struct Place<'s> {
    pub(super) btf: &'s Btf,
    pub(super) at: AttachBtf,
}

impl Place<'_> {
    /// `vmlinux [123]`.
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.at.module.as_deref().unwrap_or("vmlinux"), self.at.type_id)
    }
}

impl<'t> Types<'t> {
    pub(super) fn new(target: &'t dyn Target) -> Types<'t> {
        Types {
            target,
            names: NeededNames::new().with_flavours(),
            indexes: HashMap::new(),
            kernel: None,
            modules: None,
        }
    }

    /// Adds a name to look for.
    pub(super) fn declare(&mut self, name: &str) {
        let index = self.names.add(name);
        self.indexes.insert(name.to_string(), index);
    }

    /// The kernel's own types. The first call reads and scans them.
    pub(super) fn kernel(&mut self) -> Result<&Scanned, Problem> {
        let kernel = self.kernel.get_or_insert_with(|| match self.target.btf_with(&self.names) {
            Ok(Some((btf, found))) => Ok(Scanned { btf, found }),
            Ok(None) => Err(Problem::new("this kernel has no type information (BTF), which the program needs").hint(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, or give its types with `--btf FILE`".to_string(),
            )),
            Err(err) => Err(Problem::new(format!("the kernel's type information (BTF) cannot be read: {err}"))),
        });
        kernel.as_ref().map_err(Clone::clone)
    }

    /// Types from elsewhere for CO-RE, and the needed names in them.
    pub(super) fn core(&self) -> Option<Scanned> {
        let btf = self.target.core_btf()?;
        let found = btf.find_all(&self.names);
        Some(Scanned { btf, found })
    }

    /// The types of all modules. The first call reads and scans them.
    pub(super) fn modules(&mut self) -> Result<&[(String, Scanned)], Problem> {
        if self.modules.is_none() {
            let modules = self.kernel().map(|_| ()).and_then(|()| self.read_modules());
            self.modules = Some(modules);
        }
        match &self.modules {
            Some(Ok(modules)) => Ok(modules),
            Some(Err(problem)) => Err(problem.clone()),
            None => Ok(&[]),
        }
    }

    fn read_modules(&self) -> Result<Vec<(String, Scanned)>, Problem> {
        let names = match self.target.modules() {
            Ok(names) => names,
            Err(err) => return Err(Problem::new(format!("the types of kernel modules cannot be listed: {err}"))),
        };
        let mut modules = Vec::new();
        for name in names {
            // A module that was unloaded meanwhile, or that may not be read, is one that has nothing.
            if let Ok(Some(btf)) = self.target.module_btf(&name) {
                let mut found = vec![Vec::new(); self.names.len()];
                btf.find_all_own(&self.names, &mut found);
                modules.push((name, Scanned { btf, found }));
            }
        }
        Ok(modules)
    }

    /// The type with this name and kind: the kernel's, else the first module's that has one. `module` restricts the search;
    /// `vmlinux` means the kernel proper.
    pub(super) fn find(&mut self, module: Option<&str>, name: &str, kind: Kind) -> Result<Option<Place<'_>>, Problem> {
        let index = self.indexes.get(name).copied();
        let first =
            |scanned: &Scanned| match index {
                // The scan also finds flavours; here names count whole.
                Some(index) => scanned.found.get(index).into_iter().flatten().copied().find(|&id| {
                    scanned.btf.type_by_id(id).is_ok_and(|found| found.kind() == kind && found.name() == name)
                }),
                None => scanned.btf.find(name, kind),
            };
        if module.is_none_or(|module| module == "vmlinux")
            && let Some(type_id) = first(self.kernel()?)
        {
            let btf = &self.kernel()?.btf;
            return Ok(Some(Place { btf, at: AttachBtf { module: None, type_id } }));
        }
        if module == Some("vmlinux") {
            return Ok(None);
        }
        for (at, scanned) in self.modules()? {
            if module.is_none_or(|module| module == at)
                && let Some(type_id) = first(scanned)
            {
                let at = AttachBtf { module: Some(at.clone()), type_id };
                return Ok(Some(Place { btf: &scanned.btf, at }));
            }
        }
        Ok(None)
    }

    /// Whether a module is loaded and has types.
    pub(super) fn has_module(&mut self, module: &str) -> bool {
        module == "vmlinux" || self.modules().is_ok_and(|all| all.iter().any(|(name, _)| name == module))
    }

    /// ``did you mean `x`?`` over all names of a kind that begin with `prefix`, which the answer leaves out.
    pub(super) fn did_you_mean(&mut self, prefix: &str, name: &str, kind: Kind) -> Option<String> {
        let btf = &self.kernel().ok()?.btf;
        let names = btf.of_kind(kind).into_iter().filter_map(|id| btf.type_by_id(id).ok()?.name().strip_prefix(prefix));
        crate::nearest::did_you_mean(name, names)
    }
}
