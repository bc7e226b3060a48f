//! Maps: their keys, their values, and the functions that take whole maps.

use super::call::Call;
use super::infer::{self, Joined, Shape};
use super::{Checker, Elaborated, PATIENCE};
use crate::typed::{self, Action, Expr, ExprKind, MapKind, MapRef, Stmt, StmtKind};
use crate::types::Type;
use crate::{Diagnostic, Span, ast};

/// A map of the script.
pub(super) struct MapSlot {
    pub name: String,
    /// First use.
    pub span: Span,
    pub key: Key,
    pub value: Option<Shape>,
    pub decl: Option<(MapKind, u32)>,
    pub printed: bool,
    /// Named by `clear()` or `zero()`.
    pub cleared: bool,
    /// Named by `zero()`.
    pub zeroed: bool,
    /// Named outside its declaration.
    pub used: bool,
    /// Given a value somewhere, of whatever type.
    pub assigned: bool,
    /// It was told that nothing gives it a value.
    pub refused: bool,
    /// What it is given is wrong, and told so: found in this walk, and in the one before.
    pub wrong: bool,
    pub was_wrong: bool,
}

/// What is known about a map's key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Unknown,
    Scalar,
    Keyed(Shape),
    /// There is one, whose type is not known yet.
    Some,
}

impl<'a> Checker<'a> {
    /// Notes the maps that `let` declares.
    pub(super) fn declare_maps(&mut self, script: &'a ast::Script) {
        for item in &script.items {
            let ast::Item::MapDecl(decl) = item else { continue };
            let map = self.map(&decl.map.name, decl.map.span);
            let kinds = [
                ("hash", MapKind::Hash),
                ("lruhash", MapKind::LruHash),
                ("percpuhash", MapKind::PercpuHash),
                ("percpulruhash", MapKind::PercpuLruHash),
                ("percpuarray", MapKind::PercpuArray),
            ];
            let Some((_, kind)) = kinds.iter().find(|(word, _)| *word == decl.kind.name) else {
                let hint = "bpf map types: hash, lruhash, percpuhash, percpulruhash, percpuarray".to_owned();
                let text = format!("Invalid bpf map type: {}", decl.kind.name);
                self.fail_with::<()>(decl.kind.span, text, Some(hint));
                continue;
            };
            let size = self.expr(&decl.size).and_then(|size| self.const_int(&size));
            let size = match size {
                Some(size) if (1..=i128::from(u32::MAX)).contains(&size) => size as u32,
                _ => {
                    self.error(decl.size.span, "The number of entries of a map is an integer literal of at least 1");
                    1
                }
            };
            let slot = &mut self.maps[map.0 as usize];
            if slot.decl.is_some() {
                let text = format!("Map {} is declared twice", decl.map.name);
                let first = slot.span;
                self.diagnostics.push(Diagnostic::error(decl.map.span, text).with_label(first, "first here"));
                continue;
            }
            slot.decl = Some((*kind, size));
        }
    }

    /// Whether a map of this name is used anywhere.
    pub(super) fn has_map(&self, name: &str) -> bool {
        self.maps.iter().any(|map| map.name == name)
    }

    /// Before a walk.
    pub(super) fn begin_maps(&mut self) {
        for map in &mut self.maps {
            (map.printed, map.cleared, map.zeroed) = (false, false, false);
            (map.used, map.refused) = (false, false);
            map.was_wrong = std::mem::take(&mut map.wrong);
        }
    }

