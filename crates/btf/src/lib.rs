//! BTF and BTF.ext: parse, index, build, deduplicate, print as C, print values, match types for CO-RE.
