//! The program of an object, for machines that take instructions.

use anyhow::{Context, Result, bail};
use skep_insn::{InsnIdx, RawInsn};
use skep_spec::resolved::BindTarget;
use skep_spec::target::{Feature, TargetError};
use skep_spec::{Spec, Target};

/// A program and its maps.
pub(super) struct Loaded {
    pub(super) insns: Vec<RawInsn>,
    /// Which instructions load a map, by its index in `maps`.
    pub(super) binds: Vec<(InsnIdx, usize)>,
    pub(super) maps: Vec<MapShape>,
}

/// What a map is like.
#[derive(Clone, Debug)]
pub(super) struct MapShape {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
}

/// A machine that nothing is asked of.
struct Nothing;

impl Target for Nothing {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 12 << 8
    }

    fn btf(&self) -> Result<Option<skep::btf::Btf>, TargetError> {
        Ok(None)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn module_btf(&self, _: &str) -> Result<Option<skep::btf::Btf>, TargetError> {
        Ok(None)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, _: Feature) -> bool {
        true
    }
}

/// Opens an object of one program.
pub(super) fn load(bytes: &[u8]) -> Result<Loaded> {
    let spec = Spec::parse(bytes, "object")?;
    let mut resolved = skep_spec::resolve::resolve(&spec, &Nothing);
    let (_, program) = resolved.programs.pop().context("an object has a program")?;
    let program = program?;
    let mut binds = Vec::new();
    for bind in &program.binds {
        let BindTarget::Map(map) = bind.target else { bail!("only maps are bound here, not {:?}", bind.target) };
        binds.push((bind.insn, map.0 as usize));
    }
    let shape = |map: &skep_spec::map::Map| MapShape {
        kind: map.map_type.0,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
    };
    Ok(Loaded { insns: program.insns, binds, maps: spec.maps.iter().map(shape).collect() })
}