    /// After the last walk.
    pub(super) fn finish_maps(&mut self, typed: &mut typed::Script) {
        for at in 0..self.maps.len() {
            let slot = &self.maps[at];
            if !slot.used {
                self.diagnostics.push_late(Diagnostic::warning(slot.span, format!("Unused map: {}", slot.name)));
            } else if slot.value.is_none() && !slot.assigned && !slot.refused {
                let (span, name) = (slot.span, slot.name.clone());
                self.undefined_map(&name, span);
            }
            let slot = &self.maps[at];
            if matches!(slot.decl, Some((MapKind::PercpuArray, size)) if size != 1 || !matches!(slot.key, Key::Scalar))
            {
                let (span, name) = (slot.span, slot.name.clone());
                self.error(span, format!("Map {name}: percpuarray is for maps without a key, with one entry"));
            }
            let slot = &self.maps[at];
            typed.maps.push(typed::Map {
                name: slot.name.trim_start_matches('@').to_owned(),
                key: match &slot.key {
                    Key::Keyed(shape) => Some(shape.ty.clone()),
                    Key::Some => Some(Type::I64),
                    Key::Scalar | Key::Unknown => None,
                },
                value: slot.value.as_ref().map_or(Type::I64, |shape| shape.ty.clone()),
                decl: slot.decl,
                printed_and_cleared: slot.printed && slot.cleared,
                zeroed: slot.zeroed,
                span: slot.span,
            });
            let map = &typed.maps[at];
            self.structs.shown(&map.value);
            map.key.iter().for_each(|key| self.structs.shown(key));
        }
    }

    /// The map of this name; new when it was not met before.
    pub(super) fn map(&mut self, name: &str, span: Span) -> MapRef {
        if let Some(at) = self.map_names.get(name) {
            return MapRef(*at);
        }
        let at = self.maps.len() as u32;
        self.map_names.insert(name.to_owned(), at);
        self.maps.push(MapSlot {
            name: name.to_owned(),
            span,
            key: Key::Unknown,
            value: None,
            decl: None,
            printed: false,
            cleared: false,
            zeroed: false,
            used: false,
            assigned: false,
            refused: false,
            wrong: false,
            was_wrong: false,
        });
        MapRef(at)
    }

    pub(super) fn slot(&mut self, map: MapRef) -> &mut MapSlot {
        &mut self.maps[map.0 as usize]
    }

    /// A use of a map with or without key: the key, of the map's key type.
    ///
    /// The outer `None` means that the key is wrong or not known.
    pub(super) fn map_key(&mut self, map: MapRef, keys: Option<&[ast::Expr]>, span: Span) -> Option<Option<Expr>> {
        self.slot(map).used = true;
        let name = self.slot(map).name.clone();
        let Some(keys) = keys else {
            match self.slot(map).key {
                Key::Unknown => {
                    self.slot(map).key = Key::Scalar;
                    self.changed = true;
                }
                Key::Scalar => {}
                Key::Keyed(_) | Key::Some => {
                    let text = format!(
                        "{name} used as a map without an explicit key (scalar map), previously used with an explicit key (non-scalar map)"
                    );
                    return self.fail(span, text);
                }
            }
            return Some(None);
        };
        if matches!(self.slot(map).key, Key::Unknown) {
            self.slot(map).key = Key::Some;
            self.changed = true;
        }
        let key = self.key_tuple(keys, span);
        if self.slot(map).key == Key::Scalar {
            let text = format!(
                "{name} used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)"
            );
            return self.fail(span, text);
        }
        self.fit_key(map, key?, span).map(Some)
    }

    /// `a`, or the tuple `a, b`.
    fn key_tuple(&mut self, keys: &[ast::Expr], span: Span) -> Elaborated {
        if let [key] = keys {
            let key = self.expr(key)?;
            return self.key_allowed(&key).then_some(key);
        }
        let elems: Vec<Elaborated> = keys.iter().map(|key| self.expr(key)).collect();
        let elems: Vec<Expr> = elems.into_iter().collect::<Option<_>>()?;
        if !elems.iter().all(|elem| self.key_allowed(elem)) {
            return None;
        }
        let ty = infer::tuple(elems.iter().map(|elem| elem.ty.clone()));
        Some(Expr { kind: ExprKind::Tuple(elems), ty, span })
    }

    fn key_allowed(&mut self, key: &Expr) -> bool {
        let fine = !matches!(key.ty, Type::Void) && !key.ty.is_aggregation() && key.ty.size() > 0;
        if !fine {
            let text = match key.ty {
                Type::Void => "Invalid map key type: none".to_owned(),
                _ => format!("Invalid map key type: {}", key.ty),
            };
            self.error(key.span, text);
        }
        fine
    }

