//! Externs looked up on the target.

use std::collections::HashMap;

use skep_btf::core::{compatible, describe, essential_name};
use skep_btf::{Kind, Type};

use super::needs::Needs;
use super::types::Types;
use super::{Problem, kconfig, kconfig_map};
use crate::map::MapContents;
use crate::nearest::did_you_mean;
use crate::resolved::AttachBtf;
use crate::target::Feature;
use crate::{Extern, ExternId, ExternKind, MapId, Spec, Target};

/// What the externs came to.
pub(super) struct Externs {
    /// Per extern of the Spec; `None` for those that no wanted program refers to.
    pub(super) values: Vec<Option<Value>>,
    /// The bytes of the `.kconfig` map.
    pub(super) contents: Vec<(MapId, Vec<u8>)>,
}

/// What one extern came to.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Its bytes stand in the `.kconfig` map; the text says what they are.
    Kconfig(String),
    /// A variable or function of the kernel.
    Typed(AttachBtf),
    /// An address.
    Address(u64),
    /// Weak and absent.
    Absent,
    /// Why programs that refer to it cannot be.
    Missing(Problem),
}

pub(super) fn resolve(spec: &Spec, needs: &Needs, target: &dyn Target, types: &mut Types<'_>) -> Externs {
    let needed = || {
        let ids = (0u32..).map(ExternId).zip(&spec.externs).zip(&needs.externs);
        ids.filter(|(_, needed)| **needed).map(|(it, _)| it)
    };
    let symbols = symbols(needed().map(|(_, it)| it), target);
    let options = options(needed().map(|(_, it)| it), target);
    let mut values = vec![None; spec.externs.len()];
    let mut contents = kconfig_map(spec).map(|map| (map, initial(spec, map)));
    for (id, external) in needed() {
        let value = match external.kind {
            ExternKind::Kconfig { off_bytes, .. } => {
                let value = kconfig_value(spec, external, target, &options);
                value.and_then(|found| {
                    let Some((bytes, text)) = found else {
                        return Ok(Value::Absent);
                    };
                    let at = off_bytes as usize;
                    let to = contents.as_mut().and_then(|(_, all)| all.get_mut(at..at.checked_add(bytes.len())?));
                    match to {
                        Some(to) => to.copy_from_slice(&bytes),
                        None => return Err(missing(external, "it lies outside the map of configuration values")),
                    }
                    Ok(Value::Kconfig(text))
                })
            }
            ExternKind::TypedKsym { type_id } => variable(spec, external, type_id, types),
            ExternKind::TypelessKsym => address(external, &symbols),
            ExternKind::Kfunc { proto } => function(spec, external, proto, types),
            ExternKind::Function { .. } | ExternKind::Variable { .. } | ExternKind::Map { .. } => {
                unlinked(spec, external)
            }
        };
        values[id.0 as usize] = Some(value.unwrap_or_else(Value::Missing));
    }
    Externs { values, contents: contents.into_iter().collect() }
}

fn initial(spec: &Spec, map: MapId) -> Vec<u8> {
    match &spec.map(map).contents {
        MapContents::Data(bytes) => bytes.clone(),
        _ => vec![0; spec.map(map).value_size as usize],
    }
}

fn missing(external: &Extern, why: &str) -> Problem {
    Problem::new(format!("extern `{}`: {why}", external.name))
}

/// What another object should have defined.
fn unlinked(spec: &Spec, external: &Extern) -> Result<Value, Problem> {
    if external.weak {
        return Ok(Value::Absent);
    }
    let near = match external.kind {
        ExternKind::Function { .. } => {
            did_you_mean(&external.name, spec.functions.iter().map(|function| function.name.as_str()))
        }
        ExternKind::Map { .. } => did_you_mean(&external.name, spec.maps.iter().map(|map| map.name.as_str())),
        _ => did_you_mean(&external.name, spec.variables().map(|(_, variable)| variable.name.as_str())),
    };
    let name = &external.name;
    let hint = near.unwrap_or_else(|| match external.kind {
        ExternKind::Function { .. } => format!("link the object that defines it, or declare a function of the kernel with `__ksym`: `extern ... {name}(...) __ksym;`"),
        _ => "link the object that defines it: `skep build A.bpf.c B.bpf.c -o BOTH.bpf.o`".to_owned(),
    });
    Err(missing(external, &format!("no object defines this {}", external.kind.noun())).hint(hint))
}

/// Answers to one question for many names, or why there are none.
type Answers<T> = Result<HashMap<String, T>, String>;

fn ask<'e, T>(
    externs: impl Iterator<Item = &'e Extern>,
    wanted: impl Fn(&Extern) -> bool,
    ask: impl FnOnce(&[&str]) -> Result<Vec<Option<T>>, crate::target::TargetError>,
) -> Answers<T> {
    let names: Vec<&str> = externs.filter(|it| wanted(it)).map(|it| it.name.as_str()).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let found = ask(&names).map_err(|err| err.to_string())?;
    Ok(names.into_iter().zip(found).filter_map(|(name, value)| Some((name.to_string(), value?))).collect())
}

fn symbols<'e>(externs: impl Iterator<Item = &'e Extern>, target: &dyn Target) -> Answers<u64> {
    ask(externs, |it| it.kind == ExternKind::TypelessKsym, |names| target.symbols(names))
}

fn options<'e>(externs: impl Iterator<Item = &'e Extern>, target: &dyn Target) -> Answers<String> {
    let wanted = |it: &Extern| matches!(it.kind, ExternKind::Kconfig { .. }) && it.name.starts_with("CONFIG_");
    ask(externs, wanted, |names| target.kconfig(names))
}

