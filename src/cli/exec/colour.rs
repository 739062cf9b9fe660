//! Colours: on a terminal only, and never when `NO_COLOR` is set.

use std::io::IsTerminal;

/// Ends every colour.
pub const RESET: &str = "\x1b[0m";
/// Something went well.
pub const GREEN: &str = "\x1b[32m";
/// Something failed.
pub const RED: &str = "\x1b[31m";
/// Something to look at.
pub const YELLOW: &str = "\x1b[33m";
/// What the worker adds to the task's own words.
pub const DIM: &str = "\x1b[2m";
/// Prefixes of tasks, in turn.
pub const LABELS: [&str; 5] = ["\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[33m", "\x1b[32m"];

/// Whether to write colours to this stream.
pub fn wanted(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    decide(stream.is_terminal(), set("NO_COLOR"), std::env::var("TERM").ok().as_deref())
}

fn decide(terminal: bool, no_color: bool, term: Option<&str>) -> bool {
    terminal && !no_color && term != Some("dumb")
}

/// The text in a colour, if colours are wanted.
pub fn paint(wanted: bool, colour: &str, text: &str) -> String {
    if wanted { format!("{colour}{text}{RESET}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_and_no_objection() {
        assert!(decide(true, false, Some("xterm")));
        assert!(decide(true, false, None));
        assert!(!decide(false, false, Some("xterm")));
        assert!(!decide(true, true, Some("xterm")));
        assert!(!decide(true, false, Some("dumb")));
        assert_eq!(paint(true, RED, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(paint(false, RED, "x"), "x");
    }
}
