//! JSON lines: one object on a line for each thing that happens, and nothing else. The README has the table of its fields, and
//! they stay as they are: fields may be added, none is taken away or means something else.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Show;
use crate::{
    cli::exec::{
        artifacts::Saved,
        board::{Board, Card},
        follow::{Format, LONGEST_LINE, whole},
        output::Piece,
        summary::{Outcome, Row},
    },
    log::format::date,
};

/// What happens, as JSON.
#[derive(Default)]
pub struct Json;

fn put(out: &mut Vec<Piece>, event: &Value) {
    out.push(Piece::Bytes(format!("{event}\n").into_bytes()));
}

fn now() -> String {
    date(Timestamp::now())
}

impl Show for Json {
    fn created(&mut self, board: &Board, at: usize, out: &mut Vec<Piece>) {
        let card = &board.cards()[at];
        let waits_for: Vec<&str> = card.waits_for.iter().map(|on| board.cards()[*on].id.as_str()).collect();
        put(
            out,
            &json!({ "event": "created", "time": now(), "label": card.name, "taskId": card.id, "dependencies": waits_for }),
        );
    }

    fn started(&mut self, card: &Card, _at: usize, run_id: u32, _out: &mut Vec<Piece>) -> Box<dyn Format> {
        let begun = json!({ "event": "started", "time": now(), "label": card.name, "taskId": card.id, "runId": run_id });
        let line = json!({ "event": "line", "label": card.name, "taskId": card.id, "runId": run_id });
        // The log brings it along, so that no line of the log can come before it.
        Box::new(Lines { begun: Some(begun), line: line.as_object().cloned().unwrap_or_default(), held: Vec::new() })
    }

    fn over(&mut self, card: &Card, _at: usize, row: &Row, saved: &Saved, out: &mut Vec<Piece>) {
        for file in &saved.files {
            put(
                out,
                &json!({
                    "event": "artifact", "label": card.name, "taskId": card.id, "name": file.name, "path": file.path,
                    "contentType": file.content_type, "bytes": file.bytes,
                }),
            );
        }
        let mut event = ended(row);
        event["taskId"] = json!(card.id);
        event["runs"] = json!(card.runs);
        put(out, &event);
    }
}

/// The end of a task.
pub fn ended(row: &Row) -> Value {
    let mut event = json!({ "event": "ended", "time": now(), "label": row.name, "outcome": word(&row.outcome) });
    if let Outcome::Exception(reason) = &row.outcome {
        event["reason"] = json!(reason);
    }
    if let Some(why) = &row.why {
        event["why"] = json!(why);
    }
    if let Some(took) = row.took {
        event["seconds"] = json!((took.as_secs_f64() * 1000.0).round() / 1000.0);
    }
    event
}

/// The end of everything.
pub fn finished(rows: &[Row], exit_code: u8) -> Value {
    let mut counts: Map<String, Value> = Map::new();
    for row in rows {
        let count = counts.entry(word(&row.outcome)).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
    }
    json!({ "event": "finished", "time": now(), "tasks": rows.len(), "counts": counts, "exitCode": exit_code })
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "failed",
        Outcome::Exception(_) => "exception",
        Outcome::Invalid => "invalid",
        Outcome::Stopped => "stopped",
        Outcome::NotRun => "not-run",
    }
}

/// The lines of a log.
struct Lines {
    begun: Option<Value>,
    line: Map<String, Value>,
    held: Vec<u8>,
}

impl Lines {
    fn put(&mut self, cut: bool, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        let mut event = self.line.clone();
        event.insert("line".to_owned(), Value::String(text));
        if cut {
            event.insert("cut".to_owned(), Value::Bool(true));
        }
        out.extend_from_slice(format!("{}\n", Value::Object(event)).as_bytes());
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(begun) = self.begun.take() {
            out.extend_from_slice(format!("{begun}\n").as_bytes());
        }
    }
}

impl Format for Lines {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let (mut rest, has_end) = (text, piece.len() > text.len());
            while self.held.len() + rest.len() > LONGEST_LINE {
                let (now, later) = rest.split_at(LONGEST_LINE - self.held.len());
                self.held.extend_from_slice(now);
                let begun = self.held.split_off(whole(&self.held));
                self.put(true, out);
                (self.held, rest) = (begun, later);
            }
            self.held.extend_from_slice(rest);
            if has_end {
                self.put(false, out);
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if !self.held.is_empty() {
            self.put(false, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut lines = Lines { begun: Some(json!({ "event": "started" })), line: Map::new(), held: Vec::new() };
        let mut out = Vec::new();
        for piece in pieces {
            lines.feed(piece, &mut out);
        }
        lines.end(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        assert_eq!(events.next().expect("one")["event"], "started");
        events.map(|event| (event["line"].as_str().expect("a text").to_owned(), event["cut"] == true)).collect()
    }

    #[test]
    fn each_line_is_one_object() {
        let line = |text: &str| (text.to_owned(), false);
        assert_eq!(lines(&[b"a\nb", b"c\n\n\xff\x1b\"", b"d"]), [line("a"), line("bc"), line(""), line("\u{fffd}\u{1b}\"d")]);
        assert_eq!(lines(&[]), []);
        let long = vec![b'x'; LONGEST_LINE + 1];
        let parts = lines(&[&long, b"y\nz\n"]);
        assert_eq!(
            parts.iter().map(|(text, cut)| (text.len(), *cut)).collect::<Vec<_>>(),
            [(LONGEST_LINE, true), (2, false), (1, false)]
        );
        let parts = lines(&[&long[..300], "é".as_bytes(), &long]);
        let lengths: Vec<usize> = parts.iter().map(|(text, _)| text.len()).collect();
        assert_eq!(lengths, [LONGEST_LINE, 303], "as much as fits, whatever came before");
        let parts = lines(&[&long[2..], "é".as_bytes()]);
        assert_eq!(parts.iter().map(|(text, _)| text.len()).collect::<Vec<_>>(), [LONGEST_LINE - 1, 2]);
    }

    #[test]
    fn the_end_counts_outcomes() {
        let row = |outcome| Row { name: "n".to_owned(), outcome, why: None, took: None, artifacts: None };
        let rows = [row(Outcome::Completed), row(Outcome::Completed), row(Outcome::Exception("canceled".to_owned()))];
        let event = finished(&rows, 3);
        assert_eq!((&event["tasks"], &event["exitCode"]), (&json!(3), &json!(3)));
        assert_eq!(event["counts"], json!({ "completed": 2, "exception": 1 }));
        assert_eq!(ended(&rows[2])["reason"], "canceled");
    }
}
