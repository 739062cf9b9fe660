//! The wording of the task log where programs read it. Pure: no clock, no file.
//!
//! Treeherder, the web interface and other tools parse these lines, so prefixes, labels and number forms are literal, and the
//! forms of numbers are those of Go, in which the reference worker is written.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tc_engine::{CommandEnd, Exit};

/// How serious a line of the worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What happened.
    Info,
    /// What somebody may want to change.
    Warn,
    /// What made the task fail. Treeherder marks these lines, so nothing else may use this level.
    Error,
}

/// `message` as lines of the log. Each line of it gets the prefix; a message that ends with a newline thus gets an empty last line.
/// Other control characters than newlines and tabs are shown, so that no terminal obeys what somebody else has put into a message.
pub fn lines(level: Level, at: Timestamp, message: &str) -> String {
    let prefix = match level {
        Level::Info => format!("[taskcluster {}] ", date(at)),
        Level::Warn => format!("[taskcluster:warn {}] ", date(at)),
        Level::Error => "[taskcluster:error] ".to_owned(),
    };
    let mut text = String::with_capacity(prefix.len() + message.len() + 1);
    for line in message.split('\n') {
        text.push_str(&prefix);
        text.push_str(&shown(line, |c| c.is_control() && c != '\t'));
        text.push('\n');
    }
    text
}

/// What others have written (names, paths, messages of services and engines) as a part of one line: with control characters shown, so
/// that it cannot begin a line that looks like one of ours.
pub fn one_line(foreign: &str) -> Cow<'_, str> {
    shown(foreign, char::is_control)
}

/// A text with these characters as escapes.
pub fn shown(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// UTC with exactly three digits of milliseconds, `2026-01-31T12:00:00.000Z`.
pub fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A duration as Go prints it: `0s`, `1ns`, `1.5µs`, `12.3ms`, `3s`, `1m3.345678s`, `5h0m0s`.
pub fn go_duration(duration: Duration) -> String {
    const MICRO: u128 = 1_000;
    const MILLI: u128 = 1_000_000;
    const SECOND: u128 = 1_000_000_000;
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..MICRO => format!("{nanos}ns"),
        MICRO..MILLI => format!("{}µs", decimal(nanos, MICRO)),
        MILLI..SECOND => format!("{}ms", decimal(nanos, MILLI)),
        _ => {
            let (hours, rest) = (nanos / (3600 * SECOND), nanos % (3600 * SECOND));
            let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
            let seconds = decimal(rest, SECOND);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `value / unit` with as many decimals as it takes to be exact, for a `unit` that is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{fraction:0digits$}").trim_end_matches('0').to_owned()
}

/// A size of memory: `10.00 GiB`, and `512.000000 B` below one KiB.
#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
pub fn memory_size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        0..KIB => format!("{bytes}.000000 B"),
        KIB..MIB => format!("{:.2} KiB", bytes as f64 / KIB as f64),
        MIB..GIB => format!("{:.2} MiB", bytes as f64 / MIB as f64),
        _ => format!("{:.2} GiB", bytes as f64 / GIB as f64),
    }
}

/// An argument vector as words of a shell, in the spelling of the reference: what lies between single quotes is quoted only if
/// some character of the token asks for it, and a single quote is always `\'`.
pub fn escape_argv<S: AsRef<str>>(argv: &[S]) -> String {
    argv.iter().map(|token| escape(token.as_ref())).collect::<Vec<_>>().join(" ")
}

fn escape(token: &str) -> String {
    if token.is_empty() {
        return "''".to_owned();
    }
    let plain = token.chars().all(|c| c.is_ascii_alphanumeric() || "_/:=-'".contains(c));
    let quote = |part: &str| if plain || part.is_empty() { part.to_owned() } else { format!("'{part}'") };
    token.split('\'').map(quote).collect::<Vec<_>>().join("\\'")
}

