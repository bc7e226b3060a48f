//! Maps of the script: which kind of map each becomes, keys, and the plain operations.

use skep_insn::{Cond, Width, helpers};
use skep_spec::{Map, MapId, MapType};

use super::Unit;
use super::place::{Body, Place};
use crate::ir::Value;
use crate::plan::{self, Switch};
use crate::typed::{Expr, MapKind, MapRef};
use crate::types::Type;

/// `BPF_F_NO_PREALLOC`: entries are allocated when they come.
const BPF_F_NO_PREALLOC: u32 = 1;
/// `BPF_NOEXIST`: only if the key is new.
pub(crate) const BPF_NOEXIST: i64 = 1;
/// Largest value of one processor in a per-CPU map (`PCPU_MIN_UNIT_SIZE`, include/linux/percpu.h).
const LARGEST_PERCPU: u32 = 32 << 10;
/// What a map may take at start; a larger one takes it as keys come.
const LARGEST_PREALLOCATED: u64 = 4 << 20;

/// A map of the script in the Spec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    /// The map of generation 0.
    pub(crate) map: MapId,
    /// The other generation's, and the number that switches.
    pub(crate) other: Option<(MapId, Switch)>,
    /// One value without a key, at u32 zero.
    pub(crate) array: bool,
    /// Values for each CPU.
    pub(crate) percpu: bool,
    /// Where the array's value has a u64 that is 1 once something was put into it, in bytes; `None` where the value itself
    /// tells.
    pub(crate) mark: Option<u32>,
}

impl Unit<'_> {
    /// Makes the maps of the script.
    pub(crate) fn maps(&mut self) {
        for map in &self.script.maps {
            let array = map.key.is_none();
            let percpu = match &map.decl {
                Some((MapKind::PercpuHash | MapKind::PercpuLruHash | MapKind::PercpuArray, _)) => true,
                Some((MapKind::LruHash | MapKind::Hash, _)) => false,
                None => map.value.is_aggregation(),
            };
            let mark =
                (array && (map.zeroed || zero_says_nothing(&map.value))).then(|| map.value.size().next_multiple_of(8));
            let value_size = mark.map_or(map.value.size().max(1), |mark| mark + 8);
            let percpu = percpu && value_size <= LARGEST_PERCPU;
            let lru = matches!(map.decl, Some((MapKind::LruHash | MapKind::PercpuLruHash, _)));
            let entries = match &map.decl {
                _ if array => 1,
                Some((_, entries)) => (*entries).max(1),
                None => self.script.config.max_map_keys.max(1),
            };
            let map_type = match (array, percpu, lru) {
                (true, true, _) => MapType::PERCPU_ARRAY,
                (true, false, _) => MapType::ARRAY,
                (false, true, true) => MapType::LRU_PERCPU_HASH,
                (false, true, false) => MapType::PERCPU_HASH,
                (false, false, true) => MapType::LRU_HASH,
                (false, false, false) => MapType::HASH,
            };
            let key_size = map.key.as_ref().map_or(4, |key| key.size().max(1));
            let copies = if percpu { self.target.possible_cpus().max(1) } else { 1 };
            let bytes = u64::from(entries) * (u64::from(key_size) + u64::from(value_size) * u64::from(copies));
            let no_prealloc = !array && !lru && bytes > LARGEST_PREALLOCATED;
            let name = if map.name.is_empty() { "AT_" } else { &map.name };
            let made = Map {
                flags: if no_prealloc { BPF_F_NO_PREALLOC } else { 0 },
                ..Map::new(name, map_type, key_size, value_size, entries)
            };
            let id = self.add_map(made.clone());
            let other = map.printed_and_cleared.then(|| {
                let other = self.add_map(Map { name: format!("{name}_1"), ..made });
                let (map, off) = self.switch();
                (other, Switch { map, off })
            });
            self.maps.push(Storage { map: id, other, array, percpu, mark });
            self.plan.maps.push(plan::Map {
                name: map.name.clone(),
                map: id,
                other,
                key: map.key.clone(),
                value: map.value.clone(),
                kind: map.decl.map(|(kind, _)| kind),
                percpu,
                array,
                mark,
            });
        }
    }
}

/// Whether a value of zeroes may have been put there: counts, extremes, means and histograms are never all zero once
/// they are used, unless the script zeroes them.
fn zero_says_nothing(value: &Type) -> bool {
    !value.is_aggregation() || matches!(value, Type::Sum { .. })
}

