//! A tracepoint's `format` file: where each field lies in the record.
//!
//! ```text
//! name: sched_switch
//! ID: 328
//! format:
//!         field:unsigned short common_type;  offset:0;  size:2;  signed:0;
//!         ...
//!         field:char prev_comm[16];          offset:8;  size:16; signed:0;
//!         field:__data_loc char[] name;      offset:24; size:4;  signed:0;
//! ```
//!
//! A line with a type, a name and, behind a semicolon each, numbers (kernel/trace/trace_events.c, `f_show`). Arrays have their
//! length behind the name, dynamic ones in the type.

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormatField {
    pub(super) name: String,
    /// As the file has it.
    pub(super) declared: String,
    /// C's words, without an array's brackets.
    pub(super) ty: String,
    /// In bytes.
    pub(super) off: u32,
    /// In bytes; 4 for dynamic ones, 0 for an array that reaches to the record's end.
    pub(super) size: u32,
    pub(super) signed: bool,
    pub(super) array: bool,
    pub(super) loc: Option<Loc>,
}

/// How a dynamic field says where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loc {
    /// `__data_loc`: from the start of the record.
    Data,
    /// `__rel_loc`: from the end of the number.
    Rel,
}

/// The fields of a format file; a line that is no field is left out.
pub(super) fn parse(text: &str) -> Vec<FormatField> {
    text.lines().filter_map(field).collect()
}

fn field(line: &str) -> Option<FormatField> {
    let rest = line.trim_start().strip_prefix("field:")?;
    let (declaration, numbers) = rest.split_once(';')?;
    let number = |key: &str| {
        let part = numbers.split(';').find_map(|part| part.trim().strip_prefix(key))?;
        part.trim().parse::<u32>().ok()
    };
    let declaration = declaration.trim();
    let declared = declaration.to_owned();
    // The brackets behind the name, then the name, then the type.
    let (declaration, behind) = match declaration.strip_suffix(']').and_then(|it| it.rsplit_once('[')) {
        Some((before, _)) => (before.trim_end(), true),
        None => (declaration, false),
    };
    let ty = declaration.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let (ty, name) = (ty.trim(), &declaration[ty.len()..]);
    let (ty, loc) = match (ty.strip_prefix("__data_loc "), ty.strip_prefix("__rel_loc ")) {
        (Some(ty), _) => (ty, Some(Loc::Data)),
        (_, Some(ty)) => (ty, Some(Loc::Rel)),
        _ => (ty, None),
    };
    let (ty, inside) = match ty.trim_end().strip_suffix(']').and_then(|it| it.rsplit_once('[')) {
        Some((before, _)) => (before.trim_end(), true),
        None => (ty, false),
    };
    (!name.is_empty())
        .then(|| FormatField {
            name: name.to_owned(),
            declared,
            ty: ty.to_owned(),
            off: number("offset:").unwrap_or(u32::MAX),
            size: number("size:").unwrap_or_default(),
            signed: number("signed:") == Some(1),
            array: behind || inside,
            loc,
        })
        // Offsets are 16 bits wide in the kernel.
        .filter(|field| field.off <= 0xffff && field.size <= 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_types_names_and_places() {
        let text = "name: x\nID: 1\nformat:\n\
             \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
             \n\
             \tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;\n\
             \tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;\n\
             \tfield:__data_loc char[] name;\toffset:48;\tsize:4;\tsigned:0;\n\
             \tfield:__rel_loc unsigned int[] lens;\toffset:52;\tsize:4;\tsigned:0;\n\
             \tfield:const void* p;\toffset:56;\tsize:8;\tsigned:0;\n\
             \tfield:__u8 a[sizeof(struct sockaddr_in6)];\toffset:64;\tsize:28;\tsigned:0;\n\
             \tfield:unsigned char *const q;\toffset:99999999;\tsize:8;\tsigned:0;\n\
             \tfield:nonsense\nprint fmt: \"field:x\", REC->x\n";
        let shown: Vec<String> = parse(text)
            .iter()
            .map(|f| format!("{}|{}|{}|{}|{}|{:?}", f.ty, f.name, f.off, f.size, f.array, f.loc))
            .collect();
        assert_eq!(
            shown,
            [
                "unsigned short|common_type|0|2|false|None",
                "const char *|filename|24|8|false|None",
                "char|comm|32|16|true|None",
                "char|name|48|4|true|Some(Data)",
                "unsigned int|lens|52|4|true|Some(Rel)",
                "const void*|p|56|8|false|None",
                "__u8|a|64|28|true|None",
            ]
        );
    }
}
