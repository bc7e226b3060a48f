//! Settings: the defaults, then the config block, then the environment.

use super::Diagnostics;
use crate::ast::{self, ConfigValue};
use crate::plan::{Config, Missing};
use crate::types::StackMode;
use crate::{Diagnostic, Options, Span};

/// What a setting takes.
#[derive(Clone, Copy)]
enum Kind {
    Bool(fn(&mut Config) -> &mut bool),
    /// With the smallest and the greatest value.
    U64(fn(&mut Config) -> &mut u64, u64, u64),
    U32(fn(&mut Config) -> &mut u32, u32, u32),
    Text(fn(&mut Config) -> &mut String),
    /// One of these words.
    Word(&'static [&'static str], fn(&mut Config, &str)),
    /// `error`, `warn`, `enable` for a feature that may still change.
    Unstable,
}

/// Every setting, sorted.
const KEYS: &[(&str, Kind)] = &[
    (
        "cache_user_symbols",
        Kind::Word(&["PER_PID", "PER_PROGRAM", "NONE"], |config, word| {
            config.cache_user_symbols = word.to_owned();
        }),
    ),
    ("cpp_demangle", Kind::Bool(|config| &mut config.cpp_demangle)),
    ("lazy_symbolication", Kind::Bool(|config| &mut config.lazy_symbolication)),
    ("license", Kind::Text(|config| &mut config.license)),
    ("log_size", Kind::U64(|config| &mut config.log_size, 0, 1 << 30)),
    ("max_bpf_progs", Kind::U64(|config| &mut config.max_bpf_progs, 1, 1 << 20)),
    ("max_cat_bytes", Kind::U64(|config| &mut config.max_cat_bytes, 0, 1 << 40)),
    ("max_map_keys", Kind::U32(|config| &mut config.max_map_keys, 1, 1 << 30)),
    ("max_probes", Kind::U64(|config| &mut config.max_probes, 1, 1 << 32)),
    // The longest value that fits into a map's value with the rest of a record.
    ("max_strlen", Kind::U32(|config| &mut config.max_strlen, 1, 1 << 20)),
    (
        "missing_probes",
        Kind::Word(&["error", "warn", "ignore"], |config, word| {
            config.missing_probes = match word {
                "warn" => Missing::Warn,
                "ignore" => Missing::Ignore,
                _ => Missing::Error,
            };
        }),
    ),
    ("on_stack_limit", Kind::U32(|config| &mut config.on_stack_limit, 0, 512)),
    ("perf_rb_pages", Kind::U64(|config| &mut config.perf_rb_pages, 0, 1 << 24)),
    ("print_maps_on_exit", Kind::Bool(|config| &mut config.print_maps_on_exit)),
    ("show_debug_info", Kind::Bool(|config| &mut config.show_debug_info)),
    (
        "stack_mode",
        Kind::Word(&["bpftrace", "perf", "raw", "build_id"], |config, word| {
            config.stack_mode = stack_mode(word).unwrap_or_default();
        }),
    ),
    ("str_trunc_trailer", Kind::Text(|config| &mut config.str_trunc_trailer)),
    ("unstable_dw_ustack", Kind::Unstable),
    ("unstable_import_statement", Kind::Unstable),
    ("unstable_tseries", Kind::Unstable),
    ("unstable_typeinfo", Kind::Unstable),
    ("use_blazesym", Kind::Bool(|config| &mut config.use_blazesym)),
];

/// Settings that got another name.
const RENAMED: &[(&str, &str)] = &[
    ("cat_bytes_max", "max_cat_bytes"),
    ("map_keys_max", "max_map_keys"),
    ("max_bpf_programs", "max_bpf_progs"),
    ("max_programs", "max_bpf_progs"),
    ("strlen", "max_strlen"),
];

/// Settings that are gone: what they chose has one answer now.
const GONE: &[&str] = &["max_ast_nodes", "max_type_res_iterations", "symbol_source"];

/// A word of `kstack(mode)`.
pub(super) fn stack_mode(word: &str) -> Option<StackMode> {
    Some(match word {
        "bpftrace" => StackMode::Bpftrace,
        "perf" => StackMode::Perf,
        "raw" => StackMode::Raw,
        "build_id" => StackMode::BuildId,
        _ => return None,
    })
}

/// The settings of a script.
pub(super) fn config(script: &ast::Script, options: &Options, diagnostics: &mut Diagnostics) -> Config {
    let mut config = Config::default();
    let mut seen: Vec<(&str, Span)> = Vec::new();
    for entry in script.config.iter().flat_map(|block| &block.entries) {
        let key = entry.key.name.as_str();
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == key) {
            let text = format!("Config variable '{key}' is set twice");
            diagnostics.push(Diagnostic::warning(entry.key.span, text).with_label(*first, "first here"));
        }
        seen.push((key, entry.key.span));
        if let Err(problem) = set(&mut config, key, &entry.value) {
            let span = if problem.about_key { entry.key.span } else { entry.value_span };
            let mut diagnostic = Diagnostic::error(span, problem.text);
            diagnostic.hints = problem.hints;
            diagnostics.push(diagnostic);
        }
    }
    for (key, value) in &options.config {
        let written = ConfigValue::Text(value.clone());
        if let Err(problem) = set(&mut config, key, &written) {
            let text = format!("BPFTRACE_{}: {}", key.to_uppercase(), problem.text);
            let mut diagnostic = Diagnostic { span: None, ..Diagnostic::error(Span::default(), text) };
            diagnostic.hints = problem.hints;
            diagnostics.push(diagnostic);
        }
    }
    config
}

