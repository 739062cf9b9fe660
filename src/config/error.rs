//! Why a configuration cannot be used.

use std::fmt;

use tc_payload::Problem;

/// Exit code: the file cannot be read, parsed, or understood.
pub const CANNOT_LOAD: u8 = 64;
/// Exit code: the file was understood, but its values cannot work.
pub const INVALID: u8 = 73;

/// Everything that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// [`CANNOT_LOAD`] if any problem is of that kind, else [`INVALID`].
    pub exit_code: u8,
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
