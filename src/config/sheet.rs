//! A configuration that is only looked at: nothing of this machine is asked, and nobody is going to run with it.

use std::path::Path;

use tc_payload::{Document, Problem, apply_places};

use super::{CANNOT_LOAD, Config, ConfigError, keys::KEYS, reader, rules};

/// What there is to say about a configuration that would be accepted.
#[derive(Debug)]
pub struct Sheet {
    /// What the file amounts to. Relative paths are taken from the root, since whose they are is not known.
    pub config: Config,
    /// Settings that have no effect because they are retired.
    pub retired: Vec<Problem>,
    /// Settings that have no effect because this worker does not have the part yet.
    pub later: Vec<Problem>,
    /// Settings that are allowed and have consequences.
    pub consequences: Vec<Problem>,
}

/// Reads the text of a configuration. Problems have places.
pub fn sheet(name: &str, bytes: &[u8]) -> Result<Sheet, ConfigError> {
    let document =
        reader::parse(name, bytes).map_err(|problem| ConfigError { exit_code: CANNOT_LOAD, problems: vec![problem] })?;
    let judged = reader::judge(&document, Path::new("/"))?;
    let (mut retired, mut later) = (Vec::new(), Vec::new());
    for note in judged.notes {
        match note {
            reader::Note::Retired { pointer, .. } => {
                retired.push(Problem::new(pointer, "is a retired setting and can be removed").about_key());
            }
            reader::Note::Later { pointer, .. } => {
                later.push(Problem::new(pointer, "has no effect, since this worker does not have the part yet"));
            }
        }
    }
    let mut consequences: Vec<Problem> =
        rules::shared(&judged.config).map(|sentence| Problem::new(capacity(&document), sentence)).into_iter().collect();
    for problems in [&mut retired, &mut later, &mut consequences] {
        apply_places(problems, &document, "");
    }
    Ok(Sheet { config: judged.config, retired, later, consequences })
}

/// Whether a key is one of a configuration, in any spelling.
pub fn is_setting(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.eq_ignore_ascii_case(name))
}

/// Where the file sets the capacity.
fn capacity(document: &Document) -> String {
    let keys = document.value().as_object().into_iter().flat_map(|object| object.keys());
    keys.filter(|key| key.eq_ignore_ascii_case("capacity")).map(|key| format!("/{key}")).next().unwrap_or_default()
}