    /// Joins a key into the map's key type and converts it.
    pub(super) fn fit_key(&mut self, map: MapRef, key: Expr, span: Span) -> Elaborated {
        let shape = self.shape_of(&key);
        let limit = self.config.max_strlen;
        let slow = self.walks > PATIENCE;
        let old = match &self.slot(map).key {
            Key::Keyed(old) => Some(old.clone()),
            _ => None,
        };
        let joined = match &old {
            None => Some((shape, false)),
            Some(old) => match infer::join(old, &shape) {
                Joined::Shape(shape) => Some((shape, false)),
                Joined::Lossy(shape) => Some((shape, true)),
                Joined::Conflict => None,
            },
        };
        let name = self.slot(map).name.clone();
        if let Some((mut joined, lossy)) = joined {
            if lossy {
                let text = format!(
                    "{name} has signed and unsigned integers as keys: their type is 'int64', and the greatest unsigned ones do not fit"
                );
                self.warning(span, text);
            }
            if slow && old.as_ref() != Some(&joined) {
                joined.ty = infer::widen(&joined.ty, limit);
            }
            if old.as_ref() != Some(&joined) {
                self.changed = true;
            }
            let ty = joined.ty.clone();
            self.slot(map).key = Key::Keyed(joined);
            let given = key.ty.clone();
            if let Some(key) = self.fit(key, &ty) {
                return Some(key);
            }
            return self.key_mismatch(&name, &given, &ty, span);
        }
        let expected = old.map_or(Type::Void, |old| old.ty);
        self.key_mismatch(&name, &key.ty, &expected, span)
    }

    fn key_mismatch(&mut self, name: &str, given: &Type, expected: &Type, span: Span) -> Elaborated {
        let text = format!(
            "Argument mismatch for {name}: trying to access with arguments: '{given}' when map expects arguments: '{expected}'"
        );
        let first = self.maps.iter().find(|map| map.name == name).map(|map| map.span);
        self.conflict(span, text, first, format!("{name} is first used here"));
        None
    }

    /// Joins a stored value into the map's value type. `None`: they do not go together, which is reported.
    pub(super) fn map_assigned(&mut self, map: MapRef, value: &Shape, span: Span) -> Option<Type> {
        let (limit, slow) = (self.config.max_strlen, self.walks > PATIENCE);
        self.slot(map).assigned = true;
        let old = self.slot(map).value.clone();
        let name = self.slot(map).name.clone();
        let (mut joined, lossy) = match &old {
            None => (value.clone(), false),
            Some(old) => match infer::join(old, value) {
                Joined::Shape(shape) => (shape, false),
                Joined::Lossy(shape) => (shape, true),
                Joined::Conflict => {
                    let text = format!(
                        "Type mismatch for {name}: trying to assign value of type '{}' when map already has a type '{}'",
                        value.ty, old.ty
                    );
                    return self.fail(span, text);
                }
            },
        };
        if lossy {
            let text = format!(
                "{name} is given signed and unsigned integers: its type is 'int64', and the greatest unsigned ones do not fit"
            );
            self.warning(span, text);
        }
        if old.as_ref() != Some(&joined) {
            if slow {
                joined.ty = infer::widen(&joined.ty, limit);
            }
            self.changed = true;
        }
        let ty = joined.ty.clone();
        self.slot(map).value = Some(joined);
        Some(ty)
    }

    /// Type of the map's values, as far as it is known; an error in the last walk when it never will be.
    pub(super) fn map_value(&mut self, map: MapRef, span: Span) -> Option<Type> {
        let settled = self.settled;
        let slot = self.slot(map);
        slot.used = true;
        if let Some(shape) = &slot.value {
            return Some(shape.ty.clone());
        }
        let name = slot.name.clone();
        // Only an error that this walk has met counts on: two maps that are given each other's values would hold each other wrong.
        if slot.wrong {
            return self.follows();
        }
        if slot.was_wrong {
            return None;
        }
        if slot.assigned && settled {
            // Only assigned from itself: `@x = @x + 1`.
            slot.value = Some(Shape::fixed(Type::I64));
            self.changed = true;
            return Some(Type::I64);
        }
        if slot.assigned {
            return None;
        }
        slot.refused = true;
        self.undefined_map(&name, span);
        None
    }