fn address(external: &Extern, symbols: &Answers<u64>) -> Result<Value, Problem> {
    match symbols {
        Ok(found) => match found.get(&external.name) {
            Some(&address) => Ok(Value::Address(address)),
            None if external.weak => Ok(Value::Absent),
            None => Err(missing(external, "this kernel has no such symbol")
                .hint(format!("declare it `__weak` and compare `&{}` with NULL to do without", external.name))),
        },
        Err(_) if external.weak => Ok(Value::Absent),
        Err(err) => Err(missing(external, &format!("the kernel's symbols cannot be read: {err}"))),
    }
}

fn variable(
    spec: &Spec,
    external: &Extern,
    local_type: skep_btf::TypeId,
    types: &mut Types<'_>,
) -> Result<Value, Problem> {
    let place = match types.find(None, &external.name, Kind::VAR) {
        Ok(Some(place)) => place,
        Ok(None) if external.weak => return Ok(Value::Absent),
        Ok(None) => {
            let hint = types.did_you_mean("", &external.name, Kind::VAR);
            return Err(missing(external, "no such variable in the types of this kernel or its modules").hint(hint));
        }
        Err(_) if external.weak => return Ok(Value::Absent),
        Err(problem) => return Err(missing(external, &problem.message).hint(problem.hint)),
    };
    let local = spec.btf.as_ref().ok_or_else(|| missing(external, "the object has no types (BTF)"))?;
    let bad = |err: skep_btf::Error| missing(external, &err.to_string());
    let Type::Var(var) = place.btf.type_by_id(place.at.type_id).map_err(bad)? else {
        return Err(missing(external, "the kernel's type is not a variable"));
    };
    let (local_type, _) = local.resolve(local_type).map_err(bad)?;
    let (kernel_type, _) = place.btf.resolve(var.type_id()).map_err(bad)?;
    if !compatible(local, local_type, place.btf, kernel_type).map_err(bad)? {
        return Err(missing(
            external,
            &format!(
                "declared as {}, but in this kernel it is {}",
                describe(local, local_type),
                describe(place.btf, kernel_type)
            ),
        ));
    }
    Ok(Value::Typed(place.at))
}

fn function(spec: &Spec, external: &Extern, proto: skep_btf::TypeId, types: &mut Types<'_>) -> Result<Value, Problem> {
    let name = essential_name(&external.name);
    let place = match types.find(None, name, Kind::FUNC) {
        Ok(Some(place)) => place,
        Ok(None) if external.weak => return Ok(Value::Absent),
        Ok(None) => {
            let hint = types.did_you_mean("", name, Kind::FUNC);
            return Err(missing(external, "no such function in this kernel or its modules").hint(hint));
        }
        Err(_) if external.weak => return Ok(Value::Absent),
        Err(problem) => return Err(missing(external, &problem.message).hint(problem.hint)),
    };
    let local = spec.btf.as_ref().ok_or_else(|| missing(external, "the object has no types (BTF)"))?;
    let bad = |err: skep_btf::Error| missing(external, &err.to_string());
    let Type::Func(func) = place.btf.type_by_id(place.at.type_id).map_err(bad)? else {
        return Err(missing(external, "the kernel's type is not a function"));
    };
    if compatible(local, proto, place.btf, func.proto()).map_err(bad)? {
        return Ok(Value::Typed(place.at));
    }
    if external.weak {
        return Ok(Value::Absent);
    }
    Err(missing(external, &format!("its prototype differs from that of {} in this kernel", place.text()))
        .hint(format!("declare another one as `{name}___v2` beside it, both `__weak`")))
}

/// The bytes of a configuration value and a text for it; `None` when it is weak and absent.
fn kconfig_value(
    spec: &Spec,
    external: &Extern,
    target: &dyn Target,
    options: &Answers<String>,
) -> Result<Option<(Vec<u8>, String)>, Problem> {
    let ExternKind::Kconfig { size_bytes, value: to, .. } = external.kind else {
        return Ok(None);
    };
    let size = size_bytes as usize;
    let bad = |why: String| missing(external, &why);
    let number = match external.name.as_str() {
        "LINUX_KERNEL_VERSION" => u64::from(target.kernel_version()),
        "LINUX_HAS_BPF_COOKIE" => u64::from(target.supports(Feature::AttachCookie)),
        "LINUX_HAS_SYSCALL_WRAPPER" => u64::from(target.supports(Feature::SyscallWrapper)),
        name if name.starts_with("CONFIG_") => {
            let found = match options {
                Ok(found) => found.get(name),
                Err(err) => return Err(bad(format!("the kernel's configuration cannot be read: {err}"))),
            };
            return match found {
                Some(value) => {
                    let bytes = kconfig::from_file(value, to, size, spec.endian).map_err(bad)?;
                    Ok(Some((bytes, format!("{name}={value}"))))
                }
                None if external.weak => Ok(None),
                None => Err(bad("it is not set in this kernel's configuration".to_string())
                    .hint("declare it `__weak` to read it as zero".to_string())),
            };
        }
        name if name.starts_with("LINUX_") && external.weak => return Ok(None),
        _ => {
            return Err(bad("no such configuration value".to_string()).hint(
                "names begin with CONFIG_, or are LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE, LINUX_HAS_SYSCALL_WRAPPER"
                    .to_string(),
            ));
        }
    };
    let bytes = kconfig::from_number(number, to, size, spec.endian).map_err(bad)?;
    Ok(Some((bytes, format!("{}={number:#x}", external.name))))
}
