//! What a live table shows: pure, from the state of tasks to lines that fit.

use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthChar as _;

use super::colour::{DIM, RED, RESET};

/// Widest column of names.
const NAMES: usize = 32;
/// The least that is left for the last line of a log; below that there is none.
const LEAST: usize = 8;

/// A run as the table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The task's name.
    pub name: String,
    /// When it began.
    pub since: Instant,
    /// The last line of its log, already [`plain`].
    pub last: String,
}

/// Everything that the table shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What runs, the oldest first.
    pub running: Vec<Running>,
    /// How many tasks there are.
    pub tasks: usize,
    /// How many have completed.
    pub completed: usize,
    /// How many are over in any other way.
    pub other: usize,
    /// When the session began.
    pub since: Instant,
}

/// The lines for a terminal of this many columns and rows. None is wider, and one row is left free.
pub fn lines(picture: &Picture, (columns, rows): (usize, usize), colours: bool, now: Instant) -> Vec<String> {
    // The last column is left free, too: some terminals wrap when it is written.
    let columns = columns.saturating_sub(1);
    let room = rows.saturating_sub(2);
    let paint = |colour: &str, text: String| if colours && !text.is_empty() { format!("{colour}{text}{RESET}") } else { text };
    let names = picture.running.iter().map(|running| width(&running.name)).max().unwrap_or(0).min(NAMES);
    let mut lines = Vec::new();
    let shown = if picture.running.len() > room { room.saturating_sub(1) } else { picture.running.len() };
    for running in &picture.running[..shown] {
        let name = padded(&fit(&running.name, names), names);
        let begin = fit(&format!("{:>6}  {name}", time(now.saturating_duration_since(running.since))), columns);
        let left = columns.saturating_sub(width(&begin) + 2);
        let last = if left >= LEAST { fit(&running.last, left) } else { String::new() };
        lines.push(if last.is_empty() { begin.trim_end().to_owned() } else { format!("{begin}  {}", paint(DIM, last)) });
    }
    if shown < picture.running.len() && room > 0 {
        lines.push(fit(&format!("        and {} more", picture.running.len() - shown), columns));
    }
    let Picture { tasks, completed, other, .. } = picture;
    let running = picture.running.len();
    let waiting = tasks.saturating_sub(completed + other + running);
    let total = time(now.saturating_duration_since(picture.since));
    let head = format!("{total:>6}  {tasks} task{}: {completed} completed", if *tasks == 1 { "" } else { "s" });
    let failed = if *other > 0 { format!("{other} not completed") } else { String::new() };
    let between = if failed.is_empty() { "" } else { ", " };
    let rest = format!(", {running} running, {waiting} waiting");
    let whole = format!("{head}{between}{failed}{rest}");
    let painted = format!("{head}{between}{}{rest}", paint(RED, failed));
    lines.push(if width(&whole) > columns { fit(&whole, columns) } else { painted });
    lines
}

/// `0:07`, `12:34`, `1:02:03`.
fn time(span: Duration) -> String {
    let secs = span.as_secs();
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

/// How many columns a text takes. Colours take none.
pub fn width(text: &str) -> usize {
    if text.contains('\x1b') { columns(&plain(text)) } else { columns(text) }
}

fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of a text as fits, with a mark where it was cut.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut fitted, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        fitted.push(c);
    }
    if columns > 0 {
        fitted.push('…');
    }
    fitted
}

fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// A line of a log without what a terminal would obey: escape sequences, control characters, characters that turn the direction.
/// Of a line that was written over itself, as progress bars do, the last version counts.
pub fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                // A control sequence ends with a letter or one of a few signs.
                Some('[') => while rest.next().is_some_and(|c| !matches!(c, '\x40'..='\x7e')) {},
                // A text for the terminal itself ends with a bell or with ESC \.
                Some(']' | 'P' | '^' | '_') => {
                    while let Some(c) = rest.next() {
                        if c == '\x07' || (c == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                // Choice of a character set: one more.
                Some('(' | ')' | '#' | ' ') => drop(rest.next()),
                _ => {}
            },
            '\r' if rest.peek().is_some() => text.clear(),
            '\t' => text.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(names: &[(&str, &str)], now: Instant) -> Picture {
        let running = |(name, last): &(&str, &str)| Running { name: (*name).to_owned(), since: now, last: (*last).to_owned() };
        Picture { running: names.iter().map(running).collect(), tasks: 9, completed: 2, other: 1, since: now }
    }

    #[test]
    fn running_tasks_and_counts_are_shown() {
        let now = Instant::now();
        let picture = picture(&[("build", "compiling"), ("test-a", "")], now);
        assert_eq!(
            lines(&picture, (80, 24), false, now + Duration::from_secs(75)),
            [
                "  1:15  build   compiling",
                "  1:15  test-a",
                "  1:15  9 tasks: 2 completed, 1 not completed, 2 running, 4 waiting"
            ]
        );
        assert!(lines(&picture, (80, 24), true, now)[0].ends_with("\x1b[2mcompiling\x1b[0m"));
        let one = Picture { running: Vec::new(), tasks: 1, completed: 1, other: 0, since: now };
        assert_eq!(lines(&one, (80, 24), false, now), ["  0:00  1 task: 1 completed, 0 running, 0 waiting"]);
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        let now = Instant::now();
        let wide = "日本語の長い行".repeat(40);
        let names: Vec<(&str, &str)> =
            (0..50).map(|_| ("a-very-long-label-of-a-task-that-nobody-reads/日本", wide.as_str())).collect();
        for columns in 0..120 {
            for rows in [0, 1, 2, 3, 10, 60] {
                let lines = lines(&picture(&names, now), (columns, rows), columns % 2 == 0, now);
                assert!(lines.iter().all(|line| width(line) < columns.max(1)), "{columns}: {lines:?}");
                assert!(lines.len() < rows.max(2), "{rows}: {}", lines.len());
            }
        }
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…", "half a character does not fit");
    }

    #[test]
    fn a_log_cannot_steer_the_terminal() {
        for (line, expected) in [
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("a\x1b[2J\x1b[1;1Hb", "ab"),
            ("10 %\r 20 %\r 30 %", " 30 %"),
            ("done\r", "done"),
            ("a\tb\u{9b}31mc\u{202e}d\u{0}", "a b31mcd"),
            ("\x1b", ""),
            ("\x1b[12", ""),
            ("\x1b]0;never ends", ""),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }
}