impl<'a> Body<'_, 'a> {
    /// The map as helpers take it: of the generation that programs write now.
    pub(crate) fn map(&mut self, map: MapRef) -> Value {
        let storage = self.unit.maps[map.0 as usize];
        let Some((other, switch)) = storage.other else { return self.f.map(storage.map) };
        let at = self.f.map_value(switch.map, switch.off);
        let generation = self.f.load(8, at, 0);
        let (second, first, join) = (self.f.block(0), self.f.block(0), self.f.block(1));
        self.f.branch_if(generation, second, first);
        for (block, id) in [(second, other), (first, storage.map)] {
            self.f.switch_to(block);
            let map = self.f.map(id);
            self.f.jump(join, &[map]);
        }
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    /// Type of the map's values.
    pub(crate) fn value_type(&self, map: MapRef) -> &'a Type {
        &self.unit.script.maps[map.0 as usize].value
    }

    /// A key in memory, as helpers take it. What nothing was written to is zero.
    pub(crate) fn key(&mut self, key: Option<&'a Expr>) -> Value {
        let place = match key {
            None => {
                let place = self.temporary(8);
                self.store(place, 0, 8, 0);
                place
            }
            Some(key) => self.clean_value(key),
        };
        self.addr(place)
    }

    /// A value in memory without garbage in its padding or behind its text: for keys and values of maps.
    pub(crate) fn clean_value(&mut self, value: &'a Expr) -> Place {
        if let Some(place) = self.clean_place(value) {
            return place;
        }
        let place = self.temporary(value.ty.size());
        self.into(value, place, true);
        place
    }

    /// Pointer to the value at a key, or 0.
    pub(crate) fn lookup(&mut self, map: MapRef, key: Option<&'a Expr>) -> Value {
        let key = self.key(key);
        let map = self.map(map);
        self.f.call(helpers::MAP_LOOKUP_ELEM, &[map, key])
    }

    /// `@m[k] = v`
    pub(crate) fn set_map(&mut self, map: MapRef, key: Option<&'a Expr>, value: &'a Expr) {
        let mark = self.mark();
        let storage = self.unit.maps[map.0 as usize];
        if storage.array {
            // The value first: it may read the map.
            if value.ty.is_scalar() {
                let value_ = self.operand(value);
                let pointer = self.lookup(map, None);
                let (there, done) = (self.f.block(0), self.f.block(0));
                self.f.branch_if(pointer, there, done);
                self.f.switch_to(there);
                self.store(Place::behind(pointer), 0, value.ty.size(), value_);
                self.mark_used(storage, pointer);
                self.f.jump(done, &[]);
                self.f.switch_to(done);
            } else {
                let place = self.clean_value(value);
                let pointer = self.lookup(map, None);
                let (there, done) = (self.f.block(0), self.f.block(0));
                self.f.branch_if(pointer, there, done);
                self.f.switch_to(there);
                self.copy(place, Place::behind(pointer), value.ty.size());
                self.mark_used(storage, pointer);
                self.f.jump(done, &[]);
                self.f.switch_to(done);
            }
        } else {
            let key = self.key(key);
            let place = self.clean_value(value);
            let value = self.addr(place);
            self.update(map, key, value);
        }
        self.release(mark);
    }

    /// Notes that something was put into an array's one value.
    fn mark_used(&mut self, storage: Storage, pointer: Value) {
        if let Some(mark) = storage.mark {
            self.store(Place::behind(pointer), mark, 8, 1);
        }
    }

    /// `bpf_map_update_elem`, with its error reported.
    fn update(&mut self, map: MapRef, key: Value, value: Value) {
        let pointer = self.map(map);
        let flags = self.number(0);
        let result = self.f.call(helpers::MAP_UPDATE_ELEM, &[pointer, key, value, flags]);
        self.check(result, helpers::MAP_UPDATE_ELEM, Some(map.0), false);
    }

    /// Runs `change` with a pointer to the value at a key, made with zeroes when the key is new; not at all when the map is
    /// full, which is reported.
    pub(crate) fn change(&mut self, map: MapRef, key: Option<&'a Expr>, change: impl FnOnce(&mut Self, Value)) {
        let storage = self.unit.maps[map.0 as usize];
        let key = self.key(key);
        let pointer_to_map = self.map(map);
        let pointer = self.f.call(helpers::MAP_LOOKUP_ELEM, &[pointer_to_map, key]);
        let (there, absent, done) = (self.f.block(1), self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Ne, Width::W64, pointer, 0, (there, &[pointer]), (absent, &[]));
        self.f.switch_to(absent);
        if !storage.array {
            let size = self.value_type(map).size();
            let (data, off) = self.unit.zeroes(size.max(8));
            let zeroes = self.f.map_value(data, off);
            let flags = self.number(BPF_NOEXIST);
            let result = self.f.call(helpers::MAP_UPDATE_ELEM, &[pointer_to_map, key, zeroes, flags]);
            let again = self.f.call(helpers::MAP_LOOKUP_ELEM, &[pointer_to_map, key]);
            let failed = self.f.block(0);
            self.f.branch(Cond::Ne, Width::W64, again, 0, (there, &[again]), (failed, &[]));
            self.f.switch_to(failed);
            // Somebody else may have made and removed it meanwhile; only an error is one.
            self.check(result, helpers::MAP_UPDATE_ELEM, Some(map.0), false);
        }
        self.f.jump(done, &[]);
        self.f.switch_to(there);
        let pointer = self.f.param(there, 0);
        self.mark_used(storage, pointer);
        change(self, pointer);
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// `@m[k] += v`, of integers: atomically when the size allows.
    pub(crate) fn add_map(&mut self, map: MapRef, key: Option<&'a Expr>, value: &'a Expr) {
        let mark = self.mark();
        let size = value.ty.size();
        let value = self.scalar(value);
        self.change(map, key, |this, pointer| {
            if size >= 4 {
                this.f.atomic_add(size as u8, pointer, 0, value);
            } else {
                let old = this.f.load(size as u8, pointer, 0);
                let new = this.f.add(old, value);
                this.f.store(size as u8, pointer, 0, new);
            }
        });
        self.release(mark);
    }

    /// `@m++` as a value: adds and gives the old or the new value; 0 when the map is full.
    pub(crate) fn step_map(&mut self, map: MapRef, key: Option<&'a Expr>, by: i64, old: bool, ty: &Type) -> Value {
        let result = self.temporary(8);
        self.store(result, 0, 8, 0);
        let size = ty.size();
        self.change(map, key, |this, pointer| {
            let by = this.number(by);
            let before = if size >= 4 {
                this.f.fetch_add(size as u8, pointer, 0, by)
            } else {
                let before = this.f.load(size as u8, pointer, 0);
                let after = this.f.add(before, by);
                this.f.store(size as u8, pointer, 0, after);
                before
            };
            let value = if old { before } else { this.f.add(before, by) };
            let value = this.extend(value, ty);
            this.store(result, 0, 8, value);
        });
        self.load(result, 0, 8)
    }

    /// `delete(@m, k)`: 1 when it was there.
    pub(crate) fn delete(&mut self, map: MapRef, key: Option<&'a Expr>) -> Value {
        let storage = self.unit.maps[map.0 as usize];
        if storage.array {
            // An array has no keys to remove: its value becomes zero.
            let size = storage.mark.map_or(self.value_type(map).size(), |mark| mark + 8);
            let pointer = self.lookup(map, None);
            let (there, done) = (self.f.block(0), self.f.block(0));
            self.f.branch_if(pointer, there, done);
            self.f.switch_to(there);
            self.zero(Place::behind(pointer), 0, size);
            self.f.jump(done, &[]);
            self.f.switch_to(done);
            return self.number(1);
        }
        let key = self.key(key);
        let map = self.map(map);
        let result = self.f.call(helpers::MAP_DELETE_ELEM, &[map, key]);
        self.f.compare(Cond::Eq, Width::W64, result, 0)
    }

    /// `delete(@m, k)` as a statement: an absent key is reported when `warn` says so.
    pub(crate) fn delete_statement(&mut self, map: MapRef, key: Option<&'a Expr>, warn: bool) {
        let mark = self.mark();
        if self.unit.maps[map.0 as usize].array || !warn {
            self.delete(map, key);
        } else {
            let key = self.key(key);
            let pointer = self.map(map);
            let result = self.f.call(helpers::MAP_DELETE_ELEM, &[pointer, key]);
            self.check(result, helpers::MAP_DELETE_ELEM, Some(map.0), false);
        }
        self.release(mark);
    }

    /// `has_key(@m, k)`
    pub(crate) fn has_key(&mut self, map: MapRef, key: &'a Expr) -> Value {
        let pointer = self.lookup(map, Some(key));
        self.f.compare(Cond::Ne, Width::W64, pointer, 0)
    }

    /// `@m[k]` of a scalar type, 0 when it is absent.
    pub(crate) fn get_scalar(&mut self, map: MapRef, key: Option<&'a Expr>, ty: &Type) -> Value {
        let pointer = self.lookup(map, key);
        let (there, join) = (self.f.block(0), self.f.block(1));
        let zero = self.number(0);
        let absent = self.f.block(0);
        self.f.branch(Cond::Ne, Width::W64, pointer, 0, (there, &[]), (absent, &[]));
        self.f.switch_to(absent);
        self.report_absent(map);
        self.f.jump(join, &[zero]);
        self.f.switch_to(there);
        let value = self.load_scalar(Place::behind(pointer), ty);
        self.f.jump(join, &[value]);
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    /// Tells that a key is not in the map, where that is asked for.
    fn report_absent(&mut self, map: MapRef) {
        if self.unit.options.report_absent_keys {
            let zero = self.number(0);
            self.report(zero, helpers::MAP_LOOKUP_ELEM, Some(map.0), true);
        }
    }

    /// `@m[k]` of a type in memory, copied to `to`; zeroes when it is absent.
    pub(crate) fn get_into(&mut self, map: MapRef, key: Option<&'a Expr>, ty: &Type, to: Place) {
        let pointer = self.lookup(map, key);
        let (there, absent, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
        self.f.branch_if(pointer, there, absent);
        self.f.switch_to(there);
        self.copy(Place::behind(pointer), to, ty.size());
        self.f.jump(done, &[]);
        self.f.switch_to(absent);
        self.report_absent(map);
        self.zero(to, 0, ty.size());
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }
}
