//! What people and programs see of a session while it runs. Everything here turns news into pieces of output; none of it knows
//! where they go, or how a session works.

pub mod json;
mod table;
mod text;

pub use json::Json;
pub use table::Table;
pub use text::Text;

use super::{
    artifacts::Saved,
    board::{Board, Card},
    follow::Format,
    output::Piece,
    summary::Row,
};
use crate::cli::problems::say;

/// One way to show a session.
pub trait Show: Send {
    /// The queue has a task.
    fn created(&mut self, _board: &Board, _at: usize, _out: &mut Vec<Piece>) {}
    /// A run has begun. Returns what becomes of its log.
    fn started(&mut self, card: &Card, at: usize, run_id: u32, out: &mut Vec<Piece>) -> Box<dyn Format>;
    /// A run has ended, whatever becomes of its task.
    fn run_ended(&mut self, _at: usize) {}
    /// A task is over: its log was read to the end, its artifacts are saved.
    fn over(&mut self, _card: &Card, _at: usize, _row: &Row, _saved: &Saved, _out: &mut Vec<Piece>) {}
    /// Something for people beside that.
    fn say(&mut self, text: &str, _out: &mut Vec<Piece>) {
        say(text);
    }
    /// Some time has passed.
    fn tick(&mut self, _board: &Board, _out: &mut Vec<Piece>) {}
    /// Nothing follows.
    fn end(&mut self, _out: &mut Vec<Piece>) {}
}
