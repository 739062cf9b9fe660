//! Reads a file into settings in their documented spelling, with their types checked.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value};
use tc_payload::{Document, MAX_DOCUMENT_BYTES, Problem, Repeats, apply_places, escape_pointer_segment, nearest};

use super::error::{CANNOT_LOAD, ConfigError, INVALID};
use super::keys::{KEYS, Key, Kind, Neutral, Standing};
use super::values::{config_of, whole};
use super::{Config, LiveLogMode, Loaded, live_log, metadata, rules};

pub(super) fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let name = path.display().to_string();
    let fail = |problem: Problem| ConfigError { exit_code: CANNOT_LOAD, problems: vec![problem] };
    let bytes = read(path).map_err(|error| fail(Problem::of_file(&name, format!("cannot be read: {error}"))))?;
    let document = parse(&name, &bytes).map_err(fail)?;
    let cwd = std::env::current_dir()
        .map_err(|error| fail(Problem::of_file(&name, format!("the current directory cannot be told: {error}"))))?;
    let Judged { mut config, notes } = judge(&document, &cwd)?;

    let mut warnings = Vec::new();
    let mut later = Vec::new();
    for note in &notes {
        match note {
            Note::Retired { key, .. } => warnings.push(format!("{key} is a retired setting and can be removed")),
            Note::Later { name, .. } => later.push(name.as_str()),
        }
    }
    if !later.is_empty() {
        warnings.push(format!(
            "{name}: set, but without effect, since this worker does not have these parts yet: {}",
            later.join(", ")
        ));
    }
    let search_path: OsString = std::env::var_os("PATH").unwrap_or_default();
    if config.live_log_is_served() && live_log::is_switched_off(&config.livelog_executable, &search_path) {
        config.own.live_log = LiveLogMode::OffSilently;
        warnings.push(format!("live logs are off: livelogExecutable is {}, which is no livelog", config.livelog_executable));
    }
    warnings.extend(rules::readable_by_all(path));
    warnings.extend(rules::shared(&config));
    metadata::describe_worker(&mut config);
    Ok(Loaded { config, warnings })
}

/// Parses the text of a configuration.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Document, Problem> {
    Document::parse_with(name, bytes, Repeats::Merge)
}

/// What a file amounts to, as far as the file alone decides it.
pub(super) struct Judged {
    pub(super) config: Config,
    pub(super) notes: Vec<Note>,
}

/// Something that is allowed, but should be known. Pointers are as the file spells them.
pub(super) enum Note {
    /// The setting has no meaning any more, and its value does no harm.
    Retired { key: &'static str, pointer: String },
    /// The setting asks for a part that this worker does not have yet.
    Later { name: String, pointer: String },
}

/// Holds a parsed file against all rules. Relative paths in it are taken from `cwd`.
pub(super) fn judge(document: &Document, cwd: &Path) -> Result<Judged, ConfigError> {
    let Value::Object(object) = document.value() else {
        let mut problems = vec![Problem::wrong_type("", "object", document.value())];
        apply_places(&mut problems, document, "");
        return Err(ConfigError { exit_code: CANNOT_LOAD, problems });
    };
    let mut settings = Settings::default();
    let values = settings.take(object, KEYS, "", "");
    let config = config_of(&values, cwd);
    let exit_code = if settings.problems.is_empty() { INVALID } else { CANNOT_LOAD };
    // A value of the wrong type reads as unset; saying so a second time would only confuse.
    let mistyped: BTreeSet<String> = settings.problems.iter().map(|problem| problem.pointer.clone()).collect();
    let mut problems = std::mem::take(&mut settings.problems);
    for mut problem in rules::problems(&config, &values) {
        problem.pointer = settings.as_written(&problem.pointer);
        if !mistyped.contains(&problem.pointer) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        apply_places(&mut problems, document, "");
        problems.sort_by_key(|problem| problem.place);
        return Err(ConfigError { exit_code, problems });
    }
    Ok(Judged { config, notes: settings.notes })
}

/// Reads at most what a document may have, and a byte more to tell that it has more. It may be a pipe.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What comes out of the file beside the values.
#[derive(Default)]
struct Settings {
    problems: Vec<Problem>,
    /// What should be known about settings that are allowed.
    notes: Vec<Note>,
    /// Pointers in the documented spelling → as the file spells them.
    spelled: BTreeMap<String, String>,
}

impl Settings {
    /// A pointer in the documented spelling as the file spells it. Where the setting is not in the file, it is the root.
    fn as_written(&self, documented: &str) -> String {
        let mut end = documented.len();
        // Items of lists are no settings, but the list that they are in is one.
        while let Some(written) = documented.get(..end).filter(|pointer| !pointer.is_empty()) {
            match self.spelled.get(written) {
                Some(spelled) => return format!("{spelled}{}", &documented[end..]),
                None => end = written.rfind('/').unwrap_or(0),
            }
        }
        String::new()
    }