/// The messages at the head of every log, each for [`Level::Info`].
pub fn header(task_queue_id: &str, metadata: &Value, task_id: &str) -> [String; 4] {
    let settings = serde_json::to_string_pretty(&sorted(metadata)).unwrap_or_else(|_| metadata.to_string());
    let shifted = settings.split('\n').map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    [
        format!("Worker Type ({task_queue_id}) settings:"),
        shifted,
        format!("Task ID: {task_id}"),
        "=== Task Starting ===".to_owned(),
    ]
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The message that announces a command. `index` counts from 0.
pub fn executing<S: AsRef<str>>(index: usize, argv: &[S]) -> String {
    format!("Executing command {index}: {}", escape_argv(argv))
}

/// The machine's memory while a command ran, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// Mean of what was available.
    pub average_available: u64,
    /// Mean of what was in use.
    pub average_used: u64,
    /// Most that was in use.
    pub peak_used: u64,
    /// All there is.
    pub total: u64,
}

/// The message after a command that ended by itself or could not be started.
pub fn result_block(end: &CommandEnd, memory: Option<&MemoryUse>) -> String {
    let code = match &end.exit {
        Exit::NotStarted(why) => return format!("System error executing command: {why}"),
        Exit::Code(code) => *code,
        Exit::Signal(_) => -1,
    };
    let mut text = String::new();
    row(&mut text, "Exit Code", &code.to_string());
    row(&mut text, "User Time", &go_duration(end.user));
    row(&mut text, "Kernel Time", &go_duration(end.kernel));
    row(&mut text, "Wall Time", &go_duration(end.wall));
    memory_rows(&mut text, memory);
    row(&mut text, "Result", if end.exit.is_success() { "SUCCEEDED" } else { "FAILED" });
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// The message after a command that the worker ended. Its last line is empty, as readers know it.
pub fn aborted(after: Duration, memory: Option<&MemoryUse>) -> String {
    let mut text = format!("Command ABORTED after {}: process aborted\n", go_duration(after));
    memory_rows(&mut text, memory);
    text
}

fn memory_rows(text: &mut String, memory: Option<&MemoryUse>) {
    let Some(memory) = memory else { return };
    row(text, "Average Available System Memory", &memory_size(memory.average_available));
    row(text, "Average System Memory Used", &memory_size(memory.average_used));
    row(text, "Peak System Memory Used", &memory_size(memory.peak_used));
    row(text, "Total System Memory", &memory_size(memory.total));
}

fn row(text: &mut String, label: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{label:>32}: {value}");
}

/// The two messages after the last command. `took` covers the commands only.
pub fn finished(took: Duration) -> [String; 2] {
    ["=== Task Finished ===".to_owned(), format!("Task Duration: {}", go_duration(took))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-01-31T12:00:00.007891Z".parse().expect("a date")
    }

    #[test]
    fn every_line_of_a_message_gets_the_prefix() {
        assert_eq!(lines(Level::Info, at(), "a"), "[taskcluster 2026-01-31T12:00:00.007Z] a\n");
        assert_eq!(
            lines(Level::Warn, at(), "a\n b"),
            "[taskcluster:warn 2026-01-31T12:00:00.007Z] a\n[taskcluster:warn 2026-01-31T12:00:00.007Z]  b\n"
        );
        assert_eq!(lines(Level::Error, at(), "a\n"), "[taskcluster:error] a\n[taskcluster:error] \n");
        let whole: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a date");
        assert_eq!(date(whole), "2026-01-31T12:00:00.000Z");
    }

    #[test]
    fn no_foreign_text_begins_a_line_or_speaks_to_a_terminal() {
        assert_eq!(lines(Level::Error, at(), "a\u{1b}[2J\tb\r"), "[taskcluster:error] a\\u{1b}[2J\tb\\r\n");
        assert_eq!(one_line("a\n[taskcluster:error] b\u{85}\t"), "a\\n[taskcluster:error] b\\u{85}\\t");
        assert!(matches!(one_line("public/ü \u{2603}"), Cow::Borrowed(_)));
    }

    #[test]
    fn durations_are_those_of_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (1_100, "1.1µs"),
            (999_999, "999.999µs"),
            (2_200_000, "2.2ms"),
            (12_300_000, "12.3ms"),
            (1_000_000_000, "1s"),
            (3_300_000_000, "3.3s"),
            (63_345_678_000, "1m3.345678s"),
            (245_000_000_000, "4m5s"),
            (18_000_000_000_000, "5h0m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(go_duration(Duration::from_secs(720 * 3600)), "720h0m0s");
    }

    #[test]
    fn memory_sizes_have_two_decimals_from_a_kib_on() {
        assert_eq!(memory_size(512), "512.000000 B");
        assert_eq!(memory_size(1024), "1.00 KiB");
        assert_eq!(memory_size(500 << 20), "500.00 MiB");
        assert_eq!(memory_size((15 << 30) + (624 << 20)), "15.61 GiB");
    }

    #[test]
    fn tokens_are_escaped_as_the_reference_does() {
        for (token, text) in [
            ("", "''"),
            ("--hello=world", "--hello=world"),
            ("a/b:c_d", "a/b:c_d"),
            ("hello!", "'hello!'"),
            ("how are $USER", "'how are $USER'"),
            ("'single'", r"\'single\'"),
            ("'''", r"\'\'\'"),
            ("'>''", r"\''>'\'\'"),
            ("a'b c", r"'a'\''b c'"),
            ("x y''z", r"'x y'\'\''z'"),
            ("file.txt", "'file.txt'"),
            ("ü", "'ü'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(escape(token), text, "{token}");
        }
        assert_eq!(executing(0, &["bash", "-c", "echo hi"]), "Executing command 0: bash -c 'echo hi'");
    }

    #[test]
    fn the_header_sorts_and_shifts_the_metadata() {
        let metadata = serde_json::json!({ "z": { "b": 1, "a": [] }, "generic-worker": { "version": "1" } });
        let [title, settings, id, start] = header("proj/pool", &metadata, "abc");
        assert_eq!(title, "Worker Type (proj/pool) settings:");
        assert_eq!(
            settings,
            "  {\n    \"generic-worker\": {\n      \"version\": \"1\"\n    },\n    \"z\": {\n      \"a\": [],\n      \"b\": 1\n    }\n  }"
        );
        assert_eq!(id, "Task ID: abc");
        assert_eq!(start, "=== Task Starting ===");
    }

    #[test]
    fn labels_end_at_column_32() {
        let end = |exit| CommandEnd {
            exit,
            user: Duration::from_micros(1234),
            kernel: Duration::from_micros(2345),
            wall: Duration::from_micros(12300),
            out_of_memory: false,
        };
        let memory = MemoryUse { average_available: 10 << 30, average_used: 5 << 30, peak_used: 6 << 30, total: 16 << 30 };
        assert_eq!(
            result_block(&end(Exit::Code(0)), Some(&memory)),
            concat!(
                "                       Exit Code: 0\n",
                "                       User Time: 1.234ms\n",
                "                     Kernel Time: 2.345ms\n",
                "                       Wall Time: 12.3ms\n",
                " Average Available System Memory: 10.00 GiB\n",
                "      Average System Memory Used: 5.00 GiB\n",
                "         Peak System Memory Used: 6.00 GiB\n",
                "             Total System Memory: 16.00 GiB\n",
                "                          Result: SUCCEEDED"
            )
        );
        let killed = result_block(&end(Exit::Signal(9)), None);
        assert!(killed.starts_with("                       Exit Code: -1\n"), "{killed}");
        assert!(killed.ends_with("\n                          Result: FAILED"), "{killed}");
        assert_eq!(
            result_block(&end(Exit::NotStarted("exec: \"x\": executable file not found in $PATH".into())), None),
            "System error executing command: exec: \"x\": executable file not found in $PATH"
        );
        assert_eq!(aborted(Duration::from_secs(3), None), "Command ABORTED after 3s: process aborted\n");
        assert_eq!(finished(Duration::from_secs(3))[1], "Task Duration: 3s");
    }
}