    fn undefined_map(&mut self, name: &str, span: Span) {
        let names: Vec<&str> = self.maps.iter().filter(|it| it.assigned).map(|it| it.name.as_str()).collect();
        let hint = skep_spec::nearest::did_you_mean(name, names)
            .unwrap_or_else(|| format!("nothing in the script gives {name} a value"));
        self.diagnostics.push(Diagnostic::error(span, format!("Undefined map: {name}")).with_hint(hint));
    }

    /// `@m`, `@m[k]` as a value.
    pub(super) fn map_get(
        &mut self,
        name: &str,
        keys: Option<&[ast::Expr]>,
        name_span: Span,
        span: Span,
    ) -> Elaborated {
        let map = self.map(name, name_span);
        let known = self.map_value(map, span);
        let key = self.map_key(map, keys, span);
        self.get_element(map, key?, known?, span)
    }

    /// Reads an element: of an aggregation, the number.
    pub(super) fn get_element(&mut self, map: MapRef, key: Option<Expr>, value: Type, span: Span) -> Elaborated {
        let ty = match &value {
            Type::Count => Type::U64,
            Type::Sum { signed } | Type::Min { signed } | Type::Max { signed } | Type::Avg { signed } => {
                infer::int(8, *signed)
            }
            _ if value.is_aggregation() => {
                let name = self.slot(map).name.clone();
                let hint = format!("print it: `print({name})`");
                let text = format!("Map {name} of type '{value}' cannot be read as a value");
                return self.fail_with(span, text, Some(hint));
            }
            _ => value,
        };
        Some(Expr { kind: ExprKind::MapGet { map, key: key.map(Box::new) }, ty, span })
    }

    /// `for ($kv : @m)`: the type of the pair.
    pub(super) fn pair_type(&mut self, map: &ast::Ident) -> Option<(MapRef, Type)> {
        let at = self.map(&map.name, map.span);
        let value = self.map_value(at, map.span)?;
        let value = match &value {
            Type::Count => Type::U64,
            Type::Sum { signed } | Type::Min { signed } | Type::Max { signed } | Type::Avg { signed } => {
                infer::int(8, *signed)
            }
            _ if value.is_aggregation() => {
                let hint = format!("print it: `print({})`", map.name);
                let text = format!("Loop expression does not support type: {value}");
                return self.fail_with(map.span, text, Some(hint));
            }
            _ => value,
        };
        let key = match &self.slot(at).key {
            Key::Keyed(shape) => shape.ty.clone(),
            Key::Scalar => {
                let text = format!("{} has no explicit keys (scalar map), and cannot be used for iteration", map.name);
                return self.fail(map.span, text);
            }
            Key::Unknown | Key::Some => return None,
        };
        Some((at, infer::tuple([key, value])))
    }