    /// Takes an object's settings, in their documented spelling. What stands twice in different spellings is merged.
    fn take(&mut self, object: &Map<String, Value>, keys: &[Key], written_in: &str, documented_in: &str) -> Map<String, Value> {
        let mut values = Map::new();
        for (written, value) in object {
            let pointer = format!("{written_in}/{}", escape_pointer_segment(written));
            let Some(key) = keys.iter().find(|key| key.name.eq_ignore_ascii_case(written)) else {
                self.unknown(pointer, written, keys);
                continue;
            };
            let documented = format!("{documented_in}/{}", key.name);
            self.spelled.insert(documented.clone(), pointer.clone());
            // Like no value at all, as the reference worker reads it.
            if value.is_null() || !self.fits(value, &key.kind, &pointer) || !self.stands(value, key, &pointer, &documented) {
                continue;
            }
            let value = match (&key.kind, value) {
                (Kind::Group(keys), Value::Object(group)) => Value::Object(self.take(group, keys, &pointer, &documented)),
                (Kind::Named(keys), Value::Object(named)) => Value::Object(self.take_named(named, keys, &pointer, &documented)),
                (_, value) => value.clone(),
            };
            merge(&mut values, key.name, value);
        }
        values
    }

    /// Takes an object of objects of settings, whose names are not ours.
    fn take_named(
        &mut self,
        object: &Map<String, Value>,
        keys: &[Key],
        written_in: &str,
        documented_in: &str,
    ) -> Map<String, Value> {
        let mut values = Map::new();
        for (name, value) in object {
            let segment = escape_pointer_segment(name);
            let (written, documented) = (format!("{written_in}/{segment}"), format!("{documented_in}/{segment}"));
            self.spelled.insert(documented.clone(), written.clone());
            match value {
                Value::Null => {}
                Value::Object(group) => {
                    values.insert(name.clone(), Value::Object(self.take(group, keys, &written, &documented)));
                }
                other => self.problems.push(Problem::wrong_type(&written, "object", other)),
            }
        }
        values
    }

    fn unknown(&mut self, pointer: String, written: &str, keys: &[Key]) {
        let names = keys.iter().filter(|key| matches!(key.standing, Standing::Followed | Standing::Later)).map(|key| key.name);
        let problem = Problem::new(pointer, "is not a known setting").about_key();
        self.problems.push(match nearest(written, names) {
            Some(meant) => problem.with_hint(format!("did you mean `{meant}`?")),
            None => problem,
        });
    }

