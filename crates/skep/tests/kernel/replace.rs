//! Maps that exist in place of those of an object.

use skep::spec::MapType;
use skep::{Map, Object};

use super::{Pins, Recipe, data, may_load, verdict};

/// Adds 1 to the element 0 of map 0 and returns what was there.
const COUNT: &str = "*(u32 *)(r10 -4) = 0\nr1 = map[id:0]\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\n\
                     if r0 == 0x0 goto +5\nr1 = r0\nr0 = *(u32 *)(r1 +0)\nr2 = r0\nr2 += 1\n*(u32 *)(r1 +0) = r2\nexit";

fn counting() -> Recipe {
    Recipe::new().map("counts", MapType::ARRAY, 4, 4, 1).program("count", "tc", COUNT)
}

#[test]
fn two_objects_count_into_one_map() {
    if !may_load() {
        return;
    }
    let first = counting().load();
    let mut second = Object::from_spec(counting().0);
    second.replace_map("counts", &first.map("counts").unwrap()).unwrap();
    let third = second.clone();
    let second = second.load().unwrap();
    assert_eq!(verdict(&first.program("count").unwrap()), 0);
    assert_eq!(verdict(&second.program("count").unwrap()), 1);
    let id = |map: &Map<'_>| map.facts().id;
    assert_eq!(id(&first.map("counts").unwrap()), id(&second.map("counts").unwrap()));
    // The map outlives the object that made it.
    drop(first);
    assert_eq!(third.load().unwrap().map("counts").unwrap().get::<u32, u32>(&0).unwrap(), Some(2));
}

#[test]
fn a_pinned_map_and_one_by_its_id_take_the_place_too() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let first = counting().load();
    first.map("counts").unwrap().set(&0u32, &7u32).unwrap();
    first.map("counts").unwrap().pin(pins.path("counts")).unwrap();
    let id = first.map("counts").unwrap().facts().id;
    for map in [Map::from_pinned(pins.path("counts")).unwrap(), Map::from_id(id).unwrap()] {
        let mut object = Object::from_spec(counting().0);
        object.replace_map("counts", &map).unwrap();
        let loaded = object.load().unwrap();
        assert!(verdict(&loaded.program("count").unwrap()) >= 7);
    }
}

#[test]
fn a_map_that_does_not_fit_is_refused_with_what_differs() {
    if !may_load() {
        return;
    }
    let other = Recipe::new().map("wide", MapType::ARRAY, 4, 8, 3).load();
    let mut object = Object::from_spec(counting().0);
    object.replace_map("counts", &other.map("wide").unwrap()).unwrap();
    let error = object.load().unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("value size is 4 here and 8 there, max_entries is 1 here and 3 there"), "{text}");
    assert!(error.hint().is_some());
    let mut object = Object::from_spec(counting().0);
    let error = object.replace_map("count", &other.map("wide").unwrap()).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("`counts`")), "{error} {:?}", error.hint());
}

#[test]
fn a_data_section_of_another_object_keeps_its_values() {
    if !may_load() {
        return;
    }
    let with_data = || {
        let mut recipe = Recipe::new();
        recipe.0.maps.push(data());
        recipe.0
    };
    let first = Object::from_spec(with_data()).load().unwrap();
    first.set_global("first", &100u64).unwrap();
    let mut second = Object::from_spec(with_data());
    second.replace_map(".data", &first.map(".data").unwrap()).unwrap();
    let second = second.load().unwrap();
    assert_eq!(second.global::<u64>("first").unwrap(), 100);
    second.set_global("second", &200u64).unwrap();
    assert_eq!(first.global::<u64>("second").unwrap(), 200);
}