    /// A map given as an argument, `@m` or, in the old style, `@m[k]`.
    fn map_argument<'c>(&mut self, call: &Call<'c>) -> Option<(MapRef, Option<&'c [ast::Expr]>)> {
        match call.expr(0).map(|arg| &arg.kind) {
            Some(ast::ExprKind::Map(name)) => Some((self.map(name, call.arg_span(0)), None)),
            Some(ast::ExprKind::MapElement { map, keys }) => Some((self.map(&map.name, map.span), Some(keys))),
            _ => self.fail(call.arg_span(0), format!("{}() expects a map to be provided", call.name)),
        }
    }

    /// The map of `clear(@m)` and its like.
    fn whole_map(&mut self, call: &Call<'_>) -> Option<MapRef> {
        let (map, keys) = self.map_argument(call)?;
        if keys.is_some() {
            let text = format!("The map passed to {}() should not be indexed by a key", call.name);
            return self.fail(call.arg_span(0), text);
        }
        self.map_value(map, call.arg_span(0))?;
        Some(map)
    }

    /// Map and key of `has_key(@m, k)` and its like; `at` is the number of the key's argument.
    fn map_and_key(&mut self, call: &Call<'_>) -> Option<(MapRef, Option<Expr>)> {
        let Some(ast::ExprKind::Map(name)) = call.expr(0).map(|arg| &arg.kind) else {
            return self.fail(call.arg_span(0), format!("{}() expects a map to be provided", call.name));
        };
        let map = self.map(name, call.arg_span(0));
        let known = self.map_value(map, call.arg_span(0));
        if self.slot(map).key == Key::Scalar {
            let text = format!("{}() only accepts maps that have keys. No key for {name}", call.name);
            return self.fail(call.arg_span(0), text);
        }
        let Some(key) = call.expr(1) else {
            return self.fail(call.span, format!("{}() expects a key", call.name));
        };
        let key = self.map_key(map, Some(std::slice::from_ref(key)), key.span)?;
        known?;
        Some((map, key))
    }

    pub(super) fn call_clear(&mut self, call: &Call<'_>) -> Elaborated {
        let map = self.whole_map(call)?;
        let zeroes = call.name == "zero";
        let slot = self.slot(map);
        slot.cleared = true;
        slot.zeroed |= zeroes;
        let action = if zeroes { Action::Zero(map) } else { Action::Clear(map) };
        self.action(action, call.span)
    }

    pub(super) fn call_has_key(&mut self, call: &Call<'_>) -> Elaborated {
        let (map, key) = self.map_and_key(call)?;
        Some(Expr { kind: ExprKind::MapHas { map, key: Box::new(key?) }, ty: Type::Bool, span: call.span })
    }

    /// `delete(@m, k)`, `delete(@m[k])`, `delete(@scalar)`.
    pub(super) fn call_delete(&mut self, call: &Call<'_>) -> Elaborated {
        let (map, key) = if call.args.len() == 2 { self.map_and_key(call)? } else { self.old_delete(call)? };
        Some(Expr { kind: ExprKind::MapDelete { map, key: key.map(Box::new) }, ty: Type::Bool, span: call.span })
    }

    fn old_delete(&mut self, call: &Call<'_>) -> Option<(MapRef, Option<Expr>)> {
        let (map, keys) = self.map_argument(call)?;
        let known = self.map_value(map, call.arg_span(0));
        if keys.is_none() && matches!(self.slot(map).key, Key::Keyed(_) | Key::Some) {
            let name = self.slot(map).name.clone();
            let hint = Some(format!("`delete({name}, key)` removes one key, `clear({name})` all"));
            return self.fail_with(call.span, "delete() requires 2 arguments (1 provided)".to_owned(), hint);
        }
        let key = self.map_key(map, keys, call.arg_span(0))?;
        known?;
        Some((map, key))
    }

    /// `find(@m, k, $v)`
    pub(super) fn call_find(&mut self, call: &Call<'_>) -> Elaborated {
        let found = self.map_and_key(call);
        let arg = call.expr(2)?;
        let ast::ExprKind::Var(name) = &arg.kind else {
            return self.fail(arg.span, "find() expects a variable as its third argument".to_owned());
        };
        let var = match self.find_var(name) {
            Some(var) => var,
            None => self.declare_at(name, super::address(arg), arg.span, None),
        };
        let (map, key) = found?;
        let value = self.map_value(map, arg.span)?;
        let ty = self.get_element(map, None, value, arg.span)?.ty;
        self.assigned(var, &Shape::fixed(ty.clone()), arg.span);
        if self.var_shape(var).is_some_and(|shape| shape.ty == ty) {
            return Some(Expr {
                kind: ExprKind::MapFind { map, key: key.map(Box::new), var },
                ty: Type::Bool,
                span: call.span,
            });
        }
        // The variable is wider than the value: found into a variable of the value's type, and copied from there.
        let temp = self.temp(ty.clone());
        let copy = self.var_expr(temp, arg.span)?;
        let wide = self.var_shape(var)?.ty.clone();
        let Some(copy) = self.fit(copy, &wide) else {
            let text = format!(
                "Type mismatch for {name}: trying to assign value of type '{ty}' when variable already has a type '{wide}'"
            );
            return self.fail(arg.span, text);
        };
        let found = self.temp(Type::Bool);
        let find = ExprKind::MapFind { map, key: key.map(Box::new), var: temp };
        let set_found = StmtKind::SetVar(found, Expr { kind: find, ty: Type::Bool, span: call.span });
        let condition = Expr { kind: ExprKind::Var(found), ty: Type::Bool, span: call.span };
        let set = Stmt { kind: StmtKind::SetVar(var, copy), span: arg.span };
        let stmts = vec![
            Stmt { kind: set_found, span: call.span },
            Stmt { kind: StmtKind::If(condition.clone(), vec![set], Vec::new()), span: call.span },
        ];
        Some(Expr { kind: ExprKind::Block(stmts, Box::new(condition)), ty: Type::Bool, span: call.span })
    }

    /// `print(@m)`, `print(@m, top, div)`: the map is the first argument, as [`Self::call_print`] saw.
    pub(super) fn print_map(&mut self, call: &Call<'_>) -> Elaborated {
        let map = self.whole_map(call);
        let mut numbers = [0u32; 2];
        for at in 1..call.args.len() {
            let value = self.literal_int(call, at)?;
            let Ok(value) = u32::try_from(value) else {
                return self.fail(
                    call.arg_span(at),
                    format!("print() expects a small non-negative number ({value} provided)"),
                );
            };
            numbers[at - 1] = value;
        }
        let map = map?;
        if call.args.len() > 1 && matches!(self.slot(map).key, Key::Scalar) && self.is_plain(map) {
            // `top` of one value is that value.
            numbers[0] = 0;
        }
        if call.args.len() > 2 && matches!(self.slot(map).value, Some(Shape { ty: Type::Lhist(_), .. })) {
            self.warning(call.arg_span(2), "print()'s div argument is ignored for lhist maps");
        }
        self.slot(map).printed = true;
        let [top, div] = numbers;
        self.action(Action::PrintMap { map, top, div, cleared: false }, call.span)
    }

    fn is_plain(&mut self, map: MapRef) -> bool {
        self.slot(map).value.as_ref().is_some_and(|shape| !shape.ty.is_aggregation())
    }

    /// `print(@m[k])`: as a value, or by user space when it is no number.
    pub(super) fn print_element(&mut self, call: &Call<'_>) -> Elaborated {
        let Some(ast::ExprKind::MapElement { map, keys }) = call.expr(0).map(|arg| &arg.kind) else { return None };
        let at = self.map(&map.name, map.span);
        let value = self.map_value(at, call.arg_span(0));
        let key = self.map_key(at, Some(keys), call.arg_span(0))?;
        let value = value?;
        if call.args.len() > 1 {
            let text = "The map passed to print() should not be indexed by a key".to_owned();
            return self.fail(call.span, text);
        }
        if value.is_aggregation() {
            self.slot(at).printed = true;
            return self.action(Action::PrintMapElement { map: at, key: key? }, call.span);
        }
        let value = self.get_element(at, key, value, call.arg_span(0))?;
        self.structs.shown(&value.ty);
        self.action(Action::PrintValue(value), call.span)
    }

    /// `len(@m)`, `len(stack)`
    pub(super) fn call_len(&mut self, call: &Call<'_>) -> Elaborated {
        if let Some(ast::ExprKind::Map(name)) = call.expr(0).map(|arg| &arg.kind) {
            let map = self.map(name, call.arg_span(0));
            self.map_value(map, call.arg_span(0))?;
            if self.slot(map).key == Key::Scalar {
                let text = format!("len() only accepts maps that have keys. No key for {name}");
                return self.fail(call.arg_span(0), text);
            }
            return Some(Expr { kind: ExprKind::MapLen(map), ty: Type::I64, span: call.span });
        }
        let value = self.arg(call, 0)?;
        match &value.ty {
            Type::Stack(_) => {
                Some(Expr { kind: ExprKind::Call(typed::Call::StackLen, vec![value]), ty: Type::I64, span: call.span })
            }
            other => {
                let text = format!("len() expects a map or stack to be provided ({other} provided)");
                self.fail(call.arg_span(0), text)
            }
        }
    }
}