    /// Whether the value has the type that the setting must have.
    fn fits(&mut self, value: &Value, kind: &Kind, pointer: &str) -> bool {
        let problem = match kind {
            Kind::Text | Kind::Address | Kind::Word(_) if !value.is_string() => Problem::wrong_type(pointer, "string", value),
            // Whatever stands there may be the secret, so it is not repeated.
            Kind::Secret if !value.is_string() => Problem::new(pointer, "must be a string"),
            Kind::Flag if !value.is_boolean() => Problem::wrong_type(pointer, "boolean", value),
            Kind::Object | Kind::Group(_) | Kind::Named(_) if !value.is_object() => {
                Problem::wrong_type(pointer, "object", value)
            }
            Kind::Texts | Kind::Images if !value.is_array() => Problem::wrong_type(pointer, "array", value),
            Kind::Texts | Kind::Images => return self.items_fit(value, kind, pointer),
            Kind::Fraction(_) if !value.is_number() => Problem::new(pointer, "must be a number"),
            Kind::Fraction(most) if value.as_f64().is_none_or(|number| !(0.0..=f64::from(*most)).contains(&number)) => {
                Problem::new(pointer, format!("must be a number from 0 to {most}, not {value}"))
            }
            Kind::Whole(_) if !value.is_number() => Problem::wrong_type(pointer, "integer", value),
            Kind::Whole(most) if whole(value).is_none_or(|number| number > *most) => {
                Problem::new(pointer, format!("must be a whole number from 0 to {most}, not {value}"))
            }
            Kind::Address => match value.as_str().unwrap_or_default() {
                text if text.is_empty() || text.parse::<IpAddr>().is_ok() => return true,
                text => Problem::new(pointer, format!("invalid IP address: {text}")),
            },
            Kind::Word(known) => match value.as_str().unwrap_or_default() {
                text if known.contains(&text) => return true,
                _ => Problem::new(pointer, format!("must be one of {}, not {value}", known.join(", "))),
            },
            _ => return true,
        };
        self.problems.push(problem);
        false
    }

    /// Whether all items of a list are what they must be.
    fn items_fit(&mut self, list: &Value, kind: &Kind, pointer: &str) -> bool {
        let before = self.problems.len();
        for (index, item) in list.as_array().into_iter().flatten().enumerate() {
            let pointer = format!("{pointer}/{index}");
            match kind {
                Kind::Images => {
                    let wrong = tc_payload::docker::image(item).err().unwrap_or_default();
                    self.problems.extend(wrong.into_iter().map(|problem| problem.below(&pointer)));
                }
                _ if !item.is_string() => self.problems.push(Problem::wrong_type(pointer, "string", item)),
                _ => {}
            }
        }
        self.problems.len() == before
    }

    /// Whether the setting is to be followed. Notes what the owner should know about it.
    fn stands(&mut self, value: &Value, key: &Key, pointer: &str, documented: &str) -> bool {
        match &key.standing {
            Standing::Followed => {}
            Standing::Later => {
                let asks = value.as_bool().unwrap_or(value.as_str().is_some_and(|text| !text.is_empty()));
                let name = documented.trim_start_matches('/').replace('/', ".");
                let known = |note: &Note| matches!(note, Note::Later { name: known, .. } if *known == name);
                if asks && !self.notes.iter().any(known) {
                    self.notes.push(Note::Later { name, pointer: pointer.to_owned() });
                }
            }
            Standing::Retired { neutral, advice } => {
                let is_neutral = match neutral {
                    Neutral::EmptyText => value.as_str() == Some(""),
                    Neutral::Zero => whole(value) == Some(0),
                    Neutral::False => value.as_bool() == Some(false),
                };
                if is_neutral {
                    self.notes.push(Note::Retired { key: key.name, pointer: pointer.to_owned() });
                } else {
                    let problem = Problem::new(pointer, format!("is a retired setting and cannot be {value}"));
                    self.problems.push(problem.with_hint(*advice));
                }
                return false;
            }
            Standing::Refused { advice } => {
                self.problems.push(Problem::new(pointer, "must not stand in this file").about_key().with_hint(*advice));
                return false;
            }
        }
        true
    }
}

fn merge(values: &mut Map<String, Value>, name: &str, value: Value) {
    match (values.get_mut(name), value) {
        (Some(Value::Object(present)), Value::Object(added)) => {
            for (name, value) in added {
                merge(present, &name, value);
            }
        }
        (_, value) => {
            values.insert(name.to_owned(), value);
        }
    }
}
