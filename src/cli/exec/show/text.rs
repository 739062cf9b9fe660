//! Logs as they come: byte for byte if there is one task, else each line behind the name of its task.

use super::Show;
use crate::cli::{
    exec::{
        board::Card,
        colour,
        follow::{Format, Painter},
        output::Piece,
    },
    problems::say,
};

/// The logs themselves.
pub struct Text {
    several: bool,
    colours: bool,
}

impl Text {
    /// For one task or for several.
    pub fn new(several: bool, colours: bool) -> Self {
        Self { several, colours }
    }
}

impl Show for Text {
    fn started(&mut self, card: &Card, at: usize, run_id: u32, _out: &mut Vec<Piece>) -> Box<dyn Format> {
        let again = if run_id == 0 { String::new() } else { format!(", run {run_id}") };
        say(&format!("{}: task {}{again}", card.name, card.id));
        let prefix = if self.several {
            let colour = colour::LABELS[at % colour::LABELS.len()];
            colour::paint(self.colours, colour, &format!("{} | ", card.name))
        } else {
            String::new()
        };
        Box::new(Painter::new(prefix, self.colours))
    }
}
