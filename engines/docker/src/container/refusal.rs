//! A container that the engine would not make or start, as authors know it from Docker's command line: a sentence in the
//! log, and one of three exit codes.

/// What authors see in front of an engine's sentence; parsers of logs know it.
const PREFIX: &str = "docker: Error response from daemon: ";

/// A container that never ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// 125, 126 or 127.
    pub(crate) code: i32,
    /// The line for the log.
    pub(crate) line: String,
}

impl Refusal {
    /// What Docker's command line makes of the engine's sentence.
    pub(crate) fn new(message: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        let code = if says(&["executable file not found", "no such file or directory"]) {
            127
        } else if says(&["permission denied", "is a directory"]) {
            126
        } else {
            125
        };
        Self { code, line: format!("{PREFIX}{}\n", message.trim_end()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_command_line() {
        let code = |message| Refusal::new(message).code;
        assert_eq!(code("… exec: \"nope\": executable file not found in $PATH: unknown"), 127);
        assert_eq!(code("… exec: \"/nope\": stat /nope: no such file or directory: unknown"), 127);
        assert_eq!(code("… exec: \"/etc/passwd\": permission denied: unknown"), 126);
        assert_eq!(code("… exec: \"/\": is a directory: unknown"), 126);
        assert_eq!(code("invalid mount config for type \"bind\": bind source path does not exist: /x"), 125);
        assert_eq!(Refusal::new("no\n").line, "docker: Error response from daemon: no\n");
    }
}
