//! [`Resolver`]: all CO-RE records of one object against one machine.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::matching::find;
use super::value::answer;
use super::{Access, Answer, Fault, Relo, describe, essential_name, kinds_agree};
use crate::{Btf, CoreReloKind, Error, Kind, NeededNames, Type, TypeId};

/// A type of the target that may be the one that the object means.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The types it belongs to.
    pub btf: Btf,
    /// The module; `None` for the kernel proper.
    pub module: Option<Arc<str>>,
    /// The type.
    pub type_id: TypeId,
}

/// Answers the CO-RE records of one object, one after the other.
///
/// The kernel's types are scanned once for everything that an object needs: [`Resolver::need`] adds the names of the roots
/// to a set, to which the caller may add its own, and [`Resolver::offer`] takes what [`Btf::find_all`] found.
#[derive(Debug)]
pub struct Resolver<'a> {
    local: &'a Btf,
    /// By root type of the object.
    roots: HashMap<TypeId, Root>,
}

#[derive(Debug, Default)]
struct Root {
    /// Index of its essential name in the caller's set.
    name: usize,
    candidates: Vec<Candidate>,
}

/// What one record came to.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// What the record asks for: `struct task_struct.real_parent.tgid (0:15:3)`.
    pub asked: String,
    /// The candidate that did, as `vmlinux [123] struct task_struct +1256`; `None` when none did.
    pub matched: Option<String>,
    /// The candidates that did not, each with the reason.
    pub refused: Vec<String>,
    /// What the instruction shall hold.
    pub answer: Answer,
}

impl<'a> Resolver<'a> {
    /// For the records of an object with these types.
    pub fn new(local: &'a Btf) -> Resolver<'a> {
        Resolver { local, roots: HashMap::new() }
    }

    /// Adds the names of the roots of `relos` to a set, which must be one [with flavours](NeededNames::with_flavours) and
    /// the same every time.
    pub fn need<'r>(&mut self, relos: impl IntoIterator<Item = Relo<'r>>, names: &mut NeededNames) {
        for relo in relos {
            // A root outside the BTF, or without a name, is reported when its record is resolved.
            if relo.kind != CoreReloKind::TYPE_ID_LOCAL
                && let Entry::Vacant(entry) = self.roots.entry(relo.type_id)
                && let Ok(root) = self.local.type_by_id(relo.type_id)
                && !root.name().is_empty()
            {
                entry.insert(Root { name: names.add(essential_name(root.name())), candidates: Vec::new() });
            }
        }
    }

    /// Takes what `kernel` has for the set of [`Resolver::need`].
    pub fn offer(&mut self, kernel: &Btf, found: &[Vec<TypeId>]) {
        self.offer_from(None, kernel, found);
    }

    /// Whether some root has no candidate in the kernel proper, so that modules are worth a look.
    pub fn needs_modules(&self) -> bool {
        self.roots.values().any(|root| root.candidates.is_empty())
    }

    /// Takes what a module's own types have for the set of [`Resolver::need`]. Roots with a candidate in the kernel proper
    /// want none of a module.
    pub fn offer_module(&mut self, module: &str, types: &Btf, found: &[Vec<TypeId>]) {
        self.offer_from(Some(module.into()), types, found);
    }

    fn offer_from(&mut self, module: Option<Arc<str>>, btf: &Btf, found: &[Vec<TypeId>]) {
        for (&id, root) in &mut self.roots {
            if module.is_some() && root.candidates.first().is_some_and(|it| it.module.is_none()) {
                continue;
            }
            let Ok(local) = self.local.type_by_id(id) else { continue };
            for &type_id in found.get(root.name).into_iter().flatten() {
                if let Ok(target) = btf.type_by_id(type_id)
                    && kinds_agree(local.kind(), target.kind())
                    && essential_name(local.name()) == essential_name(target.name())
                {
                    root.candidates.push(Candidate { btf: btf.clone(), module: module.clone(), type_id });
                }
            }
        }
    }

