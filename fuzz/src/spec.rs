//! Whole objects: what opens can be listed, prepared for the kernel, and resolved for a machine as hostile as itself.

use skep_btf::Btf;
use skep_spec::target::{Feature, TargetError};
use skep_spec::{Spec, Target, resolve};

/// Object files are their own seeds.
pub(crate) fn objects(file: &[u8]) -> Vec<Vec<u8>> {
    if file.starts_with(b"\x7fELF") { vec![file.to_vec()] } else { Vec::new() }
}

/// Any bytes as an object file.
pub(crate) fn open(data: &[u8]) {
    let mut spec = match Spec::parse(data, "fuzz.bpf.o") {
        Ok(spec) => spec,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let listing = spec.to_string();
    assert!(listing.len() < 1 << 28, "a listing of {} bytes for {} bytes of object", listing.len(), data.len());
    let _ = spec.btf_for_load();
    for program in &mut spec.programs {
        program.autoload = true;
    }
    let machine = Machine { btf: spec.btf.clone() };
    let resolved = resolve::resolve(&spec, &machine);
    assert!(resolved.programs.len() <= spec.programs.len());
}

/// A machine whose kernel has the types of the object itself, so that every relocation finds candidates.
struct Machine {
    btf: Option<Btf>,
}

impl Target for Machine {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 18 << 8
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(self.btf.clone())
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(vec!["module".to_owned()])
    }

    fn module_btf(&self, _: &str) -> Result<Option<Btf>, TargetError> {
        Ok(None)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(names.iter().map(|name| (name.len() % 2 == 0).then_some(0xffff_ffff_8100_0000)).collect())
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        let values = ["y", "m", "1000", "\"text\"", "-1", ""];
        Ok(names.iter().map(|name| values.get(name.len() % 7).map(|value| (*value).to_owned())).collect())
    }

    fn supports(&self, feature: Feature) -> bool {
        !matches!(feature, Feature::ProbeReadKernel | Feature::ArgCtxTag)
    }
}