/// Whether a setting has this name, or had it.
pub fn is_setting(key: &str) -> bool {
    KEYS.iter().any(|(name, _)| *name == key) || RENAMED.iter().any(|(old, _)| *old == key) || GONE.contains(&key)
}

struct Problem {
    about_key: bool,
    text: String,
    hints: Vec<String>,
}

fn set(config: &mut Config, key: &str, value: &ConfigValue) -> Result<(), Problem> {
    let wrong = |text: String| Problem { about_key: false, text, hints: Vec::new() };
    let Some((_, kind)) = KEYS.iter().find(|(name, _)| *name == key) else {
        if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
            let text = format!("Config variable '{key}' has been renamed to '{new}'");
            return Err(Problem { about_key: true, text, hints: vec![format!("write `{new}`")] });
        }
        if GONE.contains(&key) {
            return Ok(());
        }
        let hint = skep_spec::nearest::did_you_mean(key, KEYS.iter().map(|(name, _)| *name));
        let text = format!("Unrecognized config variable: {key}");
        return Err(Problem { about_key: true, text, hints: hint.into_iter().collect() });
    };
    let given = match value {
        ConfigValue::Int(_) => "int",
        ConfigValue::Bool(_) => "bool",
        ConfigValue::Text(_) => "string",
    };
    let wants = |expected: &str| wrong(format!("Invalid type for {key}. Type: {given}. Expected Type: {expected}"));
    match *kind {
        Kind::Bool(place) => {
            *place(config) = match value {
                ConfigValue::Bool(value) => *value,
                ConfigValue::Int(value @ 0..=1) => *value == 1,
                ConfigValue::Int(_) => return Err(wants("bool")),
                ConfigValue::Text(word) => match word.to_lowercase().as_str() {
                    "1" | "true" | "on" | "yes" => true,
                    "0" | "false" | "off" | "no" => false,
                    _ => return Err(wants("bool")),
                },
            };
        }
        Kind::U64(place, least, most) => {
            *place(config) = number(value).ok_or_else(|| wants("int"))?;
            let value = *place(config);
            if value < least || value > most {
                return Err(wrong(format!("Invalid value for {key}: it is from {least} to {most}")));
            }
        }
        Kind::U32(place, least, most) => {
            let value = number(value).ok_or_else(|| wants("int"))?;
            match u32::try_from(value) {
                Ok(value) if value >= least && value <= most => *place(config) = value,
                _ => return Err(wrong(format!("Invalid value for {key}: it is from {least} to {most}"))),
            }
        }
        Kind::Text(place) => match value {
            ConfigValue::Text(text) => *place(config) = text.clone(),
            _ => return Err(wants("string")),
        },
        Kind::Word(words, put) => {
            let word = match value {
                ConfigValue::Text(text) => text.clone(),
                // The old spellings of cache_user_symbols.
                ConfigValue::Bool(on) if key == "cache_user_symbols" => old_cache(*on),
                ConfigValue::Int(value @ 0..=1) if key == "cache_user_symbols" => old_cache(*value == 1),
                _ => return Err(wants("string")),
            };
            let word =
                if key == "cache_user_symbols" && (word == "1" || word == "0") { old_cache(word == "1") } else { word };
            match words.iter().find(|it| **it == word) {
                Some(word) => put(config, word),
                None => {
                    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                    let (last, first) =
                        quoted.split_last().map_or(("", &[][..]), |(last, first)| (last.as_str(), first));
                    let list = format!("{}, and {last}", first.join(", "));
                    return Err(wrong(format!("Invalid value for {key}: valid values are {list}.")));
                }
            }
        }
        Kind::Unstable => {
            let word = match value {
                ConfigValue::Text(text) if ["error", "warn", "enable"].contains(&text.as_str()) => text.clone(),
                ConfigValue::Bool(on) => old_unstable(*on),
                ConfigValue::Int(value @ 0..=1) => old_unstable(*value == 1),
                ConfigValue::Text(text) if matches!(text.as_str(), "1" | "true") => old_unstable(true),
                ConfigValue::Text(text) if matches!(text.as_str(), "0" | "false") => old_unstable(false),
                _ => {
                    return Err(wrong(format!(
                        "Invalid value for {key}: valid values are \"error\", \"warn\", and \"enable\"."
                    )));
                }
            };
            config.unstable.retain(|(name, _)| name != key);
            config.unstable.push((key.to_owned(), word));
        }
    }
    Ok(())
}

fn old_cache(on: bool) -> String {
    if on { "PER_PID" } else { "NONE" }.to_owned()
}

fn old_unstable(on: bool) -> String {
    if on { "enable" } else { "error" }.to_owned()
}

fn number(value: &ConfigValue) -> Option<u64> {
    match value {
        ConfigValue::Int(value) => Some(*value),
        ConfigValue::Text(text) => text.parse().ok(),
        ConfigValue::Bool(_) => None,
    }
}