    /// The candidates that are left for a root.
    pub fn candidates(&self, root: TypeId) -> &[Candidate] {
        self.roots.get(&root).map(|root| root.candidates.as_slice()).unwrap_or_default()
    }

    /// Answers one record. Without [`Resolver::need`] and [`Resolver::offer`] for its root it has no candidates.
    ///
    /// # Errors
    ///
    /// A [`Fault`] (in [`Error::Core`]) when the record is wrong or candidates disagree, and whatever is wrong with the types
    /// on either side.
    pub fn resolve(&mut self, relo: &Relo<'_>) -> Result<Resolution, Error> {
        let local = Access::parse(self.local, relo)?;
        let asked = local.to_string();
        if relo.kind == CoreReloKind::TYPE_ID_LOCAL {
            let answer = answer(&local, Some(&local))?;
            return Ok(Resolution {
                asked,
                matched: Some("the object's own types".into()),
                refused: Vec::new(),
                answer,
            });
        }
        if self.local.type_by_id(relo.type_id)?.name().is_empty() {
            return Err(Fault::Anonymous { type_id: relo.type_id }.into());
        }
        let mut refused = Vec::new();
        let mut kept = Vec::new();
        let mut first: Option<(Answer, u64, String)> = None;
        for (index, candidate) in self.candidates(relo.type_id).iter().enumerate() {
            let path = match find(&local, &candidate.btf, candidate.type_id)? {
                Ok(path) => path,
                Err(why) => {
                    refused.push(format!("{}: {why}", candidate.name()));
                    continue;
                }
            };
            let answer = answer(&local, Some(&path))?;
            kept.push(index);
            match &first {
                None => first = Some((answer, path.bit_offset, candidate.explain(&path, &answer))),
                Some((other, bit_offset, text)) => {
                    if *bit_offset != path.bit_offset || other.value != answer.value {
                        let candidates = Box::new([text.clone(), candidate.explain(&path, &answer)]);
                        return Err(Fault::Ambiguous { candidates }.into());
                    }
                }
            }
        }
        if let Some(root) = self.roots.get_mut(&relo.type_id)
            && !kept.is_empty()
            && kept.len() < root.candidates.len()
        {
            let mut index = 0;
            root.candidates.retain(|_| {
                index += 1;
                kept.contains(&(index - 1))
            });
        }
        let (answer, matched) = match first {
            Some((answer, _, text)) => (answer, Some(text)),
            None => (answer(&local, None)?, None),
        };
        if matched.is_none() && refused.is_empty() {
            let name = describe(self.local, relo.type_id);
            let name = match self.local.kind_of(relo.type_id) {
                // The kernel would have it without the flavour.
                Ok(Kind::STRUCT | Kind::UNION | Kind::ENUM | Kind::ENUM64 | Kind::TYPEDEF) => essential_name(&name),
                _ => &name,
            };
            refused.push(format!("the kernel and its modules have no {name}"));
        }
        Ok(Resolution { asked, matched, refused, answer })
    }
}

impl Candidate {
    /// `vmlinux [123] struct task_struct`.
    fn name(&self) -> String {
        format!(
            "{} {} {}",
            self.module.as_deref().unwrap_or("vmlinux"),
            self.type_id,
            describe(&self.btf, self.type_id)
        )
    }

    fn explain(&self, path: &Access<'_>, answer: &Answer) -> String {
        let mut text = self.name();
        if path.kind.is_field() {
            text += &match path.bit_offset % 8 {
                0 => format!(" +{}", path.bit_offset / 8),
                bits => format!(" +{}.{bits}", path.bit_offset / 8),
            };
        } else if path.kind.is_enum_value() {
            let value = answer.value.unwrap_or_default();
            let signed =
                matches!(path.btf.resolve(path.root), Ok((_, Type::Enum(it) | Type::Enum64(it))) if it.is_signed());
            text += &if signed { format!(" = {}", value as i64) } else { format!(" = {value}") };
        }
        text
    }
}
