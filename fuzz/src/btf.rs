//! Types: what parses can be walked, measured, printed and written again.

use skep_btf::value::{Value, to_json, to_text};
use skep_btf::{Btf, BtfExt, Builder, Endian, Type};

/// How many types are printed; each print is bounded, their number is not.
const PRINTED: usize = 64;

/// Any bytes as BTF.
pub(crate) fn parse(data: &[u8]) {
    let btf = match Btf::parse(data.to_vec()) {
        Ok(btf) => btf,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(u64::from(btf.len()) <= data.len() as u64 + 1, "more types than bytes");
    let _ = btf.validate();
    let bytes = [0x5a; 256];
    for (printed, (id, kind)) in btf.types().enumerate() {
        let _ = btf.size_of(id);
        let _ = btf.resolve(id);
        let name = kind.name();
        if printed >= PRINTED {
            continue;
        }
        // A name that is not UTF-8 is cut where it stops being text, and sorted types are taken at their word: with hostile
        // bytes there is no promise that the search finds this type, only that it ends.
        let _ = btf.find(name, kind.kind());
        match kind {
            Type::Struct(body) | Type::Union(body) => body.members().for_each(|member| drop(member.name().to_owned())),
            Type::Enum(values) | Type::Enum64(values) => values.values().for_each(drop),
            Type::FuncProto(proto) => proto.params().for_each(drop),
            Type::Datasec(section) => section.vars().for_each(drop),
            _ => {}
        }
        let _ = to_text(Value::new(&btf, id, &bytes));
        let _ = to_json(Value::new(&btf, id, &bytes));
    }
    // Bounded by itself; a refusal is fine.
    let _ = skep_btf::dump::dump_c(&btf, &mut String::new());
    // Writing and reading again must not lose a type.
    if btf.validate().is_ok() {
        for endian in [Endian::Little, Endian::Big] {
            let Ok(bytes) = Builder::from_btf(&btf).finish(endian) else { continue };
            let again = Btf::parse(bytes).expect("what we wrote is BTF");
            assert_eq!(again.len(), btf.len());
        }
    }
}

/// Any bytes as BTF.ext: what parses is written and read again.
pub(crate) fn parse_ext(data: &[u8]) {
    let Ok(ext) = BtfExt::parse(data) else { return };
    for endian in [Endian::Little, Endian::Big] {
        let again = BtfExt::parse(&ext.to_bytes(endian)).expect("what we wrote is BTF.ext");
        assert_eq!(format!("{again:?}"), format!("{ext:?}"));
    }
}
